"""What the receptions of one office go by: a value, replaced whole by a reload."""

from attrs import evolve, field, frozen

from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile
from mailserver.access.rates import RateRules
from mailserver.smtp.message import Limits

__all__ = ["Rules"]


@frozen
class Rules:
    """What a reload replaces.

    :ivar networks: the profiles of the networks that are no strangers.
    :ivar unknown: how many recipients that do not exist a stranger may name in a session; 0: any number.
    :ivar greeting_delay: how many seconds a stranger waits for the greeting.
    :ivar reserve: octets of the disk that no message is let in to fill.
    :ivar hide_client: Received says nothing of where a logged-in user is.
    """

    networks: Networks[Profile]
    limits: Limits
    rates: RateRules = field(factory=RateRules)
    unknown: int = 10
    greeting_delay: float = 0.0
    reserve: int = 0
    hide_client: bool = False

    def limits_for(self, profile: Profile | None) -> Limits:
        """What one message may be that comes from this network."""
        if profile is None or not (profile.message_size or profile.most_recipients):
            return self.limits
        return evolve(
            self.limits,
            message_size=profile.message_size or self.limits.message_size,
            recipients=profile.most_recipients or self.limits.recipients,
            source=profile.source,
        )

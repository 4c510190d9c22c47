"""Where a recipient's mail goes from here: to a mailbox, a program, an alias's targets, or another host.

Mail for a mailbox goes elsewhere where a ``[[route]]`` is named for its domain and matches.

A pure function of the directory as it is now, asked anew for each attempt: an account that was removed
while its mail waited fails, an alias that was made meanwhile is followed. The answer names the file and the
line it comes from (law 9).
"""

from collections.abc import Callable

from attrs import frozen

from mailserver.interfaces import Account, Forward, IDirectory, Nobody
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.source import BUILT_IN, Source

__all__ = ["Forwarding", "Local", "Nowhere", "Programs", "Remote", "Route", "route"]

LedAway = Callable[[Recipient, Envelope], bool]
"""Whether a route leads mail away though its domain is hosted here."""


@frozen
class Local:
    """To a mailbox here."""

    account: Account

    @property
    def source(self) -> Source:
        """Where the account is declared."""
        return self.account.source


@frozen
class Programs:
    """To the programs of an alias, whose other targets have copies of their own."""

    commands: tuple[str, ...]
    source: Source


@frozen
class Forwarding:
    """To the targets of an alias, as a new message: it was not expanded when the message came."""

    source: Source


@frozen
class Remote:
    """To the hosts that take mail for a domain that is not hosted here, or to those that relay for us."""

    domain: str
    source: Source = BUILT_IN


@frozen
class Nowhere:
    """The domain is hosted here and has no such recipient."""

    source: Source


Route = Local | Programs | Forwarding | Remote | Nowhere


def _stays(recipient: Recipient, envelope: Envelope) -> bool:
    return False


def route(
    recipient: Recipient, envelope: Envelope, directory: IDirectory, led_away: LedAway = _stays
) -> Route:
    """Where this recipient's copy of the message goes.

    :param envelope: of the message: it shows whether an alias has been expanded already.
    """
    standing = directory.find(recipient.address)
    match standing:
        case Account(routed=True, disabled=False) if led_away(recipient, envelope):
            return Remote(recipient.address.domain)
        case Account():
            return Local(standing)
        case Forward():
            return _alias(standing, envelope)
        case Nobody():
            return Nowhere(standing.source)
    return Remote(recipient.address.domain)


def _alias(alias: Forward, envelope: Envelope) -> Route:
    """An alias with commands stands for itself in an expanded envelope, beside its targets."""
    queued = {recipient.address.key for recipient in envelope.recipients}
    expanded = not alias.targets or any(target.key in queued for target in alias.targets)
    if alias.commands and expanded:
        return Programs(alias.commands, alias.source)
    return Forwarding(alias.source)

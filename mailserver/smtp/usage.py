"""What is counted of the mail that comes in, and what follows from it: rates, new recipients, devices.

Mail is counted recipient by recipient, before it is taken: a client learns at RCPT that it has to wait. What
is over a rate that says ``hold`` is taken all the same, and ``Envelope.marks["hold"]`` says why it is to be
held in the queue.

A store of acquaintances that fails holds nobody's mail: it is journal trouble. About whom the admin has been
told, several processes remember together (IShared).
"""

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from mailserver import journal
from mailserver.access.profiles import Profile
from mailserver.access.rates import Excess, RateRules, Rates, allowances
from mailserver.interfaces import IShared, Verdict
from mailserver.model.address import Address
from mailserver.model.envelope import Origin

__all__ = ["Devices", "Meet", "Usage"]

Meet = Callable[[str, str, int, float], Awaitable[bool]]
"""Whether a user may write to a recipient: :meth:`mailserver.access.acquaintances.Acquaintances.meet`."""

_DAY = 86400.0
_REMEMBERED = 1000


class Devices(Protocol):
    """Who is told of clients of listed networks: :class:`mailserver.access.devices.Devices`."""

    def sent(self, origin: Origin, profile: Profile, recipients: int) -> None:
        """A message came from one."""

    def refused(self, origin: Origin, profile: Profile, error: str) -> None:
        """One was told that it may not."""


@implementer(IShared)
class Usage:
    """The counts of all sessions.

    :param meet: ``None``: anybody is known to everybody.
    :param devices: ``None``: nobody asks.
    :param alarm: told the origin and the reason when mail begins to be held.
    :param now: seconds since 1970.
    """

    def __init__(
        self,
        rates: Rates,
        meet: Meet | None = None,
        devices: Devices | None = None,
        alarm: Callable[[Origin, Verdict], None] = lambda origin, verdict: None,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.tell: Callable[[Any], None] = lambda news: None
        self._rates = rates
        self._meet = meet
        self._devices = devices
        self._alarm = alarm
        self._now = now
        self._told: OrderedDict[str, float] = OrderedDict()  # users, and when an alarm was raised about them

    def count(self, rules: RateRules, profile: Profile | None, origin: Origin, first: bool) -> Excess | None:
        """Count a recipient, the first of its message or not, or say which rate is over."""
        asked = allowances(rules, profile, origin)
        return self._rates.take(asked, int(first), 1) if asked else None

    def sound_alarm(self, origin: Origin, verdict: Verdict) -> None:
        """Mail begins to be held."""
        self._alarm(origin, verdict)

    def knows(self, rules: RateRules) -> bool:
        """Whether :meth:`acquaint` has anything to say."""
        return self._meet is not None and bool(rules.first_time)

    async def acquaint(self, rules: RateRules, origin: Origin, recipient: Address) -> Verdict:
        """Whether a user may write to this recipient, who may be a new one."""
        fine = Verdict(True, "")
        if self._meet is None:
            return fine
        try:
            met = await self._meet(origin.login, recipient.key, rules.first_time, self._now())
        except CancelledError:
            raise
        except Exception as error:
            journal.trouble("acquaintances", error)
            return fine
        if met:
            return fine
        reason = f"{origin.login}: over {rules.first_time} first-time recipients a day"
        verdict = Verdict(False, reason, rules.source)
        if self._is_news(origin.login):
            self._alarm(origin, verdict)
        return verdict

    def sent(self, origin: Origin, profile: Profile | None, recipients: int) -> None:
        """A message has come whole."""
        if self._devices is not None and profile is not None:
            self._devices.sent(origin, profile, recipients)

    def refused(self, origin: Origin, profile: Profile | None, error: str) -> None:
        """Something was refused."""
        if self._devices is not None and profile is not None:
            self._devices.refused(origin, profile, error)

    def _is_news(self, user: str) -> bool:
        now = self._now()
        if now - self._told.get(user, -math.inf) < _DAY:
            return False
        self._note(user, now)
        self.tell([user, now])
        return True

    def _note(self, user: str, now: float) -> None:
        self._told[user] = now
        self._told.move_to_end(user)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    def hear(self, news: Any, source: int) -> None:
        """See :class:`IShared`."""
        self._note(*news)

    def lost(self, source: int) -> None:
        """See :class:`IShared`. Who was told was told."""

    def remember(self) -> Any:
        """See :class:`IShared`."""
        return list(self._told.items())

    def recall(self, memory: Any) -> None:
        """See :class:`IShared`."""
        self._told.update(memory)

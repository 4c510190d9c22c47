"""How much may come in an hour: counts of messages and recipients, per user, client address and network.

An IPv6 client's address is its /64. The count of an hour is that of the clock hour under way and, of the one
before, the share that lies within the last 60 minutes: a sliding window in two numbers. What was refused is
not counted, so whoever keeps trying is let in as soon as there is room.

Promises: a question costs no more however many are counted; the memory is bounded, those not seen for longest
being forgotten first. All is forgotten when the server ends. Several processes count together (IShared): each
tells what it has taken.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from zope.interface import implementer

from mailserver.access.lockout import network_of
from mailserver.access.profiles import Allowance, Over, Profile
from mailserver.interfaces import IShared, Verdict
from mailserver.model.envelope import Origin
from mailserver.model.source import BUILT_IN, Source

__all__ = ["Excess", "RateRules", "Rates", "allowances"]

_HOUR = 3600.0
_REMEMBERED = 20_000
_WITHIN = Verdict(True, "within the rates")

_Key = tuple[str, str]
"""``user``, ``address`` or ``network``, and its name."""


@frozen
class RateRules:
    """What a reload replaces.

    :ivar user: what each login may send.
    :ivar address: what each client address may send that has not logged in.
    :ivar first_time: how many recipients a user may write to for the first time in a day; 0: any number.
    """

    user: Allowance = field(factory=Allowance)
    address: Allowance = field(factory=Allowance)
    first_time: int = 0
    source: Source = BUILT_IN


@frozen
class Excess:
    """Something is over its rate.

    :ivar over: what is to become of it.
    :ivar news: it is the first since it was last within: the admin has not been told.
    """

    verdict: Verdict
    over: Over
    news: bool


@define
class _Count:
    hour: int = 0
    before: int = 0
    now: int = 0


@define
class _Counts:
    messages: _Count = field(factory=_Count)
    recipients: _Count = field(factory=_Count)
    over: bool = False


def allowances(rules: RateRules, profile: Profile | None, origin: Origin) -> list[tuple[_Key, Allowance]]:
    """The allowances that a client's mail is counted against; without those that allow any number."""
    if origin.login:
        return [(("user", origin.login), rules.user)] if rules.user.is_limited else []
    found = []
    if rules.address.is_limited:
        found.append((("address", network_of(origin.address) or origin.address), rules.address))
    if profile is not None and profile.allowance.is_limited:
        found.append((("network", profile.name), profile.allowance))
    return found


@implementer(IShared)
class Rates:
    """The counts.

    :param now: seconds on a clock that nobody sets, the same for all processes.
    """

    def __init__(self, now: Callable[[], float], remembered: int = _REMEMBERED) -> None:
        self.tell: Callable[[Any], None] = lambda news: None
        self._now = now
        self._remembered = remembered
        self._counts: OrderedDict[_Key, _Counts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, asked: list[tuple[_Key, Allowance]], messages: int, recipients: int) -> Excess | None:
        """Count so much against all of these, or say which is over.

        What is over and to be held is counted all the same, for it is accepted.
        """
        excess: Excess | None = None
        for key, allowance in asked:
            counts = self._find(key)
            verdict = self._judge(key, counts, allowance, messages, recipients)
            if not verdict.allowed:
                news = self._note(key, counts, over=True)
                excess = Excess(verdict, allowance.over, news)
                if allowance.over is not Over.HOLD:
                    return excess
        for key, _ in asked:
            self._add(self._find(key), messages, recipients)
        self.tell(["taken", [key for key, _ in asked], messages, recipients])
        return excess

    def _add(self, counts: _Counts, messages: int, recipients: int) -> None:
        counts.messages.now += messages
        counts.recipients.now += recipients

    def _note(self, key: _Key, counts: _Counts, over: bool) -> bool:
        """Note that something is over its rate, or is no more; whether that is new."""
        is_new, counts.over = counts.over != over, over
        if is_new:
            self.tell(["over", key, over])
        return is_new

    # --- in several processes

    def hear(self, news: Any, source: int) -> None:
        """See :class:`IShared`."""
        match news:
            case "taken", keys, messages, recipients:
                for kind, name in keys:
                    counts = self._find((kind, name))
                    self._level(counts.messages)
                    self._level(counts.recipients)
                    self._add(counts, messages, recipients)
            case "over", (kind, name), over:
                self._find((kind, name)).over = over

    def lost(self, source: int) -> None:
        """See :class:`IShared`. What was sent there is sent."""

    def remember(self) -> Any:
        """See :class:`IShared`."""
        return [
            (*key, _figures(counts.messages), _figures(counts.recipients), counts.over)
            for key, counts in self._counts.items()
        ]

    def recall(self, memory: Any) -> None:
        """See :class:`IShared`."""
        for kind, name, messages, recipients, over in memory:
            self._counts[kind, name] = _Counts(_Count(*messages), _Count(*recipients), over)

    def _judge(
        self, key: _Key, counts: _Counts, allowance: Allowance, messages: int, recipients: int
    ) -> Verdict:
        within = _WITHIN
        for word, count, more, most in (
            ("messages", counts.messages, messages, allowance.messages),
            ("recipients", counts.recipients, recipients, allowance.recipients),
        ):
            if most and more and self._level(count) + more > most:
                within = Verdict(False, f"{' '.join(key)}: over {most} {word} an hour", allowance.source)
        if counts.over and self._is_calm(counts, allowance):
            self._note(key, counts, over=False)
        return within

    def _is_calm(self, counts: _Counts, allowance: Allowance) -> bool:
        """Whether it has come down so far that being over again would be news."""
        pairs = ((counts.messages, allowance.messages), (counts.recipients, allowance.recipients))
        return all(not most or self._level(count) * 2 <= most for count, most in pairs)

    def _level(self, count: _Count) -> float:
        """What the last 60 minutes hold; the count is brought to the hour under way."""
        hour, into = divmod(self._now(), _HOUR)
        passed = int(hour) - count.hour
        if passed:
            count.hour, count.before, count.now = int(hour), count.now if passed == 1 else 0, 0
        return count.now + count.before * (1 - into / _HOUR)

    def _find(self, key: _Key) -> _Counts:
        counts = self._counts.setdefault(key, _Counts())
        self._counts.move_to_end(key)
        if len(self._counts) > self._remembered:
            self._counts.popitem(last=False)
        return counts


def _figures(count: _Count) -> tuple[int, int, int]:
    return count.hour, count.before, count.now

"""Which mail hosts could not be spoken to lately: they go last (RFC 5321 §5.1, RFC 8305 §4).

A dead host costs a connection timeout. Who has just paid that for one message does not pay it again for the
next: an address that failed goes behind all others for a minute, for twice as long each time it fails
again, for ten minutes at most; it is still asked when nobody else takes the mail, and one answer is enough
to put it back in its place. A family (IPv4, IPv6) of which the last three addresses failed, and none
answered, goes behind the other within each host: then it is this machine that has no way there.

The memory is bounded; what failed longest ago goes first. Time is given.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import groupby

from attrs import frozen

from mailserver.model.exchanger import Exchanger

__all__ = ["Failings"]

_FIRST, _LONGEST = 60.0, 600.0
_FAMILY_FAILS = 3


@frozen
class _Failure:
    until: float
    lasts: float


class Failings:
    """The memory.

    :param seconds: the time.
    :param most: the addresses remembered.
    """

    def __init__(self, seconds: Callable[[], float], most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._failed: OrderedDict[tuple[str, int], _Failure] = OrderedDict()
        self._families: dict[bool, set[str]] = {False: set(), True: set()}

    def failed(self, exchanger: Exchanger) -> None:
        """Nobody could be spoken to there."""
        key = exchanger.address, exchanger.port
        before = self._failed.pop(key, None)
        lasts = _FIRST if before is None else min(before.lasts * 2, _LONGEST)
        self._failed[key] = _Failure(self._seconds() + lasts, lasts)
        if len(self._failed) > self._most:
            self._failed.popitem(last=False)
        family = self._families[_is_ipv6(exchanger)]
        if len(family) < _FAMILY_FAILS:
            family.add(exchanger.address)

    def answered(self, exchanger: Exchanger) -> None:
        """Somebody spoke, whatever was said."""
        self._failed.pop((exchanger.address, exchanger.port), None)
        self._families[_is_ipv6(exchanger)].clear()

    def order(self, exchangers: Sequence[Exchanger]) -> tuple[Exchanger, ...]:
        """The same, with those that failed lately at the end; else in the order they were in."""
        if len(exchangers) < 2:
            return tuple(exchangers)
        hosts = (list(group) for _, group in groupby(exchangers, lambda one: one.host))
        by_family = [one for host in hosts for one in sorted(host, key=self._family_fails)]
        return tuple(sorted(by_family, key=self._fails))

    def _fails(self, exchanger: Exchanger) -> bool:
        failure = self._failed.get((exchanger.address, exchanger.port))
        return failure is not None and self._seconds() < failure.until

    def _family_fails(self, exchanger: Exchanger) -> bool:
        return len(self._families[_is_ipv6(exchanger)]) >= _FAMILY_FAILS


def _is_ipv6(exchanger: Exchanger) -> bool:
    return ":" in exchanger.address

"""What is known of destinations that have trouble: what it was, and until when they are left in peace.

A destination none of whose hosts could be spoken to, or all of which were closing, rests until its mail is
due again, but for five minutes at most: mail that comes meanwhile waits with the other, so that a hundred
thousand messages for a dead domain cost no more than one. When a host there speaks, its rest is over, and
all that waited because of it is due at once.

Kept in memory, and bounded; a restart forgets it, and asks anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from mailserver.model.envelope import Recipient
from mailserver.model.outcome import Delayed, Outcome, Scope

__all__ = ["Destinations", "Trouble", "went_well"]

_LONGEST_REST = 300.0
_OURS = frozenset({"4.3.0", "4.3.2"})
"""What this server's own trouble and its stop are called."""


@frozen
class Trouble:
    """What is the matter with a destination.

    :ivar error: the last answer.
    :ivar rests_until: on the clock that was given.
    :ivar since: when it began, likewise.
    """

    error: str
    rests_until: float
    since: float


def went_well(outcomes: Mapping[Recipient, Outcome]) -> bool | None:
    """Whether a host there spoke to us; ``None`` where the attempt says nothing about that."""
    if not outcomes or any(outcome.status in _OURS and not outcome.host for outcome in outcomes.values()):
        return None
    for outcome in outcomes.values():
        if not isinstance(outcome, Delayed) or outcome.scope is not Scope.HOST:
            return True
    return False


class Destinations:
    """The memory.

    :param seconds: a clock that nobody sets.
    :param most: the destinations that it has room for.
    """

    def __init__(self, seconds: Callable[[], float], most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._troubles: OrderedDict[str, Trouble] = OrderedDict()

    def failed(self, destination: str, error: str, rest: float) -> None:
        """Nobody there could be spoken to; its mail is due again in ``rest`` seconds."""
        rest = min(max(rest, 0.0), _LONGEST_REST)
        now, before = self._seconds(), self._troubles.get(destination)
        self._troubles[destination] = Trouble(error, now + rest, before.since if before else now)
        self._troubles.move_to_end(destination)
        if len(self._troubles) > self._most:
            self._troubles.popitem(last=False)

    def recovered(self, destination: str) -> bool:
        """Somebody spoke. Returns whether there was trouble before."""
        return self._troubles.pop(destination, None) is not None

    def resting(self) -> frozenset[str]:
        """The destinations that are left in peace now."""
        now = self._seconds()
        return frozenset(name for name, trouble in self._troubles.items() if now < trouble.rests_until)

    def rests(self, destination: str) -> bool:
        """Whether it is one of :meth:`resting`."""
        trouble = self._troubles.get(destination)
        return trouble is not None and self._seconds() < trouble.rests_until

    def trouble(self, destination: str) -> Trouble | None:
        """What is the matter there, if anything is known to be."""
        return self._troubles.get(destination)

    def told(self) -> list[dict[str, object]]:
        """All of it, for people: ``domain``, ``error``, and in seconds from now ``rests`` and ``lasts``."""
        now = self._seconds()
        return [
            {
                "domain": name,
                "error": trouble.error,
                "rests": max(trouble.rests_until - now, 0.0),
                "lasts": now - trouble.since,
            }
            for name, trouble in self._troubles.items()
        ]

    def wake(self) -> None:
        """No destination rests any longer; what is known of their troubles stays."""
        for name, trouble in self._troubles.items():
            self._troubles[name] = evolve(trouble, rests_until=0.0)

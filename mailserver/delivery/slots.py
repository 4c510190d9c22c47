"""Who may work now: bounded windows of duties under way, and a bounded hand of those that wait for a slot.

Mail for mailboxes here and mail for other hosts have a window each, so that neither waits for the other;
within a window every destination has its own slots, so that a slow one holds up nobody but itself. A
destination begins with few slots, gets one more each time things go well there, and loses half of them each
time its hosts cannot be spoken to or are closing.

Duties are taken from the queue in batches, or come when they are stored; what finds no slot stays *parked* in
the hand, and starts as slots become free, destination by destination in turn. A destination with parked
duties, or with no slot left, is *full*: nothing more is taken for it. What comes for it all the same is
parked as long as it leaves others as much of the hand as its destination has. When there is no room the duty
is turned away, and its destination is full too, until the hand is half empty.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from enum import Enum

from mailserver.interfaces import Duty

__all__ = ["Place", "Slots", "Window"]


_REMEMBERED = 10_000
"""The destinations of which it is known how many slots they have earned."""


class Place(Enum):
    """What :meth:`Slots.offer` says to a duty."""

    NOW = "now"
    PARKED = "parked"
    AWAY = "away"


class Window:
    """One window.

    :param size: how many duties may be under way.
    :param each: how many of them for one destination.
    :param hand: how many more may be parked.
    :param first: how many a destination that nothing is known of has; ``None``: ``each``.
    """

    def __init__(self, size: int, each: int, hand: int = 1000, first: int | None = None) -> None:
        self._size = size
        self._each = each
        self._first = each if first is None else first
        self._learnt: OrderedDict[str, int] = OrderedDict()
        self._hand = hand
        self._under_way: Counter[str] = Counter()
        self._count = 0
        self._parked: dict[str, deque[Duty]] = {}
        self._parked_count = 0
        self._away: set[str] = set()

    def full(self) -> set[str]:
        """The destinations for which nothing more is to be taken."""
        busy = {name for name, count in self._under_way.items() if count >= self.slots(name)}
        return busy | self._parked.keys() | self._away

    def is_full(self, destination: str) -> bool:
        """Whether it is one of :meth:`full`."""
        return self._is_busy(destination) or destination in self._away

    def offer(self, duty: Duty, is_fresh: bool = False) -> Place:
        """Give a duty its place.

        :param is_fresh: it comes unasked, so its destination may be full; of the hand it gets at most as much
            as is still free.
        """
        name = duty.destination
        parked = self._parked.get(name)
        if parked is None and self._has_slot(name):
            self._begin(name)
            return Place.NOW
        room = self._hand - self._parked_count
        if room > (len(parked) if is_fresh and parked else 0):
            self._parked.setdefault(name, deque()).append(duty)
            self._parked_count += 1
            return Place.PARKED
        if not self._is_busy(name):
            self._away.add(name)
        return Place.AWAY

    def leave(self, destination: str) -> tuple[Duty | None, bool]:
        """A duty has ended: the parked one that begins now, and whether more may be taken than before."""
        was_full = self._is_busy(destination)
        self._count -= 1
        self._under_way[destination] -= 1
        if not self._under_way[destination]:
            del self._under_way[destination]
        begun = self._unpark()
        more = was_full and not self._is_busy(destination)
        if begun is not None and not self._is_busy(begun.destination):
            more = True
        if self._away and self._parked_count <= self._hand // 2:
            self._away.clear()
            more = True
        return begun, more

    def slots(self, destination: str) -> int:
        """How many duties may be under way for a destination."""
        return self._learnt.get(destination, self._first)

    def learn(self, destination: str, well: bool) -> None:
        """How things went there."""
        slots = self.slots(destination)
        self._learnt[destination] = min(slots + 1, self._each) if well else max(slots // 2, 1)
        self._learnt.move_to_end(destination)
        if len(self._learnt) > _REMEMBERED:
            self._learnt.popitem(last=False)

    def withdraw(self, destination: str) -> list[Duty]:
        """Take what is parked for a destination out of the hand; it is to be given back to the queue."""
        duties = list(self._parked.pop(destination, ()))
        self._parked_count -= len(duties)
        return duties

    def unpark(self) -> Duty | None:
        """One more parked duty that may begin now."""
        return self._unpark()

    def knows(self, destination: str) -> bool:
        """Whether anything for that destination is under way or parked."""
        return destination in self._under_way or destination in self._parked

    def clear(self) -> list[Duty]:
        """Empty the hand; what was in it is to be given back to the queue."""
        duties = [duty for parked in self._parked.values() for duty in parked]
        self._parked.clear()
        self._parked_count = 0
        self._away.clear()
        return duties

    def _is_busy(self, destination: str) -> bool:
        return self._under_way[destination] >= self.slots(destination) or destination in self._parked

    def _has_slot(self, destination: str) -> bool:
        return self._count < self._size and self._under_way[destination] < self.slots(destination)

    def _begin(self, destination: str) -> None:
        self._count += 1
        self._under_way[destination] += 1

    def _unpark(self) -> Duty | None:
        """The parked duty whose turn it is, if any may begin."""
        name = next((name for name in self._parked if self._has_slot(name)), None)
        if name is None:
            return None
        parked = self._parked.pop(name)
        duty = parked.popleft()
        self._parked_count -= 1
        if parked:
            self._parked[name] = parked  # at the end: the others come first
        self._begin(name)
        return duty


class Slots:
    """The two windows.

    :param is_local: whether a destination is hosted here.
    """

    def __init__(self, is_local: Callable[[str], bool], local: Window, remote: Window) -> None:
        self._is_local = is_local
        self._local = local
        self._remote = remote
        # A reload may change what is local; what is under way stays in the window that it began in.
        self._home: dict[str, Window] = {}

    def full(self) -> frozenset[str]:
        """The destinations for which nothing more is to be taken."""
        return frozenset(self._local.full() | self._remote.full())

    def is_full(self, destination: str) -> bool:
        """Whether it is one of :meth:`full`."""
        return self._local.is_full(destination) or self._remote.is_full(destination)

    def offer(self, duty: Duty, is_fresh: bool = False) -> Place:
        """Give a duty its place: see :meth:`Window.offer`."""
        name = duty.destination
        window = self._home.get(name)
        if window is None:
            # A bare <postmaster> has no domain and lives here (RFC 5321 §4.1.1.3).
            window = self._local if not name or self._is_local(name) else self._remote
        place = window.offer(duty, is_fresh)
        if place is not Place.AWAY:
            self._home[name] = window
        return place

    def leave(self, duty: Duty) -> tuple[Duty | None, bool]:
        """A duty that was under way has ended: see :meth:`Window.leave`."""
        window = self._home[duty.destination]
        result = window.leave(duty.destination)
        self._forget(duty.destination)
        return result

    def learn(self, destination: str, well: bool) -> list[Duty]:
        """How things went at a destination; parked duties that begin now because it has earned a slot."""
        window = self._home.get(destination)
        if window is None:
            return []
        window.learn(destination, well)
        begun = []
        while well and (duty := window.unpark()) is not None:
            begun.append(duty)
        return begun

    def withdraw(self, destination: str) -> list[Duty]:
        """Take what is parked for a destination out of the hand: see :meth:`Window.withdraw`."""
        window = self._home.get(destination)
        duties = [] if window is None else window.withdraw(destination)
        self._forget(destination)
        return duties

    def clear(self) -> list[Duty]:
        """Empty both hands; what was in them is to be given back to the queue."""
        duties = self._local.clear() + self._remote.clear()
        for duty in duties:
            self._forget(duty.destination)
        return duties

    def _forget(self, destination: str) -> None:
        window = self._home.get(destination)
        if window is not None and not window.knows(destination):
            del self._home[destination]

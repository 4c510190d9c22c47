"""The deadlines of many sessions, by one timer of the reactor.

A timer of its own would take 600 octets of each session, a quarter of all that an idle one has here. What
passes is called at its time and not later; what is cancelled is let go at once, and forgotten by the time
that as many again have been. Where nothing is waited for there is no timer.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Deadline", "Deadlines"]

_FEW = 64

_log = Logger()


class Deadline:
    """One that is waited for.

    :ivar time: when it passes, on the clock's scale.
    :ivar call: what is called then; ``None`` once it has passed or is waited for no more.
    """

    __slots__ = ("call", "time")

    def __init__(self, time: float, call: Callable[[], object]) -> None:
        self.time = time
        self.call: Callable[[], object] | None = call

    def __lt__(self, other: "Deadline") -> bool:
        return self.time < other.time


class Deadlines:
    """All of them, on one clock."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._heap: list[Deadline] = []
        self._waiting = 0  # of the heap, those that are not cancelled
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return self._waiting

    def after(self, seconds: float, call: Callable[[], object]) -> Deadline:
        """Call that after so many seconds."""
        deadline = Deadline(self._clock.seconds() + seconds, call)
        heappush(self._heap, deadline)
        self._waiting += 1
        if self._heap[0] is deadline:
            self._arm()
        return deadline

    def cancel(self, deadline: Deadline) -> None:
        """Do not call it; does nothing where it was called or cancelled before."""
        if deadline.call is None:
            return
        self._end(deadline)
        if not self._waiting:
            self._heap.clear()
            self._disarm()
        elif len(self._heap) > 2 * self._waiting + _FEW:
            self._heap = [waiting for waiting in self._heap if waiting.call is not None]
            heapify(self._heap)

    def _end(self, deadline: Deadline) -> None:
        deadline.call = None
        self._waiting -= 1

    def _arm(self) -> None:
        self._disarm()
        wait = max(self._heap[0].time - self._clock.seconds(), 0.0)
        self._timer = self._clock.callLater(wait, self._pass)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _pass(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        # What is called may add some and cancel others, and the heap may be another afterwards.
        while self._heap and (self._heap[0].call is None or self._heap[0].time <= now):
            deadline = heappop(self._heap)
            call = deadline.call
            if call is not None:
                self._end(deadline)
                try:
                    call()
                except Exception:  # those of others are not to suffer for it
                    _log.failure("at a deadline")
        if self._heap:
            self._arm()
        else:
            self._disarm()

"""Time and chance, as arguments (law 8)."""

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

__all__ = ["Time"]


@frozen
class Time:
    """What delivery knows of time and chance.

    :ivar timers: for waiting. Its ``seconds`` need not be, and better is not, the calendar's: timers that
        go by a clock that is set back do not ring.
    :ivar now: the calendar: seconds since 1970, as ``time.time``; somebody may set it forth and back.
    :ivar chance: a number from 0 to 1, as ``random.random``.
    """

    timers: IReactorTime
    now: Callable[[], float]
    chance: Callable[[], float]

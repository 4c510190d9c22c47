"""Two ways to make a group of files durable, and which of them is the better one, as it went lately.

``fsync`` of each costs the disk a flush for every file. ``syncfs`` costs one for all of them, but takes along
whatever else waits to be written to that file system. What that comes to depends on the disk, the file
system and on what else goes on there, so both are timed whenever they are used, and the one that is not used
is tried now and then. There is one estimate for groups of all sizes.

``syncfs`` may take somewhat longer, for the next one need not write what it took along: 10 or 50 sessions
that send 100 KB got a fifth more through where it was used for one to three files, too, though it took longer
than their ``fsync`` (ext4 without a journal, on a virtual disk).
"""

import math
import time
from collections.abc import Callable

__all__ = ["GROUP", "Ways", "learnt"]

GROUP = 4
"""Files from which on ``syncfs`` is used where nothing is timed."""

_LENIENCY = 3.0  # syncfs may take so many times what fsync of each takes
_USUAL = 3e-4  # seconds that either takes, until that is known
_UNTRIED = 64.0  # groups after which the other way is tried; so many times more as it was dearer
_LARGEST_STEP = 4.0


def learnt(known: float, seconds: float, weight: float) -> float:
    """A running average, in seconds, after one more measurement, which counts with this weight.

    It counts for at most four times what is known: what takes longer is an accident, or else it comes again.
    """
    return max(known + (min(seconds, known * _LARGEST_STEP) - known) * weight, 1e-9)


class Ways:
    """The choice, for one kind of files on one disk, or on a few as if they were one. Used by one thread.

    :param now: in seconds, from wherever; ``None``: nothing is timed, and :data:`GROUP` holds for ever.
    """

    __slots__ = ("_each", "_now", "_since", "_together", "spent")

    def __init__(self, now: Callable[[], float] | None = time.perf_counter) -> None:
        self._now = now
        self._each = self._together = _USUAL  # a file, and a group
        self._since = 0  # groups since the other way was tried
        self.spent = 0.0
        """Seconds that all took so far that was done by this; 0 where nothing is timed."""

    def harden(self, files: int, together: Callable[[], bool], each: Callable[[], object]) -> None:
        """Make files durable: ``together``, if that is the better way and succeeds, or ``each`` by itself.

        :param files: how many; at least one.
        """
        if self._now is None:
            if files < GROUP or not together():
                each()
            return
        if self._is_better_together(files):
            seconds, succeeds = self._timed(together)
            # What fails is as dear as can be.
            self._together = learnt(self._together, seconds if succeeds else math.inf, 1 / 8)
            if succeeds:
                return
        seconds, _ = self._timed(each)
        self._each = learnt(self._each, seconds / files, 1 / 8)

    def take(self, step: Callable[[], object]) -> None:
        """Take a step that waits for the disk, and for which there is one way only."""
        self._timed(step)

    def _timed(self, step: Callable[[], object]) -> tuple[float, object]:
        now = self._now
        if now is None:
            return 0.0, step()
        begun = now()
        result = step()
        seconds = now() - begun
        self.spent += seconds
        return seconds, result

    def _is_better_together(self, files: int) -> bool:
        each = self._each * files
        is_better = self._together <= each * _LENIENCY
        # The dearer the other way was, the less often it is tried: what that costs stays within bounds.
        ratio = each / self._together if is_better else self._together / each
        self._since += 1
        if self._since < _UNTRIED * max(ratio, 1.0):
            return is_better
        self._since = 0
        return not is_better

"""Two ways to make a group of files durable, and which of them is the better one, as it went lately.

``fsync`` of each costs the disk a flush for every file. ``syncfs`` costs one for all of them, but takes along
whatever else waits to be written to that file system. What that comes to depends on the disk, the file
system, the size of the group and on what else goes on there, so both are timed whenever they are used, and
the one that is not used is tried now and then.

``syncfs`` may take somewhat longer, for the next one need not write what it took along: 10 or 50 sessions
that send 100 KB got a fifth more through where it was used for one to three files, too, though it took longer
than their ``fsync`` (ext4 without a journal, on a virtual disk).
"""

import time
from collections.abc import Callable

__all__ = ["GROUP", "Ways"]

GROUP = 4
"""Files from which on ``syncfs`` is used where nothing is timed."""

_LENIENCY = 3.0
_USUAL = 3e-4  # seconds that either takes, until that is known
_WEIGHT = 1 / 8
_LARGEST_STEP = 4.0  # what takes longer than so many times the usual is an accident, or else it comes again
_UNTRIED = 64.0


class Ways:
    """The choice, for one kind of files on one disk. Used by one thread.

    :param now: in seconds, from wherever; ``None``: nothing is timed, and :data:`GROUP` holds for ever.
    """

    __slots__ = ("_each", "_now", "_since", "_together", "spent")

    def __init__(self, now: Callable[[], float] | None = time.perf_counter) -> None:
        self._now = now
        self._each = self._together = _USUAL  # a file, and a group
        self._since = 0.0  # groups since the other way was tried
        self.spent = 0.0
        """Seconds that all groups took so far."""

    def harden(self, files: int, together: Callable[[], bool], each: Callable[[], object]) -> None:
        """Make so many files durable: ``together``, if that is better and succeeds, or ``each`` by itself."""
        now = self._now
        if now is None:
            if files < GROUP or not together():
                each()
            return
        begun = now()
        if self._is_better_together(files) and together():
            took = now() - begun
            self._together = _learnt(self._together, took)
        else:
            begun = now()
            each()
            took = now() - begun
            self._each = _learnt(self._each, took / files)
        self.spent += took

    def _is_better_together(self, files: int) -> bool:
        each = self._each * files
        is_better = self._together <= each * _LENIENCY
        # The dearer the other way was, the less often it is tried: what that costs stays within bounds.
        ratio = each / self._together if is_better else self._together / each
        self._since += 1.0
        if self._since < _UNTRIED * max(ratio, 1.0):
            return is_better
        self._since = 0.0
        return not is_better


def _learnt(known: float, seconds: float) -> float:
    return known + (min(seconds, known * _LARGEST_STEP) - known) * _WEIGHT

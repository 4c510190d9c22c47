"""How many messages are made durable together.

All of a group are answered when the last of them is safe, and whoever brought them does nothing until then. A
group shares the time that the disk takes, so it has to be large where that is long. But a group of all that
there are has their senders and the disk wait for each other in turn, where two smaller ones keep both busy.
So a group is as large as takes as long to be written as to be synced, and at least so large that the disk is
not kept busy with too little: 50 sessions got a twelfth more through by groups of 16 than by groups of all,
and less by those of 8 (4 KB, ext4 without a journal, on a virtual disk, two cores).
"""

__all__ = ["LEAST", "Pace"]

LEAST = 16
_WEIGHT = 1 / 16
_LARGEST_STEP = 4.0


class Pace:
    """The size of groups that suits a disk, as it went lately. Used by one thread.

    :param most: the largest.
    """

    __slots__ = ("_most", "_sync", "_work")

    def __init__(self, most: int) -> None:
        self._most = most
        # Until that is known the disk is a slow one.
        self._work = 1e-4  # seconds for one message
        self._sync = most * self._work  # for a group

    def note(self, messages: int, work: float, sync: float) -> int:
        """How large a group should be from now on.

        :param work: the seconds that one of so many messages took, but for ``sync``, those in which the disk
            was waited for.
        """
        self._work = _learnt(self._work, work / messages)
        self._sync = _learnt(self._sync, sync)
        return min(max(int(self._sync / self._work), LEAST), self._most)


def _learnt(known: float, seconds: float) -> float:
    """What is known now; a single accident changes little."""
    return max(known + (min(seconds, known * _LARGEST_STEP) - known) * _WEIGHT, 1e-9)

"""How many messages are made durable together.

All of a group are answered when the last of them is safe, and whoever brought them does nothing until then. A
group shares the time that the disk takes, so it has to be large where that is long. But a group of all that
there are has their senders and the disk wait for each other in turn, where two smaller ones keep both busy.
So a group is as large as takes as long to be written as to be synced, and at least so large that the disk is
not kept busy with too little: 50 sessions got a twelfth more through by groups of 16 than by groups of all,
and less by those of 8 (4 KB, ext4 without a journal, on a virtual disk, two cores).
"""

from mailserver.mailboxes.ways import learnt

__all__ = ["LEAST", "Pace"]

LEAST = 16


class Pace:
    """The size of groups that suits a disk, as it went lately. Used by one thread.

    :param most: the largest.
    """

    __slots__ = ("_most", "_wait", "_work")

    def __init__(self, most: int) -> None:
        self._most = most
        # Until that is known the disk is a slow one.
        self._work = 1e-4  # seconds for one message
        self._wait = most * self._work  # for a group

    @property
    def size(self) -> int:
        """How many messages a group should have."""
        return min(max(int(self._wait / self._work), LEAST), self._most)

    def learn(self, messages: int, seconds: float, waited: float) -> None:
        """One more group has been delivered.

        :param messages: how many they were.
        :param seconds: that all of it took.
        :param waited: the seconds of those in which the disk was waited for.
        """
        self._work = learnt(self._work, (seconds - waited) / messages, 1 / 16)
        self._wait = learnt(self._wait, waited, 1 / 16)

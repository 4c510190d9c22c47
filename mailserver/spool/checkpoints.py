"""Checkpoints: what the write-ahead log holds goes into the database itself, away from those who commit.

SQLite would have the commit that makes the log long do it, and everybody who waits for that commit would wait
for it, too. Here a thread of its own, with a connection of its own, does it while others commit. Under load
more is always committed meanwhile, so that the log never begins anew; when it has become too long, the thread
that commits copies the little that is left, between two transactions.

Failures: an error is told, and the next checkpoint tries again. Nothing is lost by it but room on the disk.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from mailserver.spool.schema import PAGE

__all__ = ["Checkpoints", "checkpoint"]

_ROWS = 3
"""Pages that a message's rows and their indices touch, roughly, when it comes and when it goes."""


def checkpoint(connection: sqlite3.Connection) -> int:
    """Copy what can be copied without anybody waiting; the pages that the log still holds then."""
    _, log, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return 0 if copied == log else int(log)


class Checkpoints:
    """Decides when, and performs the jobs of a :class:`~mailserver.threads.Batcher`, in its thread.

    :param complain: told, in the thread, of each error.
    :param often: the pages committed that make a checkpoint worth while.
    :param longest: the pages in the log from which on it has to begin anew.
    :ivar overdue: set where the log has become too long; who commits calls :func:`checkpoint` and clears it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        complain: Callable[[Exception], None],
        often: int = 4_000,
        longest: int = 16_000,
    ) -> None:
        self.overdue = False
        self._often = often
        self._longest = longest
        self._connection = connection
        self._complain = complain
        self._pages = 0

    def count(self, messages: int, octets: int) -> bool:
        """So much was committed. Returns whether it is time for a checkpoint. In the reactor's thread."""
        self._pages += messages * _ROWS + octets // PAGE
        if self._pages < self._often:
            return False
        self._pages = 0
        return True

    def perform(self, jobs: Sequence[None]) -> list[Any]:
        """One checkpoint for all who ask."""
        try:
            self.overdue = checkpoint(self._connection) > self._longest
        except sqlite3.Error as error:
            self._complain(error)
        return [None] * len(jobs)

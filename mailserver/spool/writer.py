"""The thread that commits: everything that waits becomes durable in one transaction, with one fsync.

Each job stands in a savepoint of its own, so that one that fails takes no other down with it. If the commit
itself fails (disk full, EIO), all of the batch fail and nothing of it remains; the commit is not tried again.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from attrs import evolve, field, frozen

from mailserver.interfaces import Duty, Settlement
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.spool import schema
from mailserver.spool.body import Sealed
from mailserver.spool.disk import Disk
from mailserver.spool.rows import ENVELOPE_COLUMNS, envelope_row, recipient_row, settlement_row
from mailserver.spool.trouble import as_trouble

__all__ = ["Changes", "Job", "Recall", "Settle", "Store", "Writer", "recall"]


@frozen
class Store:
    """A message to be stored; all its recipients are due at ``due``."""

    envelope: Envelope
    content: Sealed
    due: float


@frozen
class Settle:
    """An attempt's outcomes, and the reports owed for it.

    :ivar message: the message's number in the database.
    :ivar file: of its content, if it is large.
    :ivar numbers: where each recipient of the duty stands.
    """

    duty: Duty
    message: int
    file: str | None
    numbers: Mapping[Recipient, Sequence[int]]
    settlements: Mapping[Recipient, Settlement]
    reports: tuple[Store, ...]
    now: float


@frozen
class Recall:
    """Whoever waits for a time beyond ``horizon`` is due ``now``: the clock that chose it was wrong."""

    now: float
    horizon: float


Job = Store | Settle | Recall


@frozen
class Changes:
    """What one transaction, now durable, has changed."""

    stored: list[tuple[Envelope, bytes | None]] = field(factory=list)
    settled: list[Settle] = field(factory=list)
    removed: list[tuple[QueueID, str | None]] = field(factory=list)
    destinations: set[str] = field(factory=set)

    def add(self, other: "Changes") -> None:
        """Take in what a job of the transaction has changed."""
        self.stored.extend(other.stored)
        self.settled.extend(other.settled)
        self.removed.extend(other.removed)
        self.destinations.update(other.destinations)


_ADD_MESSAGE = f"INSERT INTO message ({ENVELOPE_COLUMNS}, file) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
_ADD_CONTENT = "INSERT INTO content (message, crc, octets) VALUES (?, ?, ?)"
_ADD_RECIPIENT = """
    INSERT INTO recipient (message, number, address, original, notify, destination, state, next_attempt)
    VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?)
"""
_SETTLE = """
    UPDATE recipient
    SET state = ?, next_attempt = coalesce(?, next_attempt), attempts = attempts + 1,
        warned = max(warned, ?), last_attempt = ?, scope = ?, status = ?, reply = ?, host = ?, code = ?
    WHERE message = ? AND number = ?
"""
_IS_OPEN = f"SELECT 1 FROM recipient WHERE message = ? AND state IN {schema.OPEN_STATES} LIMIT 1"  # noqa: S608
_REMOVE = (
    "DELETE FROM recipient WHERE message = ?",
    "DELETE FROM content WHERE message = ?",
    "DELETE FROM message WHERE number = ?",
)
_EARLIEST = """
    SELECT min(next_attempt) FROM recipient INDEXED BY due WHERE state = 'waiting' AND destination = ?
"""
_SET_DUE = """
    INSERT INTO destination (name, due) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET due = excluded.due WHERE due <> excluded.due
"""
_BEYOND = "SELECT DISTINCT destination FROM recipient WHERE state = 'waiting' AND next_attempt > ?"
_RECALL = "UPDATE recipient SET next_attempt = ? WHERE state = 'waiting' AND next_attempt > ?"


class Writer:
    """Performs the jobs of a :class:`~mailserver.threads.Batcher`, in its thread.

    :param contents: where the files of large contents are.
    :param committed: told, in this thread, of the changes of each transaction once they are durable.
    :param complain: told, in this thread, of each error that is not one job's own.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        disk: Disk,
        contents: Path,
        committed: Callable[[Changes], None],
        complain: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._disk = disk
        self._contents = contents
        self._committed = committed
        self._complain = complain

    def perform(self, jobs: Sequence[Job]) -> list[Exception | None]:
        """Do all jobs in one transaction; ``None``, or the trouble, for each."""
        results: list[Exception | None] = []
        changes = Changes()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                results.append(self._attempt(job, changes))
            for destination in changes.destinations:
                _refresh(self._connection, destination)
            self._connection.execute("COMMIT")
        except Exception as error:
            self._complain(error)
            self._roll_back()
            results = [as_trouble(error) for _ in jobs]
        else:
            self._committed(changes)
        for job, result in zip(jobs, results, strict=True):
            if result is not None:
                self._remove_files_of(job)
        return results

    def _roll_back(self) -> None:
        try:
            # SQLite has done so itself after some errors.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._complain(error)

    def _attempt(self, job: Job, changes: Changes) -> Exception | None:
        execute = self._connection.execute
        execute("SAVEPOINT job")
        try:
            made = self._do(job)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction
            execute("ROLLBACK TO job")
            execute("RELEASE job")
            self._complain(error)
            return as_trouble(error)
        execute("RELEASE job")
        changes.add(made)
        return None

    def _do(self, job: Job) -> Changes:
        match job:
            case Store():
                changes = Changes()
                self._store(job, changes)
                return changes
            case Settle():
                return self._settle(job)
            case Recall():
                return Changes(destinations=recall(self._connection, job))

    def _store(self, job: Store, changes: Changes) -> None:
        execute = self._connection.execute
        content = job.content
        envelope = job.envelope
        if envelope.size != content.size:
            envelope = evolve(envelope, size=content.size)
        message = execute(_ADD_MESSAGE, (*envelope_row(envelope), content.file)).lastrowid
        assert message is not None
        octets = None
        if content.file is None:
            octets = b"".join(content.chunks)
            execute(_ADD_CONTENT, (message, crc32(octets), octets))
        rows = [recipient_row(message, n, each, job.due) for n, each in enumerate(envelope.recipients)]
        self._connection.executemany(_ADD_RECIPIENT, rows)
        changes.stored.append((envelope, octets))
        changes.destinations.update(recipient.address.domain for recipient in envelope.recipients)

    def _settle(self, job: Settle) -> Changes:
        changes = Changes(settled=[job], destinations={job.duty.destination})
        for report in job.reports:
            self._store(report, changes)
        if self._record(job):
            for statement in _REMOVE:
                self._connection.execute(statement, (job.message,))
            changes.removed.append((job.duty.envelope.id, job.file))
        return changes

    def _record(self, job: Settle) -> bool:
        """Record the outcomes; whether the message is wanted no more."""
        finished = 0
        rows: list[tuple[Any, ...]] = []
        for recipient, settlement in job.settlements.items():
            values = settlement_row(settlement, job.now)
            for number in job.numbers[recipient]:
                rows.append((*values, job.message, number))
                finished += settlement.next_attempt is None
        if finished == len(job.duty.envelope.recipients):
            return True  # the usual mail: nothing needs to be written that is removed at once
        self._connection.executemany(_SETTLE, rows)
        return self._connection.execute(_IS_OPEN, (job.message,)).fetchone() is None

    def _remove_files_of(self, job: Job) -> None:
        """Remove the content files of messages that were not stored."""
        match job:
            case Store():
                stores: tuple[Store, ...] = (job,)
            case Settle():
                stores = job.reports
            case _:
                return
        for store in stores:
            if store.content.file is not None:
                try:
                    self._disk.remove(self._contents / store.content.file)
                except OSError as error:
                    self._complain(error)  # the next start sweeps it


def _refresh(connection: sqlite3.Connection, destination: str) -> None:
    """Make the destination's row say what its recipients do."""
    (due,) = connection.execute(_EARLIEST, (destination,)).fetchone()
    if due is None:
        connection.execute("DELETE FROM destination WHERE name = ?", (destination,))
    else:
        connection.execute(_SET_DUE, (destination, due))


def recall(connection: sqlite3.Connection, job: Recall) -> set[str]:
    """Bring forward whoever waits for a time beyond the horizon; the destinations concerned."""
    beyond = {name for (name,) in connection.execute(_BEYOND, (job.horizon,))}
    if beyond:
        connection.execute(_RECALL, (job.now, job.horizon))
    return beyond

"""The thread that commits: everything that waits becomes durable in one transaction, with one fsync.

What is usual, a message that comes and one that ends for all its recipients at once, is done for many in a
few statements. Where one of these fails, each is done again in a savepoint of its own, and what is unusual
always is: a job that fails takes no other down with it. If the commit itself fails (disk full, EIO), all of
the batch fail and nothing of it remains; the commit is not tried again.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

from attrs import evolve, field, frozen

from mailserver.interfaces import Duty, Settlement
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delivered
from mailserver.spool import schema
from mailserver.spool.body import Sealed
from mailserver.spool.checkpoints import Checkpoints, checkpoint
from mailserver.spool.claims import Claims, Pair
from mailserver.spool.disk import Disk
from mailserver.spool.entrance import HOLD
from mailserver.spool.orders import NoSuchMessage, Rule, StandingOrders, read_requests, read_rules
from mailserver.spool.rows import (
    ENVELOPE_COLUMNS,
    envelope_row,
    recipient_row,
    settlement_row,
    spell_address,
)
from mailserver.spool.story import Story, find_message_id
from mailserver.spool.taken import Taken, fresh_duties
from mailserver.spool.trouble import as_trouble

__all__ = ["Changes", "Job", "Order", "Recall", "Settle", "Store", "Writer", "recall"]

_MOST_ATTEMPTS = 30
"""So many attempts of one message are kept while it waits."""


@frozen
class Store:
    """A message to be stored; all its recipients are due at ``due``."""

    envelope: Envelope
    content: Sealed
    due: float


@frozen
class Settle:
    """An attempt's outcomes, and the reports owed for it.

    :ivar taken: where the duty stands. Whoever is due by now later than it was taken was ordered so
        meanwhile: that holds.
    :ivar attempts: what was tried for it, for its story.
    """

    duty: Duty
    taken: Taken
    settlements: Mapping[Recipient, Settlement]
    reports: tuple[Store, ...]
    now: float
    attempts: Sequence[Mapping[str, Any]] = ()


@frozen
class Order:
    """What the administrator ordered: ``apply`` does it, and what it returns is the job's result."""

    apply: Callable[[sqlite3.Connection], Any]


@frozen
class Recall:
    """Whoever waits for a time beyond ``horizon`` is due ``now``: the clock that chose it was wrong."""

    now: float
    horizon: float


Job = Store | Settle | Order | Recall


@frozen
class Changes:
    """What one transaction, now durable, has changed.

    :ivar fresh: the duties of what was stored, which are taken.
    :ivar due: the numbers of messages that are to be looked for.
    :ivar orders: those that stand from now on; ``None``: as before.
    """

    stored: list[tuple[Envelope, bytes | None]] = field(factory=list)
    fresh: list[tuple[Duty, Taken]] = field(factory=list)
    settled: list[Settle] = field(factory=list)
    removed: list[tuple[QueueID, str | None]] = field(factory=list)
    destinations: set[str] = field(factory=set)
    due: list[int] = field(factory=list)
    stories: list[Story] = field(factory=list)
    orders: StandingOrders | None = None
    answer: Any = None

    def add(self, other: "Changes") -> None:
        """Take in what a job of the transaction has changed."""
        self.stored.extend(other.stored)
        self.fresh.extend(other.fresh)
        self.settled.extend(other.settled)
        self.removed.extend(other.removed)
        self.destinations.update(other.destinations)
        self.due.extend(other.due)
        self.stories.extend(other.stories)


_LAST_MESSAGE = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
_ADD_MESSAGE = f"""
    INSERT INTO message (number, {ENVELOPE_COLUMNS}, file, message_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608
_ADD_CONTENT = "INSERT INTO content (message, crc, octets) VALUES (?, ?, ?)"
_ADD_RECIPIENT = """
    INSERT INTO recipient (message, number, address, original, notify, destination, next_attempt, state, hold)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SETTLE = """
    UPDATE recipient
    SET state = CASE WHEN state = 'held' AND ?1 = 'waiting' THEN 'held' ELSE ?1 END,
        next_attempt = CASE WHEN next_attempt > ?2 THEN next_attempt ELSE coalesce(?3, next_attempt) END,
        attempts = attempts + 1, warned = max(warned, ?),
        last_attempt = ?, scope = ?, status = ?, reply = ?, host = ?, code = ?
    WHERE message = ? AND number = ?
"""
_IS_OPEN = f"SELECT 1 FROM recipient WHERE message = ? AND state IN {schema.OPEN_STATES} LIMIT 1"  # noqa: S608
_IS_DUE = """
    SELECT 1 FROM recipient
    WHERE message = ? AND destination = ? AND state = 'waiting' AND next_attempt <= ? LIMIT 1
"""
_REMOVE = (
    "DELETE FROM recipient WHERE message IN (SELECT value FROM json_each(?))",
    "DELETE FROM content WHERE message IN (SELECT value FROM json_each(?))",
    "DELETE FROM message WHERE number IN (SELECT value FROM json_each(?))",
)
_REMOVE_ATTEMPTS = "DELETE FROM attempt WHERE message IN (SELECT value FROM json_each(?))"
_ENDED = """
    SELECT address, original, state, last_attempt, attempts, status, reply, host
    FROM recipient WHERE message = ? ORDER BY number
"""
_ATTEMPTS = "SELECT facts FROM attempt WHERE message = ? ORDER BY number"
_ADD_ATTEMPT = "INSERT INTO attempt (message, facts) VALUES (?, ?)"
_FORGET_ATTEMPTS = """
    DELETE FROM attempt WHERE message = ?1 AND number <=
    (SELECT number FROM attempt WHERE message = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)
"""
_EARLIEST = """
    SELECT min(next_attempt) FROM recipient INDEXED BY due WHERE state = 'waiting' AND destination = ?
"""
_SET_DUE = """
    INSERT INTO destination (name, due) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET due = excluded.due WHERE due <> excluded.due
"""
_BEYOND = "SELECT DISTINCT destination FROM recipient WHERE state = 'waiting' AND next_attempt > ?"
_RECALL = "UPDATE recipient SET next_attempt = ? WHERE state = 'waiting' AND next_attempt > ?"


@frozen
class _Rows:
    """What many jobs add and remove."""

    messages: list[tuple[object, ...]] = field(factory=list)
    contents: list[tuple[object, ...]] = field(factory=list)
    recipients: list[tuple[object, ...]] = field(factory=list)
    removed: list[int] = field(factory=list)
    tried: list[int] = field(factory=list)
    """Of those removed, whose earlier attempts are to be removed as well."""

    def write(self, connection: sqlite3.Connection) -> None:
        """Add and remove."""
        if self.messages:
            connection.executemany(_ADD_MESSAGE, self.messages)
            connection.executemany(_ADD_CONTENT, self.contents)
            connection.executemany(_ADD_RECIPIENT, self.recipients)
        if self.removed:
            numbers = json.dumps(self.removed)
            for statement in _REMOVE:
                connection.execute(statement, (numbers,))
        if self.tried:
            connection.execute(_REMOVE_ATTEMPTS, (json.dumps(self.tried),))


class Writer:
    """Performs the jobs of a :class:`~mailserver.threads.Batcher`, in its thread.

    :param contents: where the files of large contents are.
    :param claims: where what is stored is claimed.
    :param committed: told, in this thread, of the changes of each transaction once they are durable.
    :param complain: told, in this thread, of each error that is not one job's own.
    :ivar checkpoints: asked before each transaction whether the log is too long.
    """

    checkpoints: Checkpoints | None = None

    def __init__(
        self,
        connection: sqlite3.Connection,
        disk: Disk,
        contents: Path,
        claims: Claims,
        committed: Callable[[Changes], None],
        complain: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._disk = disk
        self._contents = contents
        self._claims = claims
        self._committed = committed
        self._complain = complain
        self._rules: tuple[Rule, ...] | None = None  # unknown: to be read

    def perform(self, jobs: Sequence[Job]) -> list[Any]:
        """Do all jobs in one transaction; what each results in, or the trouble, for each."""
        results: list[Any] = []
        changes = Changes()
        claimed: list[Pair] = []
        try:
            self._shorten_log()
            self._connection.execute("BEGIN IMMEDIATE")
            for usual, some in groupby(jobs, _is_usual):
                attempt = self._attempt_together if usual else self._attempt_each
                results.extend(attempt(list(some), changes))
            for destination in changes.destinations:
                _refresh(self._connection, destination)
            if any(isinstance(job, Order) for job in jobs):
                # It may be about what was stored by the same transaction: that is looked for.
                due = changes.due + [taken.message for _, taken in changes.fresh]
                orders = read_requests(self._connection)
                changes = evolve(changes, orders=orders, fresh=[], due=due)
            claimed = [(duty.destination, taken.message) for duty, taken in changes.fresh]
            if claimed:
                self._claims.claim(claimed)
            self._connection.execute("COMMIT")
        except Exception as error:
            if claimed:
                self._claims.renounce(claimed)
            self._complain(error)
            self._rules = None
            self._roll_back()
            results = [as_trouble(error) for _ in jobs]
        else:
            self._committed(changes)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                self._remove_files_of(job)
        return results

    def _shorten_log(self) -> None:
        if self.checkpoints is not None and self.checkpoints.overdue:
            self.checkpoints.overdue = False
            try:
                checkpoint(self._connection)
            except sqlite3.Error as error:
                self._complain(error)  # the transaction may do all the same

    def _roll_back(self) -> None:
        try:
            # SQLite has done so itself after some errors.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._complain(error)

    def _attempt_together(self, jobs: Sequence[Job], changes: Changes) -> list[Any]:
        """Jobs that are :func:`usual <_is_usual>`; each alone where it does not work together."""
        if len(jobs) > 1:
            execute = self._connection.execute
            execute("SAVEPOINT jobs")
            try:
                made = self._do_together(jobs)
            except Exception:
                if not self._connection.in_transaction:
                    raise  # SQLite gave up the whole transaction
                execute("ROLLBACK TO jobs")
                execute("RELEASE jobs")
            else:
                execute("RELEASE jobs")
                changes.add(made)
                return [None] * len(jobs)
        return self._attempt_each(jobs, changes)

    def _attempt_each(self, jobs: Sequence[Job], changes: Changes) -> list[Any]:
        return [self._attempt(job, changes) for job in jobs]

    def _attempt(self, job: Job, changes: Changes) -> Any:
        execute = self._connection.execute
        execute("SAVEPOINT job")
        try:
            made = self._do(job)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction
            execute("ROLLBACK TO job")
            execute("RELEASE job")
            if isinstance(error, NoSuchMessage):
                return error
            self._complain(error)
            return as_trouble(error)
        execute("RELEASE job")
        changes.add(made)
        return made.answer

    def _do(self, job: Job) -> Changes:
        match job:
            case Store():
                return self._do_together([job])
            case Settle():
                return self._do_together([job]) if _is_at_once(job) else self._settle(job)
            case Order():
                self._rules = None
                answer = job.apply(self._connection)
                return Changes(destinations=set(getattr(answer, "destinations", ())), answer=answer)
            case Recall():
                return Changes(destinations=recall(self._connection, job))

    def _do_together(self, jobs: Sequence[Job]) -> Changes:
        changes, rows = Changes(), _Rows()
        stores: list[Store] = []
        for job in jobs:
            match job:
                case Store():
                    stores.append(job)
                case Settle():
                    stores.extend(job.reports)
                    self._end(job, changes, rows)
        self._store(stores, changes, rows)
        rows.write(self._connection)
        return changes

    def _store(self, stores: Sequence[Store], changes: Changes, rows: _Rows) -> None:
        if stores:
            (last,) = self._connection.execute(_LAST_MESSAGE).fetchone() or (0,)
            for number, job in enumerate(stores, last + 1):
                self._add(number, job, changes, rows)

    def _add(self, number: int, job: Store, changes: Changes, rows: _Rows) -> None:
        content = job.content
        envelope = job.envelope
        if envelope.size != content.size:
            envelope = evolve(envelope, size=content.size)
        octets = b"".join(content.chunks) if content.file is None else None
        message_id = find_message_id(content.head if octets is None else octets)
        rows.messages.append((number, *envelope_row(envelope), content.file, message_id))
        if octets is not None:
            rows.contents.append((number, crc32(octets), octets))
        held = set()
        for n, each in enumerate(envelope.recipients):
            hold = self._hold(envelope, each)
            if hold is not None:
                held.add(n)
            rows.recipients.append(recipient_row(number, n, each, job.due, hold))
        changes.stored.append((envelope, octets))
        changes.fresh.extend(fresh_duties(number, envelope, held, content.file, message_id or "", job.due))
        changes.destinations.update(recipient.address.domain for recipient in envelope.recipients)

    def _hold(self, envelope: Envelope, recipient: Recipient) -> str | None:
        """Why a recipient of a message that comes is to be held; ``None``: it is not."""
        if HOLD in envelope.marks:
            return envelope.marks[HOLD]
        if self._rules is None:
            self._rules = read_rules(self._connection)
        for rule in self._rules:
            if rule.matches(envelope.sender, recipient.address):
                return f"rule {rule.number}: {rule.field} {rule.value}"
        return None

    def _settle(self, job: Settle) -> Changes:
        changes, rows = Changes(), _Rows()
        self._store(job.reports, changes, rows)
        if self._record(job):
            self._end(job, changes, rows)
            rows.write(self._connection)
            return changes
        rows.write(self._connection)
        changes.settled.append(job)
        changes.destinations.add(job.duty.destination)
        if self._connection.execute(_IS_DUE, (job.taken.message, job.duty.destination, job.now)).fetchone():
            changes.due.append(job.taken.message)
        if job.attempts:
            tried = [(job.taken.message, json.dumps(one)) for one in job.attempts]
            self._connection.executemany(_ADD_ATTEMPT, tried)
            self._connection.execute(_FORGET_ATTEMPTS, (job.taken.message, _MOST_ATTEMPTS))
        return changes

    def _end(self, job: Settle, changes: Changes, rows: _Rows) -> None:
        """The message is wanted no more: all that is known of it becomes its story."""
        execute = self._connection.execute
        is_at_once = _is_at_once(job)
        before = []
        if not is_at_once or any(waiting.attempts for waiting in job.duty.waiting):
            before = [json.loads(facts) for (facts,) in execute(_ATTEMPTS, (job.taken.message,))]
            rows.tried.append(job.taken.message)
        if is_at_once:
            # The usual mail: nothing was written that is removed at once.
            ended: list[tuple[Any, ...]] = list(_ended_now(job))
        else:
            ended = execute(_ENDED, (job.taken.message,)).fetchall()
        rows.removed.append(job.taken.message)
        changes.settled.append(job)
        changes.destinations.add(job.duty.destination)
        changes.stories.append(
            Story(job.duty.envelope, job.taken.message_id, ended, [*before, *job.attempts], job.now)
        )
        changes.removed.append((job.duty.envelope.id, job.taken.file))

    def _record(self, job: Settle) -> bool:
        """Record the outcomes; whether the message is wanted no more."""
        rows: list[tuple[Any, ...]] = []
        for recipient, settlement in job.settlements.items():
            values = settlement_row(settlement, job.now)
            for number in job.taken.numbers[recipient]:
                rows.append((values[0], job.taken.since, *values[1:], job.taken.message, number))
        self._connection.executemany(_SETTLE, rows)
        return self._connection.execute(_IS_OPEN, (job.taken.message,)).fetchone() is None

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


def _is_at_once(job: Settle) -> bool:
    """Whether all recipients of the message end with this attempt."""
    finished = sum(
        len(job.taken.numbers[recipient])
        for recipient, settlement in job.settlements.items()
        if settlement.next_attempt is None
    )
    return finished == len(job.duty.envelope.recipients)


def _is_usual(job: Job) -> bool:
    """Whether it touches no message that another job of the batch touches."""
    return isinstance(job, Store) or (isinstance(job, Settle) and _is_at_once(job))


def _ended_now(job: Settle) -> Iterator[tuple[Any, ...]]:
    """What the rows of the recipients would say, in the columns of :data:`_ENDED`."""
    for waiting in job.duty.waiting:
        recipient = waiting.recipient
        outcome = job.settlements[recipient].outcome
        state = "delivered" if isinstance(outcome, Delivered) else "failed"
        address = spell_address(recipient.address)
        told = (outcome.status, outcome.reply, outcome.host)
        yield address, recipient.original, state, job.now, waiting.attempts + 1, *told


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

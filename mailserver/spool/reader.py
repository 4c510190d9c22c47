"""The thread that reads: what is due, when something will be, and content.

It has a connection of its own, so that it does not wait behind commits. Which duties are taken is in
:class:`~mailserver.spool.claims.Claims`, where what is stored is claimed, too. That a duty has ended is told
to this thread as a job like any other: a scan that sees the database as it was before a settlement still sees
the duty as taken.

:meth:`Reader.take` goes round: destinations that have been served least lately come first, those never served
before all, and one duty is taken of each in turn. Its cost grows with the destinations that something is due
for and with the duties taken, not with the messages that wait. A message for one recipient is read by the
query that finds it; its content, if small, is fetched with that of the others.

What is paused is left out. :meth:`Reader.seize` takes mail that is held, for those who end or change it.

A message that cannot be read is told, and left out until the next start, so that it keeps nobody else
waiting.
"""

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from typing import Any, TypeVar
from zlib import crc32

from attrs import evolve, frozen

from mailserver.interfaces import Duty
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.spool.claims import Claims, Pair
from mailserver.spool.orders import EVERYTHING
from mailserver.spool.recent import Recent
from mailserver.spool.rows import ENVELOPE_COLUMNS, RECIPIENT_COLUMNS, read_envelope, read_waiting
from mailserver.spool.taken import Taken
from mailserver.spool.trouble import Damage, as_trouble, is_damage

__all__ = ["Reader", "Stored"]

T = TypeVar("T")


@frozen
class Stored:
    """A content found: the octets of a small one, the file of a large one."""

    size: int
    octets: bytes | None
    file: str | None


# A snapshot begins with the first read, not with BEGIN.
_BEGIN_SNAPSHOT = "SELECT 1 FROM pause LIMIT 1"
_PAUSED = "SELECT name FROM pause"
_DUE_DESTINATIONS = "SELECT name FROM destination WHERE due <= ? ORDER BY due"
_DUE = f"""
    SELECT recipient.message, {ENVELOPE_COLUMNS}, file, message_id, recipient.number, {RECIPIENT_COLUMNS},
        (SELECT 1 FROM recipient AS other WHERE other.message = recipient.message LIMIT 1 OFFSET 1)
    FROM recipient INDEXED BY due LEFT JOIN message ON message.number = recipient.message
    WHERE state = 'waiting' AND destination = ? AND next_attempt <= ? ORDER BY next_attempt
"""  # noqa: S608
_DUE_MESSAGES = """
    SELECT message FROM recipient INDEXED BY due
    WHERE state = 'waiting' AND destination = ? AND next_attempt <= ? ORDER BY next_attempt
"""
_MESSAGE = f"SELECT {ENVELOPE_COLUMNS}, file, message_id FROM message WHERE number = ?"  # noqa: S608
_RECIPIENTS = f"SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE message = ? ORDER BY number"  # noqa: S608
_DUE_RECIPIENTS = f"""
    SELECT number, {RECIPIENT_COLUMNS} FROM recipient
    WHERE message = ? AND destination = ? AND state = 'waiting' AND next_attempt <= ? ORDER BY number
"""  # noqa: S608
_HELD_RECIPIENTS = f"""
    SELECT number, {RECIPIENT_COLUMNS} FROM recipient
    WHERE message = ? AND destination = ? AND state = 'held' AND hold = ? ORDER BY number
"""  # noqa: S608
_HELD = """
    SELECT DISTINCT message FROM recipient WHERE message > ? AND state = 'held' AND hold = ?
    ORDER BY message LIMIT ?
"""
_HELD_DESTINATIONS = """
    SELECT DISTINCT destination FROM recipient WHERE message = ? AND state = 'held' AND hold = ?
"""
_DESTINATIONS = "SELECT name, due FROM destination ORDER BY due"
_TIMES = """
    SELECT message, next_attempt FROM recipient INDEXED BY due
    WHERE state = 'waiting' AND destination = ? ORDER BY next_attempt
"""
_CONTENTS = "SELECT message, octets, crc FROM content WHERE message IN (SELECT value FROM json_each(?))"
_CONTENT = """
    SELECT message.size, message.file, content.octets, content.crc
    FROM message LEFT JOIN content ON content.message = message.number WHERE message.id = ?
"""

_SMALL = 16 * 1024
"""Contents of up to this many octets are fetched before they are asked for."""


class Reader:
    """Performs the jobs of a :class:`~mailserver.threads.Batcher`, in its thread.

    :param claims: what is taken; who stores mail may claim it.
    :param complain: told, in this thread, of each damage met.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        recent: Recent,
        claims: Claims,
        complain: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._recent = recent
        self._complain = complain
        self._claims = claims
        self._damaged: set[int] = set()
        self._turns: dict[str, int] = {}
        self._turn = count(1)

    def perform(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call each job; what it returns or the trouble it raises, for each."""
        return [self._attempt(job) for job in jobs]

    def _attempt(self, job: Callable[[], Any]) -> Any:
        try:
            return job()
        except Exception as error:
            self._complain(error)
            return as_trouble(error)

    # --- duties

    def take(
        self, now: float, full: frozenset[str], limit: int
    ) -> tuple[list[tuple[Duty, Taken]], frozenset[str]]:
        """As :meth:`mailserver.interfaces.IQueue.take`, with where each duty stands."""
        duties: list[tuple[Duty, Taken]] = []
        with self._snapshot(), self._given_back_on_failure(duties):
            due = self._in_turn(now)
            left = {name for name in due if name in full and self._is_due(name, now)}
            lanes = deque((name, self._lane(name, now)) for name in due if name not in full)
            try:
                while lanes and len(duties) < limit:
                    duty = self._next(lanes[0][1])
                    if duty is None:
                        lanes.popleft()
                    else:
                        duties.append(duty)
                        lanes.rotate(-1)
            finally:
                for _, lane in lanes:
                    lane.close()  # an open cursor would keep the snapshot, and the write-ahead log, alive
            left.update(name for name, _ in lanes)
            self._fetch(duties)
        return duties, frozenset(left)

    def seize(self, hold: str, after: int, limit: int) -> tuple[list[tuple[Duty, Taken]], int, int | None]:
        """Take what is held for this very reason and nobody has taken, of up to ``limit`` messages.

        :returns: duties, how many were left out because somebody has them, and after which message the next
            portion begins; ``None`` when this was the last.
        """
        duties: list[tuple[Duty, Taken]] = []
        with self._snapshot(), self._given_back_on_failure(duties):
            messages = [number for (number,) in self._connection.execute(_HELD, (after, hold, limit))]
            busy = 0
            for message in messages:
                for (destination,) in self._connection.execute(
                    _HELD_DESTINATIONS, (message, hold)
                ).fetchall():
                    if message in self._claims.of(destination):
                        busy += 1
                    elif message not in self._damaged:
                        duty = self._duty(
                            message, destination, partial(self._read_duty, _HELD_RECIPIENTS, hold)
                        )
                        if duty is not None:
                            duties.append(duty)
        return duties, busy, messages[-1] if len(messages) == limit else None

    def forget(self, taken: Sequence[Pair]) -> None:
        """These are taken no more."""
        self._claims.drop(taken)

    @contextmanager
    def _given_back_on_failure(self, duties: Sequence[tuple[Duty, Taken]]) -> Iterator[None]:
        """What was taken by a look that fails is not handed out: nobody has it."""
        try:
            yield
        except BaseException:
            self._claims.drop([(duty.destination, taken.message) for duty, taken in duties])
            raise

    def _next(self, lane: Generator[tuple[Duty, Taken], None, None]) -> tuple[Duty, Taken] | None:
        try:
            return next(lane, None)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._complain(error)
            return None  # damage at one destination keeps no other waiting

    def _in_turn(self, now: float) -> list[str]:
        paused = self._paused()
        if EVERYTHING in paused:
            return []
        due = self._connection.execute(_DUE_DESTINATIONS, (now,))
        names = [name for (name,) in due if name not in paused]
        self._turns = {name: self._turns[name] for name in names if name in self._turns}
        names.sort(key=lambda name: self._turns.get(name, 0))
        return names

    def _paused(self) -> set[str]:
        return {name for (name,) in self._connection.execute(_PAUSED)}

    def _lane(self, destination: str, now: float) -> Generator[tuple[Duty, Taken], None, None]:
        """The duties due at one destination, longest due first."""
        try:
            yield from self._due(_DUE, destination, now)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            # It may be one message's: what cannot be read at once is read one by one.
            yield from self._due(_DUE_MESSAGES, destination, now)

    def _due(self, query: str, destination: str, now: float) -> Generator[tuple[Duty, Taken], None, None]:
        with closing(self._connection.execute(query, (destination, now))) as rows:
            for message, *row in rows:
                if message in self._claims.of(destination) or message in self._damaged:
                    continue
                duty = self._duty(message, destination, partial(self._read_due, row, now))
                if duty is not None:
                    self._turns[destination] = next(self._turn)
                    yield duty

    def _duty(
        self, message: int, destination: str, read: Callable[[int, str], tuple[Duty, Taken]]
    ) -> tuple[Duty, Taken] | None:
        try:
            duty = read(message, destination)
        except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            self._damaged.add(message)
            self._complain(Damage(f"message number {message} cannot be read and is left out: {error!r}"))
            return None
        self._claims.add(destination, message)
        return duty

    def _read_due(self, row: Sequence[Any], now: float, message: int, destination: str) -> tuple[Duty, Taken]:
        """A duty out of a row of :data:`_DUE`, which is all of it where there is one recipient."""
        if not row or row[0] is None or row[-1]:
            duty, taken = self._read_duty(_DUE_RECIPIENTS, now, message, destination)
            return duty, evolve(taken, since=now)
        file, message_id, number, *about, _ = row[5:]
        envelope = self._recent.envelope(row[0])
        if envelope is None:
            envelope = read_envelope(tuple(row[:5]), [tuple(about)])
            self._recent.put(envelope, None)
        waiting = read_waiting(tuple(about))
        taken = Taken(message, file, {waiting.recipient: [number]}, message_id or "", now)
        return Duty(envelope, destination, (waiting,)), taken

    def _read_duty(
        self, recipients: str, which: float | str, message: int, destination: str
    ) -> tuple[Duty, Taken]:
        found = self._connection.execute(_MESSAGE, (message,)).fetchone()
        if found is None:
            raise LookupError("recipients without a message")
        *row, file, message_id = found
        envelope = self._envelope(message, tuple(row))
        numbers: dict[Recipient, list[int]] = {}
        waiting = []
        for number, *about in self._connection.execute(recipients, (message, destination, which)):
            each = read_waiting(tuple(about))
            waiting.append(each)
            numbers.setdefault(each.recipient, []).append(number)
        return Duty(envelope, destination, tuple(waiting)), Taken(message, file, numbers, message_id or "")

    def _envelope(self, message: int, row: tuple[Any, ...]) -> Envelope:
        envelope = self._recent.envelope(row[0])
        if envelope is None:
            envelope = read_envelope(row, self._connection.execute(_RECIPIENTS, (message,)))
            self._recent.put(envelope, None)
        return envelope

    def _fetch(self, duties: Sequence[tuple[Duty, Taken]]) -> None:
        """Have small contents at hand. One that is not as it should be is met when it is asked for."""
        wanted = {
            taken.message: duty.envelope
            for duty, taken in duties
            if taken.file is None
            and duty.envelope.size <= _SMALL
            and self._recent.octets(duty.envelope.id) is None
        }
        if not wanted:
            return
        try:
            found = self._connection.execute(_CONTENTS, (json.dumps(list(wanted)),)).fetchall()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return
        for message, octets, crc in found:
            envelope = wanted[message]
            if _is_whole(octets, envelope.size, crc):
                self._recent.put(envelope, octets)

    # --- the rest

    def next_due(self) -> float | None:
        """As :meth:`mailserver.interfaces.IQueue.next_due`."""
        best: float | None = None
        with self._snapshot(), closing(self._connection.execute(_DESTINATIONS)) as destinations:
            paused = self._paused()
            if EVERYTHING in paused:
                return None
            for name, due in destinations:
                if name in paused:
                    continue
                if best is not None and due >= best:
                    break
                own = self._earliest(name, due)
                if own is not None and (best is None or own < best):
                    best = own
        return best

    def _is_due(self, destination: str, now: float) -> bool:
        """Whether something is due, or may be, at one of the destinations that are due."""
        if not self._claims.of(destination):
            return True
        earliest = self._earliest(destination, now)
        return earliest is not None and earliest <= now

    def _earliest(self, destination: str, due: float) -> float | None:
        """When the first recipient there falls due that is neither taken nor damaged."""
        busy, damaged = self._claims.of(destination), self._damaged
        if not busy and not damaged:
            return due
        try:
            with closing(self._connection.execute(_TIMES, (destination,))) as times:
                return next((time for it, time in times if it not in busy and it not in damaged), None)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._complain(error)
            return due  # damage at one destination keeps no other waiting

    def content(self, id: QueueID) -> Stored:
        """Find a content. Raises :class:`StorageTrouble`."""
        row = self._connection.execute(_CONTENT, (id,)).fetchone()
        if row is None:
            raise Damage(f"{id} is not in the spool")
        size, file, octets, crc = row
        if file is None and not _is_whole(octets, size, crc):
            raise Damage(f"the content of {id} is missing or damaged")
        return Stored(size, octets, file)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            self._connection.execute(_BEGIN_SNAPSHOT).fetchone()
            self._claims.heed()  # only now: what this snapshot has was claimed before
            yield
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")


def _is_whole(octets: object, size: int, crc: object) -> bool:
    return isinstance(octets, bytes) and len(octets) == size and crc32(octets) == crc

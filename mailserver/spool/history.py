"""What became of mail that is gone: a database of its own, ``history.db`` beside the spool's.

An *event* is a message that left the queue, with all its attempts; a refusal; a report; something the
administrator did. Each is found by its words: queue IDs, Message-IDs and addresses in lower case. Times are
seconds since 1970.

It is kept apart from the spool so that mail never waits for it nor is endangered by it: events are written
behind the mail, by a thread of their own, in groups, of which there are two a second when much happens, and
not synced one by one. A crash of the process loses the events of the last second, a power failure those of
the last seconds; the mail itself is the spool's and durable. Events that come faster than the disk takes
them are dropped and counted, refusals first. A database that is damaged is set aside
(``history.db.corrupt-TIME``) at the next start; a disk that is full costs the events of that time. Both are
journal trouble and nothing more.

Events older than ``keep`` are removed from the oldest end, up to 1,000 with each group that is written.
"""

import json
import re
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver import journal
from mailserver.spool.inserting import insert
from mailserver.spool.story import Story
from mailserver.threads import Batcher, CallFromThread

__all__ = ["FILE", "KINDS", "Event", "History", "find", "open_for_reading"]

FILE = "history.db"

KINDS = frozenset({"attempted", "refused", "reported", "steered"})
"""The events of the journal that it is made of, stories apart."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS event (
        number  INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS word (
        word TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (word, event)
    ) WITHOUT ROWID""",
)
_LAST_EVENT = "SELECT seq FROM sqlite_sequence WHERE name = 'event'"
_GROUP = 1_000
_REST = 0.5
"""Seconds between two groups: what a group costs is paid once for all that happened meanwhile."""

_MOST_WAITING = 20_000
_MOST_REFUSALS = 2_000
_MOST_UNDER_WAY = 20_000
_MOST_WORDS = 200
_SWEPT_AT_ONCE = 1_000
_dump = json.JSONEncoder(separators=(",", ":")).encode
_ANGLED = re.compile(r"<([^<>\s]{1,320})>")


@frozen
class Event:
    """Something that happened. ``kind``: ``finished``, ``refused``, ``reported`` or ``steered``."""

    at: float
    kind: str
    facts: Mapping[str, Any]

    def words(self) -> set[str]:
        """What it is found by."""
        facts = self.facts
        words = {str(facts.get(name, "")) for name in ("id", "report", "message_id", "login")}
        if self.kind == "finished":
            words.add(str(facts["sender"]))
            for recipient in facts["recipients"]:
                words.add(recipient[0])
                words.add(recipient[1].partition(";")[2])
        else:
            words.update(_ANGLED.findall(f"{facts.get('what', '')} {facts.get('sender', '')}"))
        words = {_spell(word) for word in words if word}
        return words if len(words) <= _MOST_WORDS else set(sorted(words)[:_MOST_WORDS])


@implementer(ILogObserver)
class History:
    """Writes events behind the mail.

    :param later: ``reactor.callLater``.
    :param keep: seconds for which an event is kept; may be replaced at any time. 0: nothing is recorded.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        call_from_thread: CallFromThread,
        later: Callable[[float, Callable[[], None]], IDelayedCall],
        keep: float,
    ) -> None:
        self.keep = keep
        self._path = path
        self._now = now
        self._writing: Batcher[Sequence[Event], None] = Batcher("history", self._write, call_from_thread, 1)
        self._waiting: deque[Event] = deque()
        self._refusals = 0
        self._dropped = 0
        self._later = later
        self._resting: IDelayedCall | None = None
        self._is_writing = False
        self._is_open = False
        # The attempts of mail whose outcome is not recorded yet, by queue ID.
        self._under_way: OrderedDict[str, list[Mapping[str, Any]]] = OrderedDict()
        self._connection: sqlite3.Connection | None = None

    # --- life

    def start(self) -> None:
        """Begin. A history that cannot be written is journal trouble."""
        self._is_open = True
        self._writing.start()
        self._go_on()

    async def stop(self) -> None:
        """Write what waits, and close."""
        self._is_open = False
        self._wake()
        if self._waiting:
            waiting, self._waiting = self._waiting, deque()
            with suppress(Exception):
                await self._writing.submit(waiting)
        await self._writing.stop()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- what is told

    def __call__(self, event: LogEvent) -> None:
        """Take from the log what belongs to the story of mail: this is an observer of Twisted's log."""
        kind = event.get("mail_event")
        if kind not in KINDS:
            return
        facts = {name: _plain(value) for name, value in event["mail_fields"].items()}
        if kind != "attempted":
            self._add(Event(self._now(), kind, facts))
            return
        attempts = self._under_way.setdefault(str(facts.pop("id")), [])
        attempts.append({"at": self._now(), **facts})
        if len(self._under_way) > _MOST_UNDER_WAY:
            self._under_way.popitem(last=False)

    def attempts(self, id: str) -> Sequence[Mapping[str, Any]]:
        """The attempts told of since the last call about this message."""
        return self._under_way.pop(id, ())

    def finished(self, stories: Iterable[Story]) -> None:
        """These messages have left the queue."""
        for story in stories:
            self._add(Event(story.at, "finished", story.facts()))

    def finished_elsewhere(self, at: float, facts: Mapping[str, Any]) -> None:
        """So has a message that another process of this server had: its story's time and facts."""
        self._add(Event(at, "finished", facts))

    def _add(self, event: Event) -> None:
        if not self.keep:
            return
        is_refusal = event.kind == "refused"
        if len(self._waiting) >= _MOST_WAITING or (is_refusal and self._refusals >= _MOST_REFUSALS):
            self._dropped += 1
            return
        self._refusals += is_refusal
        self._waiting.append(event)
        if self._resting is None or len(self._waiting) >= _GROUP:
            self._go_on()

    def _go_on(self) -> None:
        """Have the next group written, unless one is: what comes meanwhile is the group after it."""
        if self._is_writing or not self._is_open:
            return
        self._wake()
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
        self._refusals -= sum(event.kind == "refused" for event in group)
        self._is_writing = True
        _ = self._writing.submit(group).addBoth(self._written)

    def _written(self, result: object) -> None:
        self._is_writing = False
        if isinstance(result, Failure):
            journal.trouble("history", f"events were lost: {result.getErrorMessage()}")
        if len(self._waiting) >= _GROUP:
            self._go_on()
        elif self._is_open:
            self._resting = self._later(_REST, self._rested)

    def _wake(self) -> None:
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.cancel()

    def _rested(self) -> None:
        self._resting = None
        if self._waiting:
            self._go_on()
        elif self._dropped:
            journal.trouble("history", f"{self._dropped} events dropped: they came too fast")
            self._dropped = 0

    # --- in the thread

    def _write(self, groups: Sequence[Sequence[Event]]) -> list[Any]:
        (group,) = groups
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                _insert(connection, group)
                _sweep(connection, self._now() - self.keep)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            return [error]
        return [None]

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = _open(self._path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                aside = self._path.with_name(f"{FILE}.corrupt-{int(self._now())}")
                for suffix in ("-wal", "-shm", ""):
                    with suppress(FileNotFoundError):
                        self._path.with_name(FILE + suffix).rename(aside.with_name(aside.name + suffix))
                self._connection = _open(self._path)
        return self._connection


def _open(path: Path) -> sqlite3.Connection:
    path.touch(0o600)
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("SELECT event.number FROM event JOIN word ON word.event = event.number LIMIT 1")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _insert(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    (last,) = connection.execute(_LAST_EVENT).fetchone() or (0,)
    numbered = list(enumerate(events, last + 1))
    rows = [(number, event.at, event.kind, _dump(event.facts)) for number, event in numbered]
    words = sorted([(word, number) for number, event in numbered for word in event.words()])
    insert(connection, "event (number, at, kind, facts)", rows)
    insert(connection, "word (word, event)", words)


def _sweep(connection: sqlite3.Connection, before: float) -> None:
    """Remove some events of the oldest that are older."""
    (oldest,) = connection.execute("SELECT at FROM event ORDER BY number LIMIT 1").fetchone() or (before,)
    if oldest >= before:
        return
    for number, at, kind, facts in connection.execute(
        "SELECT number, at, kind, facts FROM event ORDER BY number LIMIT ?", (_SWEPT_AT_ONCE,)
    ).fetchall():
        if at >= before:
            return
        words = [(word, number) for word in Event(at, kind, json.loads(facts)).words()]
        connection.executemany("DELETE FROM word WHERE word = ? AND event = ?", words)
        connection.execute("DELETE FROM event WHERE number = ?", (number,))


def _spell(word: str) -> str:
    """A word as it is looked for: what no text can hold (a lone surrogate) would keep a whole group out."""
    return word.lower().encode("utf-8", "replace").decode()


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float) else str(value)


# --- for those who ask ---------------------------------------------------------------------------------


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection that cannot write; ``None`` where there is no history yet. Raises ``sqlite3.Error``."""
    if not path.exists():
        return None
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)
    try:
        # A server that was stopped while it made the file has left it empty.
        begun = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'word'").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    if begun is None:
        connection.close()
        return None
    return connection


def find(connection: sqlite3.Connection, word: str, most: int) -> list[Event]:
    """The latest events that have this word, oldest first."""
    rows = connection.execute(
        "SELECT at, kind, facts FROM word JOIN event ON event.number = word.event"
        " WHERE word.word = ? ORDER BY word.event DESC LIMIT ?",
        (_spell(word.strip("<>")), most),
    ).fetchall()
    return [Event(at, kind, json.loads(facts)) for at, kind, facts in reversed(rows)]

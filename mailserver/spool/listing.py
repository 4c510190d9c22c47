"""What is in the queue, as the queue tools show it: queries on the database, by whoever may read it.

They need no server: ``mailctl`` asks them on a connection of its own that cannot write, whether a server runs
or not. What they cost grows with what is shown; filters and counts look at each recipient once, without its
content. Pages are taken by the key of the last row, not by counting.
"""

import json
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from attrs import frozen

from mailserver.spool.selecting import JOINED, Selection

__all__ = ["AGES", "Count", "Entry", "Key", "Listing"]

Key = tuple[int, int]
"""Where a recipient stands: the number of its message and its own."""

AGES = (("1h", 3600.0), ("4h", 14400.0), ("1d", 86400.0), ("5d", 432000.0))
"""The ages by which the queue is counted: younger than these, and what is older."""


@frozen
class Entry:
    """One recipient in the queue, with what the tools show of its message. Times in seconds since 1970."""

    key: Key
    id: str
    arrived: float
    sender: str
    size: int
    message_id: str
    recipient: str
    original: str
    domain: str
    state: str
    hold: str
    reroute: str
    next_attempt: float
    attempts: int
    last_attempt: float | None
    status: str
    reply: str
    host: str


@frozen
class Count:
    """How much waits for one domain; ``ages`` as in :data:`AGES`, and older."""

    domain: str
    recipients: int
    held: int
    oldest: float
    ages: tuple[int, ...]


_ENTRY = """
    r.message, r.number, m.id, m.arrived, m.sender, m.size, coalesce(m.message_id, ''), r.address, r.original,
    r.destination, r.state, coalesce(r.hold, ''), coalesce(r.route, ''), r.next_attempt, r.attempts,
    r.last_attempt, coalesce(r.status, ''), coalesce(r.reply, ''), coalesce(r.host, '')
"""
_START: Key = (-1, -1)


class Listing:
    """The queries.

    :param connection: to the spool's database, for reading; not closed here.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def page(self, selection: Selection, limit: int, after: Key = _START) -> list[Entry]:
        """The next recipients, the longest queued first."""
        condition, values = selection.condition()
        rows = self._connection.execute(
            f"SELECT {_ENTRY} FROM {JOINED} WHERE (r.message, r.number) > (?, ?) AND {condition}"  # noqa: S608
            " ORDER BY r.message, r.number LIMIT ?",
            (*after, *values, limit),
        )
        return [_entry(row) for row in rows]

    def counts(self, selection: Selection, now: float) -> list[Count]:
        """How much waits for each domain, the most first."""
        condition, values = selection.condition()
        buckets = ", ".join("sum(m.arrived > ?)" for _ in AGES)
        rows = self._connection.execute(
            f"SELECT r.destination, count(*), sum(r.state = 'held'), min(m.arrived), {buckets}"  # noqa: S608
            f" FROM {JOINED} WHERE {condition} GROUP BY r.destination ORDER BY 2 DESC, 1",
            (*[now - age for _, age in AGES], *values),
        )
        return [Count(row[0], row[1], row[2], row[3], _between(row[1], row[4:])) for row in rows]

    def recipients(self, id: str) -> list[Entry]:
        """All recipients of one message, those that wait no more included."""
        rows = self._connection.execute(
            f"SELECT {_ENTRY} FROM message AS m JOIN recipient AS r ON r.message = m.number"  # noqa: S608
            " WHERE m.id = ? ORDER BY r.number",
            (id.upper(),),
        )
        return [_entry(row) for row in rows]

    def origin(self, id: str) -> dict[str, Any]:
        """How a message came here, and its marks: what the envelope has beside the columns."""
        row = self._connection.execute("SELECT facts FROM message WHERE id = ?", (id.upper(),)).fetchone()
        facts: dict[str, Any] = json.loads(row[0]) if row is not None else {}
        return facts

    def attempts(self, id: str) -> list[dict[str, Any]]:
        """What was tried for a message that still waits, oldest first."""
        rows = self._connection.execute(
            "SELECT a.facts FROM message AS m JOIN attempt AS a ON a.message = m.number"
            " WHERE m.id = ? ORDER BY a.number",
            (id.upper(),),
        )
        return [json.loads(facts) for (facts,) in rows]

    def find(self, word: str, most: int) -> list[str]:
        """The IDs of messages that have this ID, Message-ID, sender or recipient; the latest last."""
        text = word.strip("<>").lower()
        rows = self._connection.execute(
            f"SELECT DISTINCT m.id FROM {JOINED} WHERE m.id = ? OR m.message_id = ?"  # noqa: S608
            " OR lower(m.sender) = ? OR lower(r.address) = ? ORDER BY m.number DESC LIMIT ?",
            (text.upper(), word.strip("<>"), text, text, most),
        )
        return [id for (id,) in rows][::-1]

    def paused(self) -> dict[str, float]:
        """What is paused, and since when; ``*`` is everything."""
        return dict(self._connection.execute("SELECT name, since FROM pause ORDER BY name").fetchall())

    def rules(self) -> Iterator[tuple[int, str, str, float]]:
        """The rules that stand: number, field, value, since when."""
        yield from self._connection.execute("SELECT number, field, value, since FROM rule ORDER BY number")


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry((row[0], row[1]), *row[2:])


def _between(total: int, younger: tuple[int, ...]) -> tuple[int, ...]:
    """From "so many are younger than" to "so many are between"."""
    edges = (0, *younger, total)
    return tuple(high - low for low, high in pairwise(edges))

"""What the administrator orders, as changes of the database; performed by the writer, each in a transaction.

An order is a function of the writer's connection. Those that may concern much mail are done in portions: each
says how many recipients it changed and after which one the next portion goes on, so that other commits come
between and the work can be watched and interrupted.

A recipient whose duty is under way may be changed here: what its attempt ends with is recorded on top, and
whoever is held by then stays held (:mod:`mailserver.spool.writer`).
"""

import sqlite3
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope
from mailserver.spool.listing import Key
from mailserver.spool.rows import spell_address
from mailserver.spool.selecting import JOINED, OPEN, Selection

__all__ = [
    "EVERYTHING",
    "FIELDS",
    "NoSuchMessage",
    "Portion",
    "Rule",
    "StandingOrders",
    "add_rule",
    "edit",
    "hasten",
    "pause",
    "read_requests",
    "read_rules",
    "remove_rule",
    "resume",
    "steer",
]

EVERYTHING = "*"
FIELDS = ("domain", "recipient", "sender")
"""What a rule may look at."""


class NoSuchMessage(Exception):
    """There is no such message, or no such recipient of it, in the queue."""


@frozen
class Portion:
    """What a portion of an order has changed.

    :ivar messages: how many recipients, by queue ID.
    :ivar last: where the next portion begins; ``None`` when this was the last.
    """

    messages: Mapping[str, int] = field(factory=dict)
    destinations: frozenset[str] = frozenset()
    last: Key | None = None

    @property
    def recipients(self) -> int:
        """How many recipients were changed."""
        return sum(self.messages.values())


_CHANGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "hold": (("waiting",), "state = 'held', hold = :value"),
    "arrest": (OPEN, "state = 'held', hold = :value"),
    "release": (("held",), "state = 'waiting', hold = NULL, next_attempt = :now"),
    "retry": (("waiting",), "next_attempt = :now"),
    "reroute": (OPEN, "route = :value, next_attempt = :now"),
}
"""For each order the states of those it concerns, and what is set. ``arrest`` comes before an end."""


def steer(
    connection: sqlite3.Connection,
    order: str,
    selection: Selection,
    after: Key,
    limit: int,
    now: float,
    value: str | None = None,
) -> Portion:
    """Do one portion of an order to the recipients selected.

    :param value: the reason of a hold, or the host of a reroute.
    """
    states, change = _CHANGES[order]
    concerned = selection.of(states)
    if concerned is None:
        return Portion()
    condition, values = concerned.condition()
    rows = connection.execute(
        f"SELECT r.message, r.number, r.destination, m.id FROM {JOINED}"  # noqa: S608
        f" WHERE (r.message, r.number) > (?, ?) AND {condition} ORDER BY r.message, r.number LIMIT ?",
        (*after, *values, limit),
    ).fetchall()
    connection.executemany(
        f"UPDATE recipient SET {change} WHERE message = :message AND number = :number",  # noqa: S608
        [{"message": row[0], "number": row[1], "now": now, "value": value} for row in rows],
    )
    messages: dict[str, int] = {}
    for row in rows:
        messages[row[3]] = messages.get(row[3], 0) + 1
    last = rows[-1][:2] if len(rows) == limit else None
    return Portion(messages, frozenset(row[2] for row in rows), last)


def hasten(connection: sqlite3.Connection, destination: str, limit: int, now: float) -> Portion:
    """Have mail that was delayed because nobody at a destination could be spoken to due at once.

    ``messages`` says how many of up to ``limit`` recipients there were.
    """
    rows = connection.execute(
        "SELECT r.message, r.number, m.id FROM recipient AS r JOIN message AS m ON m.number = r.message"
        " WHERE r.destination = ? AND r.state = 'waiting' AND r.scope = 'host' AND r.next_attempt > ?"
        " LIMIT ?",
        (destination, now, limit),
    ).fetchall()
    connection.executemany(
        "UPDATE recipient SET next_attempt = ? WHERE message = ? AND number = ?",
        [(now, message, number) for message, number, _ in rows],
    )
    messages: dict[str, int] = {}
    for _, _, id in rows:
        messages[id] = messages.get(id, 0) + 1
    return Portion(messages, frozenset({destination} if rows else ()))


# --- what stands ---------------------------------------------------------------------------------------


@frozen
class Rule:
    """Mail that comes is held where ``field`` is ``value``: a domain, or an address."""

    number: int
    field: str
    value: str

    def matches(self, sender: Address, recipient: Address) -> bool:
        """Whether it is about this recipient of this sender's mail."""
        if self.field == "domain":
            return recipient.domain == self.value
        address = sender if self.field == "sender" else recipient
        return self.value in (address.key, address.domain, "<>" if address.is_null else address.key)


def read_rules(connection: sqlite3.Connection) -> tuple[Rule, ...]:
    """The rules that stand."""
    rows = connection.execute("SELECT number, field, value FROM rule ORDER BY number").fetchall()
    return tuple(Rule(*row) for row in rows)


@frozen
class StandingOrders:
    """What holds for all mail until the administrator says otherwise.

    :ivar paused: the destinations that nothing is taken for; :data:`EVERYTHING` among them: any.
    """

    rules: tuple[Rule, ...] = ()
    paused: frozenset[str] = frozenset()

    def concern(self, envelope: Envelope) -> bool:
        """Whether they keep the message from any of its recipients."""
        if EVERYTHING in self.paused:
            return True
        for recipient in envelope.recipients:
            address = recipient.address
            if address.domain in self.paused:
                return True
            for rule in self.rules:
                if rule.matches(envelope.sender, address):
                    return True
        return False


def read_requests(connection: sqlite3.Connection) -> StandingOrders:
    """The orders that stand."""
    paused = frozenset(name for (name,) in connection.execute("SELECT name FROM pause"))
    return StandingOrders(read_rules(connection), paused)


def add_rule(connection: sqlite3.Connection, field: str, value: str, now: float) -> int:
    """Have a rule from now on; its number."""
    sql = "INSERT INTO rule (field, value, since) VALUES (?, ?, ?)"
    number = connection.execute(sql, (field, value, now)).lastrowid
    assert number is not None
    return number


def remove_rule(connection: sqlite3.Connection, number: int) -> bool:
    """Have it no more; whether there was one."""
    return connection.execute("DELETE FROM rule WHERE number = ?", (number,)).rowcount > 0


def pause(connection: sqlite3.Connection, name: str, now: float) -> None:
    """Nothing more is taken for this destination, or for :data:`EVERYTHING`."""
    connection.execute("INSERT OR IGNORE INTO pause (name, since) VALUES (?, ?)", (name, now))


def resume(connection: sqlite3.Connection, name: str) -> bool:
    """The opposite; whether it was paused. Resuming everything ends all pauses."""
    where = "name = ? OR ? = '*'"
    return connection.execute(f"DELETE FROM pause WHERE {where}", (name, name)).rowcount > 0  # noqa: S608


# --- one message ---------------------------------------------------------------------------------------


def edit(
    connection: sqlite3.Connection,
    id: str,
    sender: Address | None,
    replaced: Mapping[str, Address],
    added: Sequence[Address],
    removed: Sequence[str],
    now: float,
) -> Portion:
    """Change the envelope of a message that nobody delivers now.

    Raises :class:`NoSuchMessage`, and then nothing is changed. The last recipient cannot be removed.
    """
    found = connection.execute("SELECT number FROM message WHERE id = ?", (id,)).fetchone()
    if found is None:
        raise NoSuchMessage(f"{id} is not in the queue")
    (message,) = found
    if sender is not None:
        connection.execute("UPDATE message SET sender = ? WHERE number = ?", (spell_address(sender), message))
    concerned = set()
    for old, new in replaced.items():
        number, before = _open_recipient(connection, message, old)
        concerned |= {before, new.domain}
        connection.execute(
            # Not 0 attempts for who has had some: they are in the message's story.
            "UPDATE recipient SET address = ?, destination = ?, attempts = min(attempts, 1), next_attempt = ?"
            " WHERE message = ? AND number = ?",
            (spell_address(new), new.domain, now, message, number),
        )
    for address in added:
        concerned.add(address.domain)
        connection.execute(
            "INSERT INTO recipient (message, number, address, original, destination, state, next_attempt)"
            " SELECT ?, max(number) + 1, ?, '', ?, 'waiting', ? FROM recipient WHERE message = ?",
            (message, spell_address(address), address.domain, now, message),
        )
    for address_removed in removed:
        number, before = _open_recipient(connection, message, address_removed)
        concerned.add(before)
        connection.execute(
            "UPDATE recipient SET state = 'failed', last_attempt = ?, status = '5.7.0', scope = 'recipient',"
            " reply = 'removed by the administrator', host = '', code = 0 WHERE message = ? AND number = ?",
            (now, message, number),
        )
    left = "SELECT 1 FROM recipient WHERE message = ? AND state IN ('waiting', 'held')"
    if connection.execute(left, (message,)).fetchone() is None:
        raise NoSuchMessage("no recipient would be left: drop the message instead")
    return Portion({id: len(concerned)}, frozenset(concerned))


def _open_recipient(connection: sqlite3.Connection, message: int, address: str) -> tuple[int, str]:
    row: tuple[int, str] | None = connection.execute(
        "SELECT number, destination FROM recipient"
        " WHERE message = ? AND lower(address) = ? AND state IN ('waiting', 'held')",
        (message, address.lower()),
    ).fetchone()
    if row is None:
        raise NoSuchMessage(f"nobody waits for {address} there")
    return row

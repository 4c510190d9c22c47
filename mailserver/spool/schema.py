"""The tables of the spool database, and how a connection to it is made.

``message`` has one row for each message, ``recipient`` one for each of its recipients with all that is known
of it (state, next attempt, last outcome), so that the queue tools are queries. ``content`` holds small
contents beside the messages, so that listing them reads none of it; each with a CRC-32, since SQLite does
not see damage inside a value. A large content is the file that ``message.file`` names.

``destination`` has one row for each domain that somebody waits for, with the earliest ``next_attempt`` there.
It is derived from ``recipient`` and kept in the same transactions. Because of it, finding what is due costs
nothing for what is not: neither for messages nor for destinations.

What the administrator has ordered is here too, so that it outlives a restart: ``recipient.hold`` says why one
is held, ``recipient.route`` which host it is to go to instead; ``pause`` names the destinations that nothing
is taken for (``*``: all), ``rule`` the rules by which arriving mail is held. ``attempt`` holds what was tried
for messages that still wait.

``PRAGMA user_version`` is the version of this layout. An older database is brought up to it by the same
statements that make a new one (:func:`upgrade`), so both have their tables at the same places. A database of
a newer version is not touched.
"""

import sqlite3
from pathlib import Path

__all__ = [
    "OPEN_STATES",
    "PAGE",
    "VERSION",
    "SpoolUnusable",
    "connect",
    "create",
    "probe",
    "upgrade",
    "version",
]

VERSION = 2

PAGE = 4096
"""Octets of a database page."""

OPEN_STATES = "('waiting', 'held')"
"""The states of a recipient whose message must be kept, as SQL. The others: delivered, failed."""

_VERSION_1 = """
CREATE TABLE message (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    arrived  REAL NOT NULL,
    sender   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    facts    TEXT NOT NULL,
    file     TEXT
);
CREATE TABLE content (
    message  INTEGER PRIMARY KEY,
    crc      INTEGER NOT NULL,
    octets   BLOB NOT NULL
);
CREATE TABLE recipient (
    message       INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    address       TEXT NOT NULL,
    original      TEXT NOT NULL,
    notify        TEXT,
    destination   TEXT NOT NULL,
    state         TEXT NOT NULL,
    next_attempt  REAL NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    warned        INTEGER NOT NULL DEFAULT 0,
    last_attempt  REAL,
    scope         TEXT,
    status        TEXT,
    reply         TEXT,
    host          TEXT,
    code          INTEGER,
    PRIMARY KEY (message, number)
) WITHOUT ROWID;
CREATE INDEX due ON recipient (destination, next_attempt) WHERE state = 'waiting';
CREATE TABLE destination (
    name  TEXT PRIMARY KEY,
    due   REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX destination_due ON destination (due);
"""

_VERSION_2 = """
ALTER TABLE message ADD COLUMN message_id TEXT;
ALTER TABLE recipient ADD COLUMN hold TEXT;
ALTER TABLE recipient ADD COLUMN route TEXT;
CREATE TABLE attempt (
    number   INTEGER PRIMARY KEY,
    message  INTEGER NOT NULL,
    facts    TEXT NOT NULL
);
CREATE INDEX attempt_message ON attempt (message);
CREATE TABLE pause (
    name   TEXT PRIMARY KEY,
    since  REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE rule (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    field   TEXT NOT NULL,
    value   TEXT NOT NULL,
    since   REAL NOT NULL
);
"""

_STEPS = (_VERSION_1, _VERSION_2)

_PROBES = (
    "SELECT number, id, arrived, sender, size, facts, file FROM message LIMIT 1",
    "SELECT message, crc, octets FROM content LIMIT 1",
    "SELECT message, number, reply FROM recipient INDEXED BY due WHERE state = 'waiting' LIMIT 1",
    "SELECT name, due FROM destination INDEXED BY destination_due ORDER BY due LIMIT 1",
)
_PROBES_2 = (
    "SELECT message_id FROM message LIMIT 1",
    "SELECT hold, route FROM recipient LIMIT 1",
    "SELECT number, facts FROM attempt INDEXED BY attempt_message WHERE message = 0",
    "SELECT name, since FROM pause LIMIT 1",
    "SELECT number, field, value, since FROM rule LIMIT 1",
)


class SpoolUnusable(Exception):
    """The spool cannot be opened, and setting it aside would be wrong. The text is for the operator."""


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Connect, with every transaction begun and ended by hand.

    The connection may pass from thread to thread but is for one at a time. It waits up to 10 s for a lock of
    another process.
    """
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=10,
        isolation_level=None,
        check_same_thread=False,
    )
    # Some builds overwrite what is deleted with zeros; each removed message would be written once more.
    connection.execute("PRAGMA secure_delete = FAST")
    # What a savepoint may have to undo would go, with the mail that is in it, to a file in /var/tmp.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def version(connection: sqlite3.Connection) -> int:
    """The version of the layout; 0 where there are no tables yet."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database, all or none."""
    connection.execute(f"PRAGMA page_size = {PAGE}")
    upgrade(connection)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the layout up to :data:`VERSION`, in one transaction. Does nothing where it is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        there = version(connection)
        for step in _STEPS[there:]:
            for statement in step.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        if there < VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def probe(connection: sqlite3.Connection) -> None:
    """Use every table and index once. Raises :class:`sqlite3.Error` if one is not as it should be."""
    for statement in _PROBES if version(connection) == 1 else _PROBES + _PROBES_2:
        connection.execute(statement).fetchall()

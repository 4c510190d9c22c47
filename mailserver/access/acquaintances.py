"""To whom each user has written before, remembered over restarts in a small SQLite file.

A stolen password shows in this: its thief writes to people the user never wrote to. So new recipients of a
day are counted, and what is over the limit is not remembered: it stays new until the admin has looked.

All calls block and belong in one thread (:class:`mailserver.threads.Pool`). The file is bounded: of one user
the recipients written to longest ago are forgotten first. What it holds can be lost without harm, so it is
written without fsync, and one that is damaged is set aside, with ``.damaged`` behind its name.
"""

import sqlite3
from pathlib import Path

__all__ = ["Acquaintances"]

_DAY = 86400.0
_REMEMBERED = 10_000

_TABLES = """
CREATE TABLE IF NOT EXISTS known (
    user       TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    first      REAL NOT NULL,
    last       REAL NOT NULL,
    PRIMARY KEY (user, recipient)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_first ON known (user, first);
CREATE INDEX IF NOT EXISTS known_last ON known (user, last);
"""
_SEEN = "UPDATE known SET last = ? WHERE user = ? AND recipient = ?"
_NEW = "SELECT count(*) FROM known WHERE user = ? AND first > ?"
_ADD = "INSERT INTO known (user, recipient, first, last) VALUES (?, ?, ?, ?)"
_PRUNE = """
    DELETE FROM known WHERE user = ?1 AND last <=
        (SELECT last FROM known WHERE user = ?1 ORDER BY last DESC LIMIT 1 OFFSET ?2)
"""


class Acquaintances:
    """The file.

    :param remembered: how many recipients of one user.
    """

    def __init__(self, path: Path, remembered: int = _REMEMBERED) -> None:
        self._path = path
        self._remembered = remembered
        self._connection: sqlite3.Connection | None = None
        self._added = 0

    def meet(self, user: str, recipient: str, most: int, now: float) -> bool:
        """Whether the user may write to the recipient: known, or among the first ``most`` new ones of a day.

        Raises ``sqlite3.Error`` or ``OSError`` for the disk.
        """
        connection = self._open()
        with connection:
            if connection.execute(_SEEN, (now, user, recipient)).rowcount:
                return True
            (new,) = connection.execute(_NEW, (user, now - _DAY)).fetchone()
            if new >= most:
                return False
            connection.execute(_ADD, (user, recipient, now, now))
            self._added += 1
            if self._added % 100 == 0:
                connection.execute(_PRUNE, (user, self._remembered))
        return True

    def close(self) -> None:
        """Close the file. Harmless when it is not open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # the disk, not what is on it
                self._path.rename(self._path.with_name(self._path.name + ".damaged"))
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(0o600)  # SQLite's own files beside it get the mode of this one
        # Opened in one thread of a pool and closed at the end in the same.
        connection = sqlite3.connect(self._path)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

"""The policies of MTA-STS that were fetched, kept over restarts in a small SQLite file.

Who could keep us from fetching a policy must not gain by a restart (RFC 8461 §10.2). All calls block and
belong in one thread (:class:`mailserver.threads.Pool`). The file is bounded: the policies fetched longest ago
go first. A file that is damaged is set aside, with ``.damaged`` behind its name: its policies are fetched
anew.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import frozen

__all__ = ["PolicyFile", "Row"]

_TABLE = """
CREATE TABLE IF NOT EXISTS policy (
    domain   TEXT PRIMARY KEY,
    id       TEXT NOT NULL,
    fetched  REAL NOT NULL,
    text     BLOB NOT NULL
) WITHOUT ROWID
"""
_PRUNE = """
    DELETE FROM policy WHERE fetched <
        (SELECT fetched FROM policy ORDER BY fetched DESC LIMIT 1 OFFSET ?)
"""

T = TypeVar("T")


@frozen
class Row:
    """One policy as it was fetched.

    :ivar fetched: when, in seconds since 1970.
    """

    domain: str
    id: str
    fetched: float
    text: bytes


class PolicyFile:
    """The file.

    :param most: how many policies.
    """

    def __init__(self, path: Path, most: int = 10_000) -> None:
        self._path = path
        self._most = most

    def read(self) -> list[Row]:
        """All of them, those fetched last at the end. Raises ``sqlite3.Error`` or ``OSError``."""
        columns = "SELECT domain, id, fetched, text FROM policy ORDER BY fetched"
        return self._with(lambda file: [Row(*row) for row in file.execute(columns)])

    def put(self, row: Row) -> None:
        """Keep one, durably, in the place of the domain's last. Raises ``sqlite3.Error`` or ``OSError``."""

        def put(file: sqlite3.Connection) -> None:
            values = (row.domain, row.id, row.fetched, row.text)
            file.execute("INSERT OR REPLACE INTO policy VALUES (?, ?, ?, ?)", values)
            file.execute(_PRUNE, (self._most - 1,))

        self._with(put)

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on the file in one transaction. It is open for no longer: policies are fetched rarely."""
        try:
            return self._try(work)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # the disk, not what is on it
            self._path.rename(self._path.with_name(self._path.name + ".damaged"))
            return self._try(work)

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._path.touch(0o600)
        file = sqlite3.connect(self._path)
        try:
            with file:
                file.execute(_TABLE)
                return work(file)
        finally:
            file.close()

"""Many rows in few statements.

Each step of a statement lets go of the interpreter's lock, and has to wait for having it back while other
threads are busy. A statement of many rows is one step. To hand the rows over as JSON, for SQLite to take
apart, is one step too, and takes half as long again.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

__all__ = ["insert"]

_SIZES = (64, 16, 4, 1)
"""Rows of one statement, which has at most 999 values where SQLite is old."""


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows, all with as many values, of which there are at most 15; within a transaction.

    Raises :class:`sqlite3.Error`, or ``UnicodeEncodeError`` for a text that is none; some may be there then.

    :param into: the table and its columns, as in ``message (number, octets)``.
    """
    done = 0
    for size in _SIZES:
        while len(rows) - done >= size:
            some = rows[done : done + size]
            statement = _statement(into, size, len(some[0]))
            connection.execute(statement, tuple(chain.from_iterable(some)))
            done += size


@cache
def _statement(into: str, rows: int, values: int) -> str:
    row = f"({', '.join('?' * values)})"
    return f"INSERT INTO {into} VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own tables

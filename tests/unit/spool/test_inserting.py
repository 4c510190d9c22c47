"""Many rows in few statements: all of them, in order, whatever their number."""

import sqlite3
from collections.abc import Iterator

import pytest

from mailserver.spool.inserting import insert


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute("CREATE TABLE thing (number INTEGER PRIMARY KEY, name TEXT NOT NULL, octets BLOB)")
    yield made
    made.close()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 15, 16, 17, 63, 64, 65, 85, 128, 200])
def test_all_rows_are_there(connection: sqlite3.Connection, count: int) -> None:
    told: list[str] = []
    connection.set_trace_callback(told.append)
    rows = [(number, f"it's {number}", bytes([number])) for number in range(count)]
    insert(connection, "thing (number, name, octets)", rows)
    assert len(told) <= count // 64 + 9
    assert connection.execute("SELECT * FROM thing ORDER BY number").fetchall() == rows


def test_a_row_that_cannot_be_is_told(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(connection, "thing (number, name)", [(1, "one"), (2, None), (3, "three"), (4, "four")])

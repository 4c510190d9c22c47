"""Acquaintances: new recipients of a day are counted, known ones are not, and the file may break."""

import sqlite3
from pathlib import Path

import pytest

from mailserver.access.acquaintances import Acquaintances

DAY = 86400.0
ALICE = "alice@example.lan"


def new(acquaintances: Acquaintances, count: int, now: float, prefix: str = "r") -> int:
    return sum(
        acquaintances.meet(ALICE, f"{prefix}{number}@elsewhere.example", 5, now) for number in range(count)
    )


def test_new_ones_are_limited_and_known_ones_are_not(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path / "known.sqlite")
    assert new(acquaintances, 10, 100.0) == 5
    assert new(acquaintances, 10, 200.0) == 5, "what was over the limit is still new"
    assert acquaintances.meet("bob@example.lan", "r9@elsewhere.example", 5, 200.0), "each user for himself"
    assert new(acquaintances, 10, 101.0 + DAY) == 10, "another day, five more"
    acquaintances.close()


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = Acquaintances(tmp_path / "known.sqlite")
    assert new(first, 3, 100.0) == 3
    first.close()
    second = Acquaintances(tmp_path / "known.sqlite")
    assert new(second, 10, 200.0) == 5
    second.close()
    second.close()


def test_bounded(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path / "known.sqlite", remembered=50)
    for number in range(400):
        assert acquaintances.meet(ALICE, f"r{number}@elsewhere.example", 1000, float(number))
    acquaintances.close()
    with sqlite3.connect(tmp_path / "known.sqlite") as connection:
        (count,) = connection.execute("SELECT count(*) FROM known").fetchone()
        (oldest,) = connection.execute("SELECT min(last) FROM known").fetchone()
    connection.close()
    assert (count, oldest) == (50, 350.0)


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "known.sqlite"
    path.write_bytes(b"not a database" * 1000)
    acquaintances = Acquaintances(path)
    assert new(acquaintances, 1, 100.0) == 1
    acquaintances.close()
    assert (tmp_path / "known.sqlite.damaged").exists()


def test_no_disk_is_told(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path / "missing" / "known.sqlite")
    with pytest.raises(OSError, match="No such file"):
        new(acquaintances, 1, 100.0)


def test_nobody_else_may_read_who_writes_to_whom(tmp_path: Path) -> None:
    acquaintances = Acquaintances(tmp_path / "known.sqlite")
    assert new(acquaintances, 1, 100.0) == 1
    assert (tmp_path / "known.sqlite").stat().st_mode & 0o777 == 0o600
    acquaintances.close()

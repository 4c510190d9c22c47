"""A damaged database: how it is found, set aside, and what is saved of it.

Nothing of a damaged database is ever deleted or written to. Its files are renamed to
``spool.db.corrupt-TIME`` (with ``-wal`` and ``-shm``, so that ``sqlite3`` opens it as it was), after every
message that can still be read whole, envelope, recipients and content, has been copied to a new database.
Content files that no saved message names move to ``content.corrupt-TIME``.

A crash in the middle does no harm: the new database gets its name only when it is complete, and until the old
one is set aside the next start begins again.
"""

import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from mailserver.spool import schema
from mailserver.spool.disk import Disk

__all__ = ["NEW", "is_sound", "make", "save", "set_aside"]

NEW = "spool.db.new"
"""The new database while it is being filled."""

_PATIENCE = 3.0
_STEPS = 50_000

_COPIED = {
    "message": ("number", "number, id, arrived, sender, size, facts, file, message_id"),
    "recipient": (
        "message",
        "message, number, address, original, notify, destination, state, next_attempt, attempts, warned,"
        " last_attempt, scope, status, reply, host, code, hold, route",
    ),
    "content": ("message", "message, crc, octets"),
}
_SINCE_VERSION_2 = {"message": ", message_id", "recipient": ", hold, route"}
_ORDERS = {"pause": "name, since", "rule": "number, field, value, since"}


def is_sound(connection: sqlite3.Connection, thoroughly: bool) -> bool:
    """Whether SQLite finds the database well-formed.

    Looks for 3 seconds at most unless ``thoroughly``: a large queue must not keep the server from starting,
    and damage that this misses is dealt with when it is met. Raises :class:`sqlite3.Error` for some damage.
    """
    if not thoroughly:
        end = time.monotonic() + _PATIENCE
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        rows: list[tuple[str]] = connection.execute("PRAGMA quick_check(1)").fetchall()
        return rows == [("ok",)]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return True
        raise
    finally:
        connection.set_progress_handler(None, 0)


def make(disk: Disk, new: Path) -> None:
    """Make an empty spool database, in place of a half-made one that a crash left behind."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        disk.remove(new.with_name(new.name + suffix))
    disk.close(disk.create(new))
    with closing(schema.connect(new)) as connection:
        schema.create(connection)


def save(disk: Disk, damaged: Path) -> tuple[int, int]:
    """Fill a new database beside the damaged one.

    :returns: how many messages were saved, and how many were seen but cannot be read whole.
    """
    new = damaged.parent / NEW
    make(disk, new)
    with closing(schema.connect(new)) as target:
        target.execute("BEGIN IMMEDIATE")
        saved, lost = _save_from(damaged, target)
        if not saved:
            saved, lost = _save_with_a_new_first_page(damaged, target)
        target.execute(
            "INSERT INTO destination SELECT destination, min(next_attempt) FROM recipient"
            " WHERE state = 'waiting' GROUP BY destination"
        )
        target.execute("COMMIT")
    disk.sync_directory(damaged.parent)
    return saved, lost


def set_aside(disk: Disk, damaged: Path, stamp: str) -> Path:
    """Rename the damaged database, and let the new one take its place; the damaged one's new name."""
    aside = damaged.with_name(f"{damaged.name}.corrupt-{stamp}")
    for number in count(2):
        if not aside.exists():
            break
        aside = damaged.with_name(f"{damaged.name}.corrupt-{stamp}-{number}")
    for suffix in ("-wal", "-shm", ""):  # the database last: while it stands, the next start begins again
        with suppress(FileNotFoundError):
            damaged.with_name(damaged.name + suffix).rename(aside.with_name(aside.name + suffix))
    disk.sync_directory(damaged.parent)
    damaged.with_name(NEW).rename(damaged)
    disk.sync_directory(damaged.parent)
    return aside


def _save_from(damaged: Path, target: sqlite3.Connection) -> tuple[int, int]:
    saved = lost = 0
    with suppress(sqlite3.Error), closing(schema.connect(damaged, read_only=True)) as source:
        source.text_factory = _strict_text
        source.execute("PRAGMA writable_schema = ON")  # else a file cut short is not read at all
        _save_orders(source, target)
        copied = _columns(source)
        for number in _numbers(source):
            if _save_message(source, target, number, copied):
                saved += 1
            else:
                lost += 1
    return saved, lost


def _strict_text(octets: bytes) -> str:
    return octets.decode()


def _columns(source: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """What is copied of each table: all, or what a database of version 1 has of it."""
    copied = {}
    for table, (key, columns) in _COPIED.items():
        try:
            # Compiling it looks at the layout only, not at a row that may be damaged.
            source.execute(f"EXPLAIN SELECT {columns} FROM {table}")  # noqa: S608
        except sqlite3.OperationalError:
            columns = columns.removesuffix(_SINCE_VERSION_2.get(table, ""))
        copied[table] = key, columns
    return copied


def _save_orders(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """What the administrator has ordered, as far as it can be read."""
    for table, columns in _ORDERS.items():
        marks = ", ".join("?" * (columns.count(",") + 1))
        with suppress(sqlite3.Error, UnicodeDecodeError):
            rows = source.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608
            target.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608


def _save_message(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    number: int,
    copied: Mapping[str, tuple[str, str]],
) -> bool:
    target.execute("SAVEPOINT message")
    try:
        for table, (key, columns) in copied.items():
            rows = source.execute(f"SELECT {columns} FROM {table} WHERE {key} = ?", (number,)).fetchall()  # noqa: S608
            if table == "content":
                rows = [row for row in rows if _is_whole(target, *row)]
            if not rows and (table != "content" or _needs_content(target, number)):
                raise LookupError(table)
            marks = ", ".join("?" * (columns.count(",") + 1))
            target.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608
    except (sqlite3.Error, LookupError, UnicodeDecodeError):
        target.execute("ROLLBACK TO message")
        return False
    finally:
        target.execute("RELEASE message")
    return True


def _needs_content(target: sqlite3.Connection, number: int) -> bool:
    (file,) = target.execute("SELECT file FROM message WHERE number = ?", (number,)).fetchone()
    return file is None


def _is_whole(target: sqlite3.Connection, number: int, crc: Any, octets: Any) -> bool:
    (size,) = target.execute("SELECT size FROM message WHERE number = ?", (number,)).fetchone()
    return isinstance(octets, bytes) and len(octets) == size and crc32(octets) == crc


def _numbers(source: sqlite3.Connection) -> Iterator[int]:
    """The numbers of all messages that some table still knows of, upwards and each once.

    Each table is walked from both ends to its first damage; what lies between is asked for one by one.
    """
    ends: list[set[int]] = []
    gaps: list[range] = []
    for table, (key, _) in _COPIED.items():
        up = list(_walk(source, table, key, "ASC"))
        down = list(_walk(source, table, key, "DESC"))
        ends.append({*up, *down})
        if up and down:
            gaps.append(range(up[-1] + 1, down[-1]))
    known: set[int] = set().union(*ends)
    gap = max(gaps, key=len, default=range(0))
    known.update(number for number in gap[:_MOST_GUESSES] if _exists(source, number))
    yield from sorted(known)


_MOST_GUESSES = 1_000_000


def _walk(source: sqlite3.Connection, table: str, key: str, order: str) -> Iterator[int]:
    with suppress(sqlite3.Error):
        for (number,) in source.execute(f"SELECT {key} FROM {table} ORDER BY {key} {order}"):  # noqa: S608
            if isinstance(number, int):
                yield number


def _exists(source: sqlite3.Connection, number: int) -> bool:
    try:
        return source.execute("SELECT 1 FROM message WHERE number = ?", (number,)).fetchone() is not None
    except sqlite3.Error:
        return False


def _save_with_a_new_first_page(damaged: Path, target: sqlite3.Connection) -> tuple[int, int]:
    """Try again on a copy whose first page is that of an empty spool.

    The first page holds the header and where each table begins, and tables made by the same statements
    begin at the same places. So a file whose beginning was overwritten gives its messages back.
    """
    copy = damaged.with_name("spool.db.copy")
    try:
        _copy_with_first_page(damaged, copy)
        return _save_from(copy, target)
    except OSError:
        return 0, 0  # no room for a copy, or nothing to copy
    finally:
        for suffix in ("", "-wal", "-shm"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def _copy_with_first_page(damaged: Path, copy: Path) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        schema.create(empty)
        page = bytearray(empty.serialize()[: schema.PAGE])
    shutil.copyfile(damaged, copy)
    with suppress(FileNotFoundError):
        shutil.copyfile(damaged.with_name(damaged.name + "-wal"), copy.with_name(copy.name + "-wal"))
    # Write-ahead log version 2, the size of this file in pages, and no list of free pages.
    page[18:20] = b"\x02\x02"
    page[28:32] = (copy.stat().st_size // len(page)).to_bytes(4, "big")
    page[32:40] = bytes(8)
    with copy.open("r+b") as file:
        file.write(page)

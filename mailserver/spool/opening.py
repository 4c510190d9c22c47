"""What is done to the spool's directory before the server serves; all of it blocks.

In this order: directories are made or their modes mended; the database is checked through a connection that
cannot write, and made anew around its readable messages if it is damaged (:mod:`~mailserver.spool.mending`);
content files without a message, which a crash left behind, are removed.

The check is bounded in time (3 s) unless damage was met while the server ran: that leaves a mark, the file
``damaged``, and the next start looks at everything. A kill or a crash alone does not damage the database.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mailserver.spool import mending, schema
from mailserver.spool.disk import Disk
from mailserver.spool.schema import SpoolUnusable
from mailserver.spool.trouble import is_damage

__all__ = ["CONTENT", "DATABASE", "MARK", "open_checkpointer", "open_writer", "prepare", "sweep"]

DATABASE = "spool.db"
CONTENT = "content"
MARK = "damaged"

_JOURNAL_KEPT = 64 * 1024 * 1024


def prepare(directory: Path, disk: Disk, stamp: str, tell: Callable[[str], None]) -> None:
    """Make sure that a sound database of our version is there.

    :param stamp: becomes part of the name of what is set aside.
    :param tell: told in words what was wrong and what was done.

    Raises :class:`SpoolUnusable`, or ``OSError`` from the disk.
    """
    disk.make_directory(directory)
    disk.make_directory(directory / CONTENT)
    database, new, mark = directory / DATABASE, directory / mending.NEW, directory / MARK
    if not database.exists():
        # A first start, a database that is gone, or a crash between the two renames of a mending.
        if not (new.exists() and _finding(new, thoroughly=True) is None):
            mending.make(disk, new)
        if aside := _set_stray_aside(disk, new, stamp):
            tell(f"{database} is missing; the content of its messages is set aside as {aside}")
        new.rename(database)
        disk.sync_directory(directory)
    finding = _finding(database, thoroughly=mark.exists())
    if finding is not None:
        _mend(disk, database, stamp, lambda text: tell(f"{finding}; {text}"))
    database.chmod(0o600)
    disk.remove(mark)


def _finding(database: Path, thoroughly: bool) -> str | None:
    """What is damaged; ``None`` if nothing seems to be."""
    try:
        # A connection that could write would write the log into the damaged database on closing.
        with closing(schema.connect(database, read_only=True)) as connection:
            version = schema.version(connection)
            if version > schema.VERSION:
                raise SpoolUnusable(
                    f"{database} was written by a newer version of this server"
                    f" (layout {version}, known are layouts up to {schema.VERSION})"
                )
            schema.probe(connection)
            return None if mending.is_sound(connection, thoroughly) else "it is not well-formed"
    except sqlite3.Error as error:
        # Error 1 is a table that is not as it should be; without a code it is a value that is not.
        if is_damage(error) or getattr(error, "sqlite_errorcode", 1) == sqlite3.SQLITE_ERROR:
            return str(error)
        raise SpoolUnusable(f"{database} cannot be opened: {error}") from error


def _mend(disk: Disk, database: Path, stamp: str, tell: Callable[[str], None]) -> None:
    saved, lost = mending.save(disk, database)
    _set_stray_aside(disk, database.with_name(mending.NEW), stamp)
    kept = mending.set_aside(disk, database, stamp)
    tell(f"set aside as {kept}; {saved} messages saved from it, {lost} seen but not readable")


def _set_stray_aside(disk: Disk, new: Path, stamp: str) -> Path | None:
    """Move the content that the new database does not name out of the way; where it is now, if any."""
    with closing(schema.connect(new)) as connection:
        stray = _stray(connection, new.parent / CONTENT)
    if not stray:
        return None
    # It belongs to messages that were lost with the old database: not to be swept as litter.
    aside = new.with_name(f"{CONTENT}.corrupt-{stamp}")
    disk.make_directory(aside)
    for path in stray:
        path.rename(aside / path.name)
    disk.sync_directory(aside)
    return aside


def open_writer(directory: Path) -> sqlite3.Connection:
    """The connection that commits. Raises :class:`SpoolUnusable`."""
    database = directory / DATABASE
    try:
        connection = schema.connect(database)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        schema.upgrade(connection)
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # mailserver.spool.checkpoints
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_KEPT}")
    except sqlite3.Error as error:
        raise SpoolUnusable(f"{database} cannot be opened: {error}") from error
    return connection


def open_checkpointer(directory: Path) -> sqlite3.Connection:
    """The connection that copies the log into the database."""
    connection = schema.connect(directory / DATABASE)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def sweep(connection: sqlite3.Connection, directory: Path, disk: Disk, tell: Callable[[str], None]) -> None:
    """Remove content files that no message names; tell of messages whose file is not there."""
    contents = directory / CONTENT
    for path in _stray(connection, contents):
        disk.remove(path)
    there = {path.name for path in contents.iterdir()}
    for id_, file in connection.execute("SELECT id, file FROM message WHERE file IS NOT NULL"):
        if file not in there:
            tell(f"the content of message {id_} is missing: {contents / file}")


def _stray(connection: sqlite3.Connection, contents: Path) -> list[Path]:
    named = {file for (file,) in connection.execute("SELECT file FROM message WHERE file IS NOT NULL")}
    return [path for path in contents.iterdir() if path.name not in named and not path.is_dir()]

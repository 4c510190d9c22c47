"""Deleted mail, kept for some days: ``deleted/2026-11-23/`` in the mailbox.

A message that POP3 deletes is moved there under the name it had. No mail program shows that directory: it is
neither ``new/`` nor ``cur/``, and not a folder of Maildir++, whose names begin with a dot. It is outside the
quota. An admin may look into it with any tool; :func:`restore` brings messages back as new mail: under
another unique part, so that clients which remember the unique-ids they have seen fetch them again.

Days are the server's local ones. Everything here blocks and is called in a thread. Raises ``OSError``.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from attrs import frozen

from mailserver.mailboxes import filenames, quota
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.maildir import Disk, sync_directory

__all__ = ["FOLDER", "Kept", "keeper", "kept", "local_day", "restore", "sweep"]

FOLDER = "deleted"


@frozen
class Kept:
    """A deleted message: when it was deleted, and where it is."""

    day: date
    path: Path


def local_day(now: float) -> date:
    """The day it is here, at so many seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).astimezone().date()


def keeper(directory: Path, day: date) -> Callable[[str], None]:
    """What moves messages of the mailbox, by their paths, to where deleted mail is kept.

    It raises ``FileNotFoundError`` for one that is gone.
    """
    folder = directory / FOLDER / day.isoformat()

    def keep(path: str) -> None:
        target = f"{folder}/{os.path.basename(path)}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            # It is gone, or nothing has been deleted yet today.
            for made in (folder.parent, folder):
                made.mkdir(mode=0o700, exist_ok=True)
            os.rename(path, target)

    return keep


def sweep(directory: Path, today: date, days: int) -> None:
    """Remove for good what was deleted more than so many days ago. What cannot be removed stays."""
    for day, folder in _folders(directory):
        if day < today - timedelta(days):
            shutil.rmtree(folder, ignore_errors=True)


def kept(directory: Path, since: date = date.min) -> list[Kept]:
    """The messages deleted since that day, in the order of their deletion and arrival."""
    found = []
    for day, folder in sorted(_folders(directory)):
        if day >= since:
            names = [name for name in os.listdir(folder) if filenames.is_message(name)]
            names.sort(key=lambda name: filenames.facts(name).arrival)
            found += [Kept(day, folder / name) for name in names]
    return found


def restore(directory: Path, messages: Sequence[Kept], names: UniqueNames, disk: Disk) -> int:
    """Put messages back into ``new/``; how many there were still. The quota is not asked."""
    restored = 0
    for message in messages:
        sizes = message.path.name.partition(":")[0].partition(",")[2]
        name = f"{names.make()},{sizes}" if sizes else names.make()
        with quota.locked(directory), suppress(FileNotFoundError):
            octets = message.path.lstat().st_size
            message.path.rename(directory / "new" / name)
            quota.note(directory, octets, 1)
            restored += 1
    sync_directory(directory / "new", disk)
    return restored


def _folders(directory: Path) -> Iterator[tuple[date, Path]]:
    try:
        with os.scandir(directory / FOLDER) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in names:
        with suppress(ValueError):
            yield date.fromisoformat(name), directory / FOLDER / name

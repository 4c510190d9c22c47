"""What lies in a Maildir at one moment: its messages in order, with sizes and unique-ids.

Sizes are the octets that RETR sends, before stuffing, and come from the files' names; only a file whose name
does not tell is read once. Mail is moved from ``new/`` to ``cur/``, as every reader of a Maildir does; the
unique-id stays. Links, directories, pipes, hidden and unreadable files are no messages. Of two files with
one unique part, which only a copy made by hand can give, the later has another unique-id.

Everything here blocks and is called in a thread. Raises ``OSError``.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mailserver.mailboxes import filenames
from mailserver.mailboxes.maildir import Say
from mailserver.wire.dots import WireForm

__all__ = ["Message", "find_again", "open_message", "snapshot"]

_CHUNK = 64 * 1024


class Message(NamedTuple):
    """One message: its folder (``new`` or ``cur``), file name, octets on the wire and unique-id."""

    folder: str
    name: str
    size: int
    uid: bytes


def snapshot(directory: Path, say: Say) -> list[Message]:
    """The messages in order of arrival."""
    # The place for a listing that is kept and used again while the mtimes of both directories stand still.
    messages: list[Message] = []
    uids: set[bytes] = set()
    for folder, name in sorted(_files(directory), key=lambda place: filenames.arrival(place[1])):
        size = filenames.wire_size(name)
        if size is None:
            size = _measure(directory / folder / name, say)
        if size is not None:
            uid = _uid(name, uids)
            uids.add(uid)
            messages.append(Message(folder, name, size, uid))
    return messages


def find_again(directory: Path) -> dict[str, Path]:
    """Where the messages are now, by unique part, whatever other programs have done to them."""
    return {
        filenames.unique_part(name): directory / folder / name
        for folder in ("new", "cur")
        for name in _listing(directory / folder)
    }


def open_message(path: Path) -> int:
    """A descriptor to read the file by. ``FileNotFoundError`` for what is no file."""
    # A pipe planted under the name would block us, a link lead elsewhere.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(str(path))
    return fd


def _files(directory: Path) -> list[tuple[str, str]]:
    """Folder and name of every message, after those in ``new/`` have been moved."""
    files = [("cur", name) for name in _listing(directory / "cur")]
    uniques = {filenames.unique_part(name) for _, name in files}
    for name in list(_listing(directory / "new")):
        unique = filenames.unique_part(name)
        # A copy made by hand stays where it is: moving it could overwrite the other.
        place = ("new", name) if unique in uniques else _adopt(directory, name)
        uniques.add(unique)
        if place is not None:
            files.append(place)
    return files


def _listing(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            # From the directory itself: no file is looked at.
            if filenames.is_message(entry.name) and entry.is_file(follow_symlinks=False):
                yield entry.name


def _adopt(directory: Path, name: str) -> tuple[str, str] | None:
    """Move a file from ``new/`` to ``cur/``; where it is now, ``None`` if it has vanished."""
    seen = name if ":" in name else f"{name}:2,"
    try:
        os.rename(directory / "new" / name, directory / "cur" / seen)
    except FileNotFoundError:
        return None
    except OSError:
        return "new", name  # a file system that we may only read, say
    return "cur", seen


def _uid(name: str, taken: set[bytes]) -> bytes:
    """The unique-id; another one for a copy of a file that is in the drop already."""
    uid, copy = filenames.uid_of(name), 1
    while uid in taken:
        copy += 1
        uid = filenames.uid_of(f"copy {copy} of {name}")
    return uid


def _measure(path: Path, say: Say) -> int | None:
    """Octets on the wire of a file whose name does not tell; ``None`` for what cannot be read."""
    try:
        fd = open_message(path)
        try:
            return _count(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError:
        say("unreadable message left out", path)
        return None


def _count(fd: int) -> int:
    form, size, last = WireForm(), 0, b"\n"
    while data := os.read(fd, _CHUNK):
        size += len(form.feed(data))
        last = data[-1:]
    return size if last == b"\n" else size + 2  # the end of the data makes a line end of its own

"""What lies in a Maildir at one moment: its messages in order, with sizes and unique-ids.

Sizes are the octets that RETR sends, before stuffing, and come from the files' names; only a file whose name
does not tell is read, once. Mail is moved from ``new/`` to ``cur/``, as every reader of a Maildir does; the
unique-id stays. Links, directories, pipes, hidden and unreadable files are no messages. Of two files with
one unique part, which only a copy made by hand can give, the later has another unique-id.

Everything here blocks and is called in a thread. Raises ``OSError``.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from mailserver.mailboxes import filenames
from mailserver.mailboxes.contents import Contents, Message
from mailserver.mailboxes.maildir import Say

__all__ = ["Message", "find_again", "open_message", "snapshot", "wire_octets"]

_CHUNK = 64 * 1024
_EMPTY = Contents()


def snapshot(directory: Path, say: Say, old: Contents = _EMPTY) -> Contents:
    """The messages in order of arrival.

    :param old: an earlier snapshot: what was read for it is not read again, and where nothing has come but
        what belongs behind it, what was found out about the names is not found out again.
    """
    files = _files(directory)
    stayed = _stayed(old, files)
    if not stayed:
        return Contents(_in_order(directory, files, say, old))
    known = {message.name for message in stayed}
    fresh = [(folder, name) for folder, name in files if name not in known]
    if fresh and min(map(_key, fresh)) < _key(stayed[-1][:2]):
        return Contents(_in_order(directory, files, say, old))
    return Contents([*stayed, *_in_order(directory, fresh, say, old, {message.uid for message in stayed})])


def _stayed(old: Contents, files: list[tuple[str, str]]) -> list[Message]:
    """The messages of an earlier snapshot that are where they were.

    None where it held a copy made by hand, and something has gone: a copy's unique-id depends on what else is
    there.
    """
    places = set(files)
    stayed = [message for message in old if message[:2] in places]
    if len(stayed) < len(old) and len({filenames.unique_part(message.name) for message in old}) < len(old):
        return []
    return stayed


def _key(place: tuple[str, str]) -> tuple[tuple[int, int, int], str]:
    return filenames.facts(place[1]).arrival, place[1]


def _in_order(
    directory: Path,
    files: list[tuple[str, str]],
    say: Say,
    old: Contents,
    taken: set[bytes] | None = None,
) -> list[Message]:
    """The messages in these files.

    :param taken: unique-ids that others have.
    """
    messages: list[Message] = []
    uids = set() if taken is None else taken
    known: Mapping[str, int] | None = None
    for _, name, folder, size, uid in sorted(_look_at(files)):
        if size is None:
            known = _measured(old) if known is None else known
            size = known.get(filenames.unique_part(name))
        if size is None:
            size = _measure(f"{directory}/{folder}/{name}", say)
        if size is not None:
            uid = _uid(name, uid, uids)
            uids.add(uid)
            messages.append(Message(folder, name, size, uid))
    return messages


def _measured(contents: Contents) -> Mapping[str, int]:
    """The sizes, by unique part, of the messages whose names do not tell them."""
    return {
        filenames.unique_part(message.name): message.size
        for message in contents
        if filenames.facts(message.name)[1] is None
    }


def find_again(directory: Path) -> dict[str, str]:
    """Where the messages are now, by unique part, whatever other programs have done to them."""
    return {
        filenames.unique_part(name): f"{directory}/{folder}/{name}"
        for folder in ("new", "cur")
        for name in _listing(directory / folder)
    }


def open_message(path: str | Path) -> int:
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
    arrived = list(_listing(directory / "new"))
    uniques = {filenames.unique_part(name) for _, name in files} if arrived else set()
    for name in arrived:
        unique = filenames.unique_part(name)
        # A copy made by hand stays where it is: moving it could overwrite the other.
        place = ("new", name) if unique in uniques else _adopt(directory, name)
        uniques.add(unique)
        if place is not None:
            files.append(place)
    return files


def _look_at(
    files: list[tuple[str, str]],
) -> Iterator[tuple[tuple[int, int, int], str, str, int | None, bytes]]:
    # Sorted as they are; no two have both name and folder in common, so nothing behind is ever compared.
    for folder, name in files:
        arrival, size, uid = filenames.facts(name)
        yield arrival, name, folder, size, uid


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
        os.rename(f"{directory}/new/{name}", f"{directory}/cur/{seen}")
    except FileNotFoundError:
        return None
    except OSError:
        return "new", name  # a file system that we may only read, say
    return "cur", seen


def _uid(name: str, uid: bytes, taken: set[bytes]) -> bytes:
    """The unique-id; another one for a copy of a file that is in the drop already."""
    copy = 1
    while uid in taken:
        copy += 1
        uid = filenames.uid_of(f"copy {copy} of {name}")
    return uid


def _measure(path: str, say: Say) -> int | None:
    """Octets on the wire of a file whose name does not tell; ``None`` for what cannot be read."""
    try:
        fd = open_message(path)
        try:
            return wire_octets(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError:
        say("unreadable message left out", Path(path))
        return None


def wire_octets(fd: int) -> int:
    """What an open file has with CRLF line ends: the octets that RETR sends, before stuffing."""
    size, last = 0, b"\n"
    while data := os.read(fd, _CHUNK):
        # As WireForm makes it, without being made.
        size += len(data) + data.count(b"\n") - data.count(b"\r\n")
        size -= last == b"\r" and data[:1] == b"\n"
        last = data[-1:]
    return size if last == b"\n" else size + 2  # the end of the data makes a line end of its own

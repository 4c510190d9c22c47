"""How full a mailbox is: the ``maildirsize`` file of Maildir++, as Courier and Dovecot keep it.

The first line is the limit, every further line adds octets and messages (or takes them away); lines are
appended whole, so several processes share the file without a lock. It is counted anew from the names in
``new/`` and ``cur/`` when it is missing, damaged, grown long, made for another limit, or says that a message
does not fit: another program may have deleted mail without writing it down.

Blocking; called in a thread. Octets are those on disk. Two processes that deliver into one mailbox in the
same millisecond may exceed the limit by one message each.
"""

import os
from pathlib import Path

from mailserver.interfaces import MailboxFull
from mailserver.mailboxes import filenames

__all__ = ["SIZE_FILE", "check", "note"]

SIZE_FILE = "maildirsize"
_LONGEST = 5120  # octets of the file after which it is counted anew (Maildir++)


def check(directory: Path, quota: int, octets: int) -> None:
    """Raise :class:`MailboxFull` when a message of so many octets does not fit.

    :param quota: in octets; 0 means none.
    """
    if not quota:
        return
    used = _noted(directory, quota)
    if used is None or used + octets > quota:
        used = _recount(directory, quota)
    if used + octets > quota:
        raise MailboxFull


def note(directory: Path, octets: int, messages: int) -> None:
    """Write down that mail came or, with negative figures, went. Only where a limit is kept."""
    try:
        fd = os.open(directory / SIZE_FILE, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.write(fd, f"{octets} {messages}\n".encode())
    except OSError:
        # A count that is off is mended when it matters; the mail matters more.
        pass
    finally:
        os.close(fd)


def _noted(directory: Path, quota: int) -> int | None:
    """The octets used according to the file; ``None`` when it cannot be believed."""
    try:
        fd = os.open(directory / SIZE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        lines = file.read(_LONGEST + 1).split(b"\n")
    if sum(map(len, lines)) + len(lines) > _LONGEST or lines.pop() or lines[:1] != [b"%dS" % quota]:
        return None
    try:
        used = sum(int(line.split()[0]) for line in lines[1:])
    except (ValueError, IndexError):
        return None
    return used if used >= 0 else None


def _recount(directory: Path, quota: int) -> int:
    used = count = 0
    for part in ("new", "cur"):
        with os.scandir(directory / part) as entries:
            for entry in entries:
                size = _size(entry)
                if size is not None:
                    used += size
                    count += 1
    temporary = directory / "tmp" / f"{SIZE_FILE}.{os.getpid()}"
    temporary.write_bytes(b"%dS\n%d %d\n" % (quota, used, count))
    temporary.chmod(0o600)
    temporary.replace(directory / SIZE_FILE)
    return used


def _size(entry: "os.DirEntry[str]") -> int | None:
    if not filenames.is_message(entry.name):
        return None
    size = filenames.disk_size(entry.name)
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        return entry.stat(follow_symlinks=False).st_size if size is None else size
    except OSError:
        return None  # it vanished under us

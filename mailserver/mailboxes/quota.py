"""How full a mailbox is: the ``maildirsize`` file of Maildir++, as Courier and Dovecot keep it.

The first line is the limit (``50000000S,1000C``: octets, messages), every further line adds octets and
messages or takes them away. It is counted anew from the names in ``new/`` and ``cur/`` when it is missing,
damaged, grown long, made for another limit, or says that a message does not fit: another program may have
deleted mail without writing it down. What lies elsewhere in the mailbox does not count.

Several processes keep one count: whoever changes what is counted holds :func:`locked` from the look at the
count to the line that tells of the change. The lock is an ``flock`` on the mailbox's directory, gone with
the process that holds it; other programs append their lines without it, which Maildir++ allows.

Blocking; called in a thread. Octets are those on disk. Raises ``OSError``.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from attrs import frozen

from mailserver import files
from mailserver.interfaces import Account, MailboxFull
from mailserver.mailboxes import filenames

__all__ = [
    "SIZE_FILE",
    "Limit",
    "Use",
    "check",
    "count",
    "crossed",
    "is_counted",
    "locked",
    "look",
    "note",
    "noted",
    "recount",
]

SIZE_FILE = "maildirsize"
_LONGEST = 5120  # octets of the file after which it is counted anew (Maildir++)


@frozen
class Use:
    """What a mailbox holds."""

    octets: int = 0
    messages: int = 0

    def plus(self, octets: int, messages: int) -> "Use":
        """With so much more in it."""
        return Use(self.octets + octets, self.messages + messages)


@frozen
class Limit:
    """What a mailbox may hold; 0 means no limit of that kind."""

    octets: int = 0
    messages: int = 0

    @classmethod
    def of(cls, account: Account) -> "Limit":
        """The account's."""
        return cls(account.quota, account.messages) if account.quota or account.messages else _NONE

    def __bool__(self) -> bool:
        return bool(self.octets or self.messages)

    def allows(self, use: Use) -> bool:
        """Whether a mailbox may hold so much."""
        return not (self.octets and use.octets > self.octets) and not (
            self.messages and use.messages > self.messages
        )

    def percent(self, use: Use) -> float:
        """How full that is, by the limit that is nearer."""
        shares = [(use.octets, self.octets), (use.messages, self.messages)]
        return max((100.0 * much / most for much, most in shares if most), default=0.0)

    def spelled(self) -> bytes:
        """The first line of the file, without its end."""
        parts = [b"%dS" % self.octets] if self.octets else []
        return b",".join([*parts, b"%dC" % self.messages] if self.messages else parts)


_NONE = Limit()


def crossed(levels: Sequence[int], limit: Limit, before: Use, after: Use) -> int:
    """The highest of the levels, in percent, that is reached now and was not before; 0 if none."""
    low, high = limit.percent(before), limit.percent(after)
    return max((level for level in levels if low < level <= high), default=0)


def locked(directory: Path, limited: bool = True) -> AbstractContextManager[None]:
    """Change what is counted, alone among the processes of this server.

    :param limited: nothing is counted otherwise, and nobody waits.
    """
    return files.locked(directory) if limited else nullcontext()


def look(directory: Path, limit: Limit, octets: int = 0) -> Use:
    """What the mailbox holds; counted anew where by the file so many octets more would not fit.

    The caller holds :func:`locked`.
    """
    known = noted(directory, limit)
    if known is None or not limit.allows(known.plus(octets, 1)):
        return recount(directory, limit)
    return known


def check(directory: Path, limit: Limit, octets: int) -> Use:
    """What the mailbox holds. Raises :class:`MailboxFull` when a message of so many octets does not fit.

    The caller holds :func:`locked`.
    """
    if not limit:
        return Use()
    use = look(directory, limit, octets)
    if not limit.allows(use.plus(octets, 1)):
        raise MailboxFull
    return use


def is_counted(directory: Path) -> bool:
    """Whether there is a count to be kept, with a limit or without."""
    return os.path.lexists(directory / SIZE_FILE)


def note(directory: Path | str, octets: int, messages: int) -> None:
    """Write down that mail came or, with negative figures, went. Only where a count is kept."""
    try:
        fd = os.open(f"{directory}/{SIZE_FILE}", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        # A count that is off is mended when it matters; the mail matters more.
        with suppress(OSError):
            os.write(fd, b"%d %d\n" % (octets, messages))
    finally:
        os.close(fd)


def count(directory: Path) -> Use:
    """What lies in ``new/`` and ``cur/``, by the files' names where they tell."""
    use = Use()
    for part in ("new", "cur"):
        with os.scandir(directory / part) as entries:
            sizes = [size for entry in entries if (size := _size(entry)) is not None]
        use = use.plus(sum(sizes), len(sizes))
    return use


def recount(directory: Path, limit: Limit) -> Use:
    """Count, and write the file anew."""
    use = count(directory)
    temporary = directory / "tmp" / f"{SIZE_FILE}.{os.getpid()}"
    temporary.write_bytes(b"%b\n%d %d\n" % (limit.spelled(), use.octets, use.messages))
    temporary.chmod(0o600)
    temporary.replace(directory / SIZE_FILE)
    return use


def noted(directory: Path, limit: Limit) -> Use | None:
    """What the count file says; ``None`` when it cannot be believed."""
    try:
        fd = os.open(directory / SIZE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        text = file.read(_LONGEST + 1)
    lines = text.split(b"\n")
    if len(text) > _LONGEST or lines.pop() or lines[:1] != [limit.spelled()]:
        return None
    try:
        octets, messages = (sum(column) for column in zip(*map(_figures, lines[1:]), strict=True))
    except ValueError:
        return None
    return Use(octets, messages) if octets >= 0 and messages >= 0 else None


def _figures(line: bytes) -> tuple[int, int]:
    octets, messages = line.split()
    return int(octets), int(messages)


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

"""One message on its way into one mailbox, and the commit that many of them share (law 3).

A message is written to ``tmp/``, made durable there, linked into ``new/`` under a name that did not exist,
and is delivered when that directory is durable too. :func:`commit` takes all messages that wait through each
of these steps together: what one of them meets does not touch the others, and every directory is made
durable once. Until it is linked a message is litter that no client sees; one that fails is taken back
whole.

Everything here blocks and is called in a thread. On disk, lines end in LF; a last line that has no end gets
one, so that the octets counted in the name are those that POP3 sends.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.mailboxes import filenames, quota
from mailserver.mailboxes.maildir import Disk, sync_directory

__all__ = ["Incoming", "commit", "trouble_of"]

T = TypeVar("T")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def trouble_of(error: OSError) -> StorageTrouble:
    """What a system call's failure means to those who asked for storage."""
    kind = StorageFull if error.errno in _NO_ROOM else StorageTrouble
    return kind(str(error))


class Incoming:
    """A message on its way. Its methods may be called from any thread, one after the other.

    :param directory: the Maildir.
    :param unique: the unique part of its file's name.
    :param limit: the mailbox's quota in octets; 0 means none.
    :param content: all of it, in wire form; or ``None`` when it is written piece by piece.
    """

    def __init__(self, directory: Path, unique: str, limit: int, disk: Disk, content: bytes | None) -> None:
        self.directory = directory
        self._limit = limit
        self._disk = disk
        self._content = content
        self._unique = unique
        self._temporary = directory / "tmp" / unique
        self._final: Path | None = None
        self._fd = -1
        self._held = b""  # a CR that may be half of a line end
        self._last = b"\n"
        self._octets = self._wire_octets = 0
        self._noted = self._ended = False
        # A withdrawal must not close the file under a write that a cancelled delivery left running.
        self._guard = threading.Lock()

    def begin(self, octets: int) -> None:
        """Create the file. Raises :class:`MailboxFull` when so many octets do not fit."""
        with self._guard:
            quota.check(self.directory, self._limit, octets)
            self._open()

    def write(self, data: bytes) -> None:
        """Add content in wire form."""
        with self._guard:
            self._write(self._held + data)

    def fill(self) -> None:
        """See that all content is written. Raises :class:`MailboxFull` when it does not fit."""
        with self._guard:
            if self._content is not None:
                # The size on disk is smaller by the CRs; not enough to let a message in or keep it out by.
                quota.check(self.directory, self._limit, len(self._content))
                self._open()
                self._write(self._content)
                self._content = None
            if self._held or self._last != b"\n":
                self._put(self._held + b"\n")

    def harden(self) -> None:
        """Make the file durable. One ``syncfs`` for a whole group could stand in for this step."""
        self._disk.fsync(self._fd)
        self._close()

    def publish(self) -> None:
        """Put it into ``new/``: never over a file that is there."""
        # Checked once more, now that the others of the group are noted: together they must fit.
        quota.check(self.directory, self._limit, self._octets)
        quota.note(self.directory, self._octets, 1)
        self._noted = True
        final = self.directory / "new" / filenames.finished(self._unique, self._octets, self._wire_octets)
        try:
            self._disk.link(self._temporary, final)
        except OSError as error:
            if error.errno not in _NO_LINKS or final.exists():
                raise
            self._temporary.rename(final)  # a file system without hard links
        self._final = final
        with suppress(OSError):
            self._temporary.unlink()

    def withdraw(self) -> None:
        """Take back whatever has been done. Never raises."""
        with self._guard:
            self._ended = True
            self._close()
            for path in (self._temporary, self._final):
                if path is not None:
                    with suppress(OSError):
                        path.unlink()
            if self._noted:
                quota.note(self.directory, -self._octets, -1)
                self._noted = False

    def _open(self) -> None:
        if self._ended:
            raise StorageTrouble("withdrawn")
        self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def _write(self, data: bytes) -> None:
        if data.endswith(b"\r"):
            self._held, data = b"\r", data[:-1]
        else:
            self._held = b""
        self._put(data.replace(b"\r\n", b"\n"))

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._ended:
            raise StorageTrouble("withdrawn")
        # What WireForm will make of it: a CRLF that stands on disk stays one.
        pairs = data.count(b"\r\n") + (self._last == b"\r" and data.startswith(b"\n"))
        self._wire_octets += len(data) + data.count(b"\n") - pairs
        self._octets += len(data)
        self._last = data[-1:]
        rest = memoryview(data)
        while rest:
            rest = rest[self._disk.write(self._fd, rest) :]

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def commit(
    waiting: Sequence[Incoming], disk: Disk, prepare: Callable[[Path], None]
) -> list[Exception | None]:
    """Deliver all of them; return, for each, ``None`` or why it is not delivered.

    :param prepare: sees to it that a Maildir exists.
    """
    failed: dict[Incoming, Exception] = {}
    mailboxes: dict[Path, list[Incoming]] = {}
    for incoming in waiting:
        mailboxes.setdefault(incoming.directory, []).append(incoming)
    for directory, concerned in mailboxes.items():
        _attempt(prepare, directory, concerned, failed)
    for step in (Incoming.fill, Incoming.harden, Incoming.publish):
        for incoming in waiting:
            _attempt(step, incoming, [incoming], failed)
    for directory, concerned in mailboxes.items():
        _attempt(partial(_sync_new, disk), directory, concerned, failed)
    return [failed.get(incoming) for incoming in waiting]


def _attempt(
    step: Callable[[T], None], subject: T, concerned: Sequence[Incoming], failed: dict[Incoming, Exception]
) -> None:
    """Take the step if it still concerns anybody, and take back all it concerns if it fails."""
    going = [incoming for incoming in concerned if incoming not in failed]
    if not going:
        return
    try:
        step(subject)
    except Exception as error:
        for incoming in going:
            incoming.withdraw()
            failed[incoming] = trouble_of(error) if isinstance(error, OSError) else error


def _sync_new(disk: Disk, directory: Path) -> None:
    sync_directory(directory / "new", disk)

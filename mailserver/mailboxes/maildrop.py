"""A maildrop: the locked snapshot of a Maildir that one POP3 session works on (RFC 1939 §4, §5).

Numbers, sizes and unique-ids are fixed when it is taken, whatever arrives or vanishes afterwards. Another
program may move, mark or remove files meanwhile: a message that was moved is found again by its unique part;
one that is gone cannot be read, and deleting it is no error.

Nothing is removed before :meth:`Maildrop.sync`. The lock ends with :meth:`Maildrop.logout`, or with the
process.
"""

import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes import filenames, quota
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import Disk, sync_directory
from mailserver.mailboxes.snapshot import Message, find_again, open_message
from mailserver.wire.dots import WireForm

__all__ = ["InThread", "Maildrop", "MessageFile"]

InThread = Callable[..., Awaitable[Any]]
"""Calls a function in a thread; system calls' failures come back as :class:`StorageTrouble`."""


class MessageFile:
    """A message being read: its octets in wire form, in pieces, with no more than one piece in memory."""

    def __init__(self, directory: Path, message: Message, in_thread: InThread) -> None:
        self._directory = directory
        self._message = message
        self._in_thread = in_thread
        self._form = WireForm()
        self._fd = -1
        self._at_end = self._closed = False
        self._guard = threading.Lock()

    async def read(self, length: int) -> bytes:
        """About ``length`` octets more; empty only at the end. Raises :class:`StorageTrouble`."""
        if self._at_end:
            return b""
        data: bytes = await self._in_thread(self._read, length)
        return data

    def close(self) -> None:
        """Read no more. Harmless when repeated; never waits for the disk."""
        self._closed = True
        self._shut()

    def _read(self, length: int) -> bytes:
        try:
            with self._guard:
                if self._closed:
                    return b""
                if self._fd < 0:
                    self._fd = self._open()
                pieces, missing = [], length
                while missing and (data := os.read(self._fd, missing)):
                    pieces.append(data)
                    missing -= len(data)
                if missing:
                    self._at_end = self._closed = True
                return self._form.feed(b"".join(pieces))
        finally:
            # Whoever closed while we were reading has left it to us.
            if self._closed:
                self._shut()

    def _open(self) -> int:
        folder, name = self._message[:2]
        try:
            return open_message(self._directory / folder / name)
        except FileNotFoundError:
            path = find_again(self._directory).get(filenames.unique_part(name))
            if path is None:
                raise
            return open_message(path)

    def _shut(self) -> None:
        if self._guard.acquire(blocking=False):
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._guard.release()


@implementer(IMailboxPOP3)
class Maildrop:
    """The snapshot, as twisted.mail sees it. Indices are counted from 0; a wrong one is a ``ValueError``.

    :param account: whose it is.
    :param lock: held; released by :meth:`logout`.
    """

    def __init__(
        self,
        account: str,
        directory: Path,
        messages: Sequence[Message],
        lock: Lock,
        disk: Disk,
        in_thread: InThread,
    ) -> None:
        self.account = account
        self._directory = directory
        self._messages = messages
        self._lock = lock
        self._disk = disk
        self._in_thread = in_thread
        self._deleted: set[int] = set()
        self._gone: set[int] = set()

    def listMessages(self, i: int | None = None) -> Any:
        """The size of a message, or of each; 0 for a deleted one."""
        if i is not None:
            return 0 if self._is_deleted(i) else self._messages[i].size
        sizes = [message.size for message in self._messages]
        for number in self._deleted | self._gone:
            sizes[number] = 0
        return sizes

    def getMessage(self, index: int) -> MessageFile:
        """A message to be read; touches no disk yet."""
        if self._is_deleted(index):
            raise ValueError("deleted")
        return MessageFile(self._directory, self._messages[index], self._in_thread)

    def getUidl(self, index: int) -> bytes:
        """The unique-id; it outlives sessions, moves and marks (RFC 1939 §7)."""
        self._is_deleted(index)
        return self._messages[index].uid

    def deleteMessage(self, index: int) -> None:
        """Mark a message; it is removed by :meth:`sync`."""
        self._is_deleted(index)
        self._deleted.add(index)

    def undeleteMessages(self) -> None:
        """Take all marks away."""
        self._deleted.clear()

    def sync(self) -> "Deferred[None]":
        """Remove what is marked, durably.

        Fails with :class:`StorageTrouble` when some of it could not be removed; the rest has been.
        """
        return Deferred.fromCoroutine(self._sync())

    def logout(self) -> None:
        """Let the maildrop go. Harmless when repeated."""
        self._lock.release()

    async def _sync(self) -> None:
        marked = sorted(self._deleted)
        if not marked:
            return
        stayed = await self._in_thread(self._remove, [self._messages[index] for index in marked])
        self._gone.update(index for index in marked if self._messages[index] not in stayed)
        self._deleted.difference_update(self._gone)
        if stayed:
            raise StorageTrouble(f"{len(stayed)} of {len(marked)} messages could not be removed")

    def _is_deleted(self, index: int) -> bool:
        if not 0 <= index < len(self._messages):
            raise ValueError("no such message")
        return index in self._deleted or index in self._gone

    def _remove(self, doomed: Sequence[Message]) -> set[Message]:
        """Remove files; return those that would not go. Called in a thread."""
        with self._lock.use():
            paths = {message: self._directory / message.folder / message.name for message in doomed}
            removed, missing, stayed = _unlink_all(paths)
            if missing:
                places = find_again(self._directory)
                uniques = {message: filenames.unique_part(message.name) for message in missing}
                moved = {m: places[unique] for m, unique in uniques.items() if unique in places}
                again, _, stubborn = _unlink_all(moved)
                removed += again
                stayed |= stubborn
            if removed:
                quota.note(self._directory, -sum(removed), -len(removed))
                for folder in ("new", "cur"):
                    sync_directory(self._directory / folder, self._disk)
        return stayed


def _unlink_all(paths: Mapping[Message, Path]) -> tuple[list[int], list[Message], set[Message]]:
    """Remove files: the octets of the removed, which are missing, which would not go."""
    removed: list[int] = []
    missing: list[Message] = []
    stayed: set[Message] = set()
    for message, path in paths.items():
        try:
            removed.append(_unlink(path))
        except FileNotFoundError:
            missing.append(message)
        except OSError:
            stayed.add(message)
    return removed, missing, stayed


def _unlink(path: Path) -> int:
    """Remove a file; its octets on disk."""
    size = filenames.disk_size(path.name)
    if size is None:
        size = os.lstat(path).st_size
    os.unlink(path)
    return size

"""A maildrop: the locked snapshot of a Maildir that one POP3 session works on (RFC 1939 §4, §5).

Numbers, sizes and unique-ids are fixed when it is taken, whatever arrives or vanishes afterwards. Another
program may move, mark or remove files meanwhile: a message that was moved is found again by its unique part;
one that is gone cannot be read, and deleting it is no error.

Nothing is removed before :meth:`Maildrop.sync`. The lock ends with :meth:`Maildrop.logout`, or with the
process.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes import filenames, quota
from mailserver.mailboxes.contents import Contents, Message
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import Disk, sync_directory
from mailserver.mailboxes.message import InThread, MessageFile, Reading
from mailserver.mailboxes.snapshot import find_again

__all__ = ["Maildrop"]


@implementer(IMailboxPOP3)
class Maildrop:
    """The snapshot, as twisted.mail sees it. Indices are counted from 0; a wrong one is a ``ValueError``.

    :param account: whose it is.
    :param lock: held; released by :meth:`logout`.
    :param discarder: gives, when messages are removed, what does away with a file, by its path; in a thread.
    :ivar contents: what was there when the snapshot was taken, whatever has been marked or removed since.
    """

    def __init__(
        self,
        account: str,
        directory: Path,
        contents: Contents,
        lock: Lock,
        disk: Disk,
        in_thread: InThread,
        discarder: Callable[[], Callable[[str], object]] = lambda: os.unlink,
    ) -> None:
        self.account = account
        self._directory = directory
        self.contents = contents
        self._reading = Reading(directory, contents, in_thread)
        self._lock = lock
        self._disk = disk
        self._in_thread = in_thread
        self._discarder = discarder
        self._deleted: set[int] = set()
        self._gone: set[int] = set()

    def listMessages(self, i: int | None = None) -> Any:
        """The size of a message, or of each; 0 for a deleted one."""
        if i is not None:
            return 0 if self._is_deleted(i) else self.contents[i].size
        sizes = list(self.contents.sizes)
        for number in self._deleted | self._gone:
            sizes[number] = 0
        return sizes

    def getMessage(self, index: int) -> MessageFile:
        """A message to be read; touches no disk yet."""
        if self._is_deleted(index):
            raise ValueError("deleted")
        return self._reading.open(index)

    def readAhead(self, index: int) -> bytes | None:
        """All of a message, in wire form, if it has been read ahead already; once."""
        return None if self._is_deleted(index) else self._reading.ready(index)

    def getUidl(self, index: int) -> bytes:
        """The unique-id; it outlives sessions, moves and marks (RFC 1939 §7)."""
        self._is_deleted(index)
        uid: bytes = self.contents[index].uid
        return uid

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
        stayed = await self._in_thread(self._remove, [self.contents[index] for index in marked])
        self._gone.update(index for index in marked if self.contents[index] not in stayed)
        self._deleted.difference_update(self._gone)
        if stayed:
            raise StorageTrouble(f"{len(stayed)} of {len(marked)} messages could not be removed")

    def _is_deleted(self, index: int) -> bool:
        if not 0 <= index < len(self.contents):
            raise ValueError("no such message")
        return index in self._deleted or index in self._gone

    def _remove(self, doomed: Sequence[Message]) -> set[Message]:
        """Remove files; return those that would not go. Called in a thread."""
        with self._lock.use(), quota.locked(self._directory):
            discard = self._discarder()
            paths = {message: f"{self._directory}/{message.folder}/{message.name}" for message in doomed}
            removed, missing, stayed = _discard_all(paths, discard)
            if missing:
                places = find_again(self._directory)
                uniques = {message: filenames.unique_part(message.name) for message in missing}
                moved = {m: places[unique] for m, unique in uniques.items() if unique in places}
                again, _, stubborn = _discard_all(moved, discard)
                removed += again
                stayed |= stubborn
            if removed:
                quota.note(self._directory, -sum(removed), -len(removed))
                for folder in ("new", "cur"):
                    sync_directory(self._directory / folder, self._disk)
        return stayed


def _discard_all(
    paths: Mapping[Message, str], discard: Callable[[str], object]
) -> tuple[list[int], list[Message], set[Message]]:
    """Do away with files: the octets of the removed, which are missing, which would not go."""
    removed: list[int] = []
    missing: list[Message] = []
    stayed: set[Message] = set()
    for message, path in paths.items():
        try:
            size = filenames.disk_size(message.name)
            if size is None:
                size = os.lstat(path).st_size
            discard(path)
        except FileNotFoundError:
            missing.append(message)
        except OSError:
            stayed.add(message)
        else:
            removed.append(size)
    return removed, missing, stayed

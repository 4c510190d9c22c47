"""The mail store: every account's Maildir under one root (IMailStore).

``root/example.lan/alice/{tmp,new,cur}``: Maildir++ as Dovecot and Courier write it, lines ending in LF, so
that mutt, grep and Dovecot read it. A mailbox comes into being with its first delivery or login, mode 0700,
files 0600. See :mod:`~mailserver.mailboxes.names` for how names become paths.

Small messages go in memory to one thread that delivers all that wait at a moment together (law 3); a large
one is first written piece by piece, with one piece in memory, and then joins them. What deliveries that were
interrupted left behind is swept at the first delivery of a process and at every login.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import Account, IContent, IMailStore, StorageTrouble
from mailserver.mailboxes import maildir
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.incoming import Incoming, commit, trouble_of
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import THE_DISK, Disk
from mailserver.mailboxes.maildrop import Maildrop
from mailserver.mailboxes.names import path_of
from mailserver.mailboxes.snapshot import Message, snapshot
from mailserver.threads import Batcher, Busy, CallFromThread, Pool

__all__ = ["MailStore"]

_SMALL = 256 * 1024  # octets up to which a message is handed over whole
_CHUNK = 256 * 1024
_GROUP = 64  # messages in one commit: each has a file open
_READERS = 4


@implementer(IMailStore)
class MailStore:
    """All mailboxes.

    :param root: made when it is needed.
    :param hostname: our name, for the names of files.
    :param now: seconds since 1970; called in threads too.
    :param call: ``reactor.callFromThread``.
    """

    def __init__(
        self, root: Path, hostname: str, now: Callable[[], float], call: CallFromThread, disk: Disk = THE_DISK
    ) -> None:
        self._root = root
        self._now = now
        self._call = call
        self._disk = disk
        self._names = UniqueNames(hostname, now)
        self._swept: set[Path] = set()
        self._writer: Batcher[Incoming, None] = Batcher("mailbox-writer", self._commit, call, _GROUP)
        self._pool = Pool("mailbox", _READERS, call)

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._pool.start()

    def stop(self) -> "Deferred[None]":
        """Finish the deliveries under way and end the threads."""
        self._pool.stop()
        return self._writer.stop()

    async def deliver(self, account: Account, content: IContent, header: bytes) -> None:
        """See :class:`IMailStore`. Once the commit has begun, cancelling does not undo the delivery."""
        whole = content.whole() if content.size <= _SMALL else None
        text = None if whole is None else header + whole
        incoming = Incoming(self._directory(account), self._names.make(), account.quota, self._disk, text)
        if whole is None:
            await self._spell_out(incoming, content, header)
        await self._writer.submit(incoming)

    async def maildrop(self, account: Account) -> Maildrop:
        """See :class:`IMailStore`. When it is cancelled the lock is let go."""
        directory, lock = self._directory(account), Lock()
        try:
            messages = await self._in_thread(self._open, directory, lock)
        except BaseException:
            lock.release()
            raise
        return Maildrop(account.name, directory, messages, lock, self._disk, self._in_thread)

    def _directory(self, account: Account) -> Path:
        # By way of octets: a locale that cannot spell the name must not refuse the mail.
        return self._root / os.fsdecode(str(path_of(account.name)).encode("utf-8"))

    async def _spell_out(self, incoming: Incoming, content: IContent, header: bytes) -> None:
        """Write a large message piece by piece."""
        try:
            await self._in_thread(self._begin, incoming, len(header) + content.size)
            await self._in_thread(incoming.write, header)
            offset = 0
            while data := await content.read(offset, _CHUNK):
                await self._in_thread(incoming.write, data)
                offset += len(data)
            if offset != content.size:
                raise StorageTrouble(f"content ended after {offset} of {content.size} octets")
        except Exception:
            with suppress(Busy):  # then the sweep removes it
                await self._pool.run(incoming.withdraw)
            raise

    async def _in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        try:
            return await self._pool.run(function, *arguments)
        except OSError as error:
            raise trouble_of(error) from error
        except Busy as busy:
            raise StorageTrouble("too much waits for the disk") from busy

    # --- in threads -------------------------------------------------------------------------------

    def _commit(self, waiting: Sequence[Incoming]) -> Sequence[Exception | None]:
        return commit(waiting, self._disk, self._prepare)

    def _prepare(self, directory: Path) -> None:
        maildir.prepare(directory, self._disk, self._say)
        if directory not in self._swept:
            self._swept.add(directory)
            maildir.sweep(directory, self._now())

    def _begin(self, incoming: Incoming, octets: int) -> None:
        self._prepare(incoming.directory)
        incoming.begin(octets)

    def _open(self, directory: Path, lock: Lock) -> list[Message]:
        maildir.prepare(directory, self._disk, self._say)
        lock.acquire(directory)
        maildir.sweep(directory, self._now())
        return snapshot(directory, self._say)

    def _say(self, what: str, path: Path) -> None:
        self._call(partial(journal.trouble, "mailbox", what, path=str(path)))

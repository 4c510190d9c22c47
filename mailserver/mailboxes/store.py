"""The mail store: every account's Maildir under one root (IMailStore).

``root/example.lan/alice/{tmp,new,cur}``: Maildir++ as Dovecot and Courier write it, lines ending in LF, so
that mutt, grep and Dovecot read it. A mailbox comes into being with its first delivery or login, mode 0700,
files 0600. See :mod:`~mailserver.mailboxes.names` for how names become paths.

Small messages go in memory to one thread that delivers all that wait at a moment together (law 3); a large
one is first written piece by piece, with one piece in memory, and then joins them. In a worker mail is only
fetched: what comes is handed to the process that stores (``hand_over``: for whom, and whether CR and LF are
known to stand in pairs; behind that the header and the content as one), whose thread takes it in. What
deliveries that were interrupted left behind, and deleted mail that has been kept long enough, is swept once
a day: when a mailbox is used, and by :meth:`MailStore.tidy`.
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver import journal
from mailserver.handing import OpenBatcher, read_failure, spell_failure
from mailserver.interfaces import Account, IContent, IMailStore, MailboxFull, StorageTrouble
from mailserver.mailboxes import maildir, quota, undo, walking
from mailserver.mailboxes.contents import Contents
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.incoming import Copy, Incoming, attempt, commit, trouble_of
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import THE_DISK, Disk
from mailserver.mailboxes.maildrop import Maildrop
from mailserver.mailboxes.pace import Pace
from mailserver.mailboxes.quota import Limit, Use
from mailserver.mailboxes.remembered import Remembered
from mailserver.mailboxes.ways import Ways
from mailserver.threads import Busy, CallFromThread, Pool

__all__ = ["MailStore"]

T = TypeVar("T")

_SMALL = 256 * 1024  # octets up to which a message is handed over whole
_CHUNK = 256 * 1024
_GROUP = 128  # messages in one commit, at most: each has a file open
_READERS = 4
_FRESH = 1.0  # seconds for which a mailbox's use is believed when a sender asks for room
_MOST_USES = 10_000
_MOST_PLACES = 10_000


class HandOver(Protocol):
    """As :meth:`mailserver.handing.Outlet.hand_over`; answered is a failure or ``None`` for each mailbox."""

    def __call__(self, facts: Any, *octets: bytes) -> Awaitable[Sequence[Sequence[str] | None]]: ...


class _Handed(Incoming):
    """A message that another process has handed over, for these accounts."""

    def __init__(
        self,
        accounts: Sequence[Account],
        copies: Sequence[Copy],
        disk: Disk,
        content: bytes,
        is_in_pairs: bool,
    ) -> None:
        super().__init__(copies, disk, content, is_in_pairs=is_in_pairs)
        self.accounts = accounts


@implementer(IMailStore)
class MailStore:
    """All mailboxes.

    :param root: made when it is needed.
    :param hostname: our name, for the names of files.
    :param now: seconds since 1970; called in threads too.
    :param call: ``reactor.callFromThread``.
    :param hand_over: the way to the process that delivers; here mail is fetched only then.
    :param clock: seconds from wherever, by which the disk is timed.
    :ivar keep_deleted: days for which deleted mail is kept; 0: it is not. May be replaced at any time.
    :ivar warn_at: levels of a quota, in percent; may be replaced at any time.
    :ivar on_filling: is told the account whose mailbox has come to one of them, and which.
    """

    def __init__(
        self,
        root: Path,
        hostname: str,
        now: Callable[[], float],
        call: CallFromThread,
        disk: Disk = THE_DISK,
        hand_over: HandOver | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._root = root
        self._hand_over = hand_over
        self._now = now
        self._call = call
        self._disk = disk
        self._names = UniqueNames(hostname, now)
        self._snapshots = Remembered(lambda: int(now() * 1e9))
        self._swept: dict[Path, date] = {}
        self._places: dict[str, Path] = {}
        self._uncounted: set[str] = set()
        self._writer: OpenBatcher[Incoming, list[Exception | None]] = OpenBatcher(
            "mailbox-writer", self._commit, call, self._read_handed, self._spell_handed, _GROUP
        )
        self._clock = clock
        self._for_contents, self._for_names = Ways(clock), Ways(clock)
        self._pace = Pace(_GROUP)
        self._pool = Pool("mailbox", _READERS, call)
        self._uses: dict[str, tuple[float, Use]] = {}
        self.keep_deleted = 0
        self.warn_at: Sequence[int] = ()
        self.on_filling: Callable[[Account, int], object] = lambda account, level: None

    def start(self) -> None:
        """Start the threads."""
        if self._hand_over is None:
            self._writer.start()
        self._pool.start()

    def stop(self) -> "Deferred[None]":
        """Finish the deliveries under way and end the threads."""
        self._pool.stop()
        return self._writer.stop()

    def limits_changed(self) -> None:
        """Mailboxes may have got a limit, or lost it: another process may keep a count where we saw none."""
        self._uncounted.clear()

    async def deliver(self, account: Account, content: IContent, header: bytes) -> None:
        """See :class:`IMailStore`. Once the commit has begun, cancelling does not undo the delivery."""
        (failure,) = await self.deliver_copies([account], content, header)
        if failure is not None:
            raise failure

    def deliver_copies(
        self, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> Awaitable[list[Exception | None]]:
        """See :class:`IMailStore`."""
        if self._hand_over is not None:
            return self._deliver_elsewhere(self._hand_over, accounts, content, header)
        return self._deliver_here(accounts, content, header)

    async def _deliver_here(
        self, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> list[Exception | None]:
        whole = content.whole() if content.size <= _SMALL else None
        text = None if whole is None else header + whole
        copies = self._copies(accounts)
        incoming = Incoming(copies, self._disk, text, is_in_pairs=content.is_in_pairs)
        if whole is None:
            failure = await self._spell_out(incoming, content, header)
            if failure is not None:
                return [copy.failure or failure for copy in copies]
        failures = await self._writer.submit(incoming)
        self._note_fillings(accounts, copies)
        return failures

    def receive(self, handle: socket) -> None:
        """Deliver what another process hands over, whose store is told of the other end as ``hand_over``."""
        self._writer.open(handle)

    async def _deliver_elsewhere(
        self, hand_over: HandOver, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> list[Exception | None]:
        whole = content.whole()
        if whole is None:
            raise StorageTrouble("content that is not at hand is not handed over")
        named = [(account.name, account.quota, account.messages) for account in accounts]
        failures = await hand_over((named, content.is_in_pairs), header, whole)
        for account in accounts:
            self._uses.pop(account.name, None)
        return [read_failure(one) for one in failures]

    def room(self, account: Account, octets: int) -> Awaitable[bool] | bool:
        """See :class:`IMailStore`. What was found out is believed for a second."""
        limit = Limit.of(account)
        if not limit:
            return True
        known = self._uses.get(account.name)
        if known is None or not 0 <= self._now() - known[0] < _FRESH:
            return Deferred.fromCoroutine(self._find_room(account, limit, octets))
        return limit.allows(known[1].plus(octets, 1))

    async def maildrop(self, account: Account) -> Maildrop:
        """See :class:`IMailStore`. When it is cancelled the lock is let go."""
        directory, lock = self._directory(account), Lock()
        try:
            contents = await self._in_thread(self._open, directory, lock)
        except BaseException:
            lock.release()
            raise
        discarder = partial(self._discarder, directory)
        return Maildrop(account.name, directory, contents, lock, self._disk, self._in_thread, discarder)

    async def tidy(self) -> None:
        """Sweep every mailbox there is, whether or not it is used. Does the work of a day; never raises."""
        with suppress(Busy):
            there = await self._pool.run(lambda: [place for _, place in walking.mailboxes(self._root)])
            for directory in there:
                with suppress(OSError):  # gone meanwhile, or no Maildir any more: its next user will see
                    await self._pool.run(self._sweep, directory)

    def _copies(self, accounts: Iterable[Account]) -> list[Copy]:
        return [
            Copy(self._directory(one), self._names.make(), Limit.of(one), uncounted=self._uncounted)
            for one in accounts
        ]

    def _note_fillings(self, accounts: Iterable[Account], copies: Iterable[Copy]) -> None:
        for account, copy in zip(accounts, copies, strict=True):
            if copy.failure is None and copy.limit:
                self._note_filling(account, copy)

    def _note_filling(self, account: Account, copy: Copy) -> None:
        """A mailbox with a limit has got mail: what was known of its use is old, and a warning may be due."""
        self._uses.pop(account.name, None)
        after = copy.before.plus(copy.octets, 1)
        level = quota.crossed(self.warn_at, copy.limit, copy.before, after)
        if level:
            self.on_filling(account, level)

    async def _find_room(self, account: Account, limit: Limit, octets: int) -> bool:
        try:
            use = await self._pool.run(_use_of, self._directory(account), limit, octets)
        except (OSError, Busy):
            return True
        if len(self._uses) >= _MOST_USES:
            self._uses.clear()
        self._uses[account.name] = (self._now(), use)
        return limit.allows(use.plus(octets, 1))

    def _directory(self, account: Account) -> Path:
        name = account.name
        directory = self._places.get(name)
        if directory is None:
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            directory = self._places[name] = walking.directory_of(self._root, name)
        return directory

    async def _spell_out(self, incoming: Incoming, content: IContent, header: bytes) -> Exception | None:
        """Write a large message piece by piece; return why it cannot be delivered to anybody."""
        try:
            await self._in_thread(self._begin, incoming, len(header) + content.size)
            await self._in_thread(incoming.write, header)
            offset = 0
            while data := await content.read(offset, _CHUNK):
                await self._in_thread(incoming.write, data)
                offset += len(data)
            if offset != content.size:
                raise StorageTrouble(f"content ended after {offset} of {content.size} octets")
        except Exception as failure:
            with suppress(Busy):  # then the sweep removes it
                await self._pool.run(incoming.end)
            if isinstance(failure, StorageTrouble | MailboxFull):
                return failure
            raise
        return None

    async def _in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        try:
            return await self._pool.run(function, *arguments)
        except OSError as error:
            raise trouble_of(error) from error
        except Busy as busy:
            raise StorageTrouble("too much waits for the disk") from busy

    # --- in threads -------------------------------------------------------------------------------

    def _read_handed(self, facts: Any, octets: bytes) -> Incoming:
        """What another process hands over."""
        named, is_in_pairs = facts
        accounts = [Account(name, quota=quota, messages=messages) for name, quota, messages in named]
        return _Handed(accounts, self._copies(accounts), self._disk, octets, is_in_pairs)

    def _spell_handed(self, incoming: Incoming, result: list[Exception | None] | Exception) -> Any:
        assert isinstance(incoming, _Handed)
        if isinstance(result, Exception):
            return [spell_failure(result)] * len(incoming.copies)
        if any(copy.limit for copy in incoming.copies):
            self._call(self._note_fillings, incoming.accounts, incoming.copies)
        return [spell_failure(failure) for failure in result]

    def _commit(self, waiting: Sequence[Incoming]) -> Sequence[list[Exception | None]]:
        """Deliver a group; as large as the disk wants it shall the next one be."""
        today = self._today()
        daily = partial(self._prepare_daily, today)
        contents, names = self._for_contents, self._for_names
        begun, waited = self._clock(), contents.spent + names.spent
        failures = commit(waiting, self._disk, daily, self._prepare, contents=contents, names=names)
        self._pace.learn(len(waiting), self._clock() - begun, contents.spent + names.spent - waited)
        self._writer.most = self._pace.size
        return failures

    def _prepare_daily(self, today: date, directory: Path) -> None:
        if self._swept.get(directory) != today:
            self._prepare(directory)

    def _prepare(self, directory: Path) -> None:
        maildir.prepare(directory, self._disk, self._say)
        if not quota.is_counted(directory):
            self._uncounted.add(str(directory))
        self._sweep(directory)

    def _sweep(self, directory: Path) -> None:
        """Once a day: what interrupted deliveries left, and what was deleted long enough ago."""
        today = self._today()
        if self._swept.get(directory) != today:
            self._swept[directory] = today
            maildir.sweep(directory, self._now())
            undo.sweep(directory, today, self.keep_deleted)

    def _discarder(self, directory: Path) -> Callable[[str], object]:
        return undo.keeper(directory, self._today()) if self.keep_deleted else os.unlink

    def _today(self) -> date:
        return undo.local_day(self._now())

    def _begin(self, incoming: Incoming, octets: int) -> None:
        for copy in incoming.copies:
            attempt(partial(self._prepare, copy.directory), [copy])
        incoming.begin(octets)

    def _open(self, directory: Path, lock: Lock) -> Contents:
        # Each call of the system has this thread wait for the reactor's: a mailbox that is as it was has few.
        if self._swept.get(directory) != self._today():
            maildir.prepare(directory, self._disk, self._say)
        self._on_whole(directory, lock.acquire)
        self._sweep(directory)
        return self._on_whole(directory, self._snapshots.look, self._say)

    def _on_whole(self, directory: Path, step: Callable[..., T], *more: object) -> T:
        """Take a step; where it misses the mailbox or a part of it, once more when that has been made."""
        try:
            return step(directory, *more)
        except (FileNotFoundError, NotADirectoryError):
            maildir.prepare(directory, self._disk, self._say)
            return step(directory, *more)

    def _say(self, what: str, path: Path) -> None:
        self._call(partial(journal.trouble, "mailbox", what, path=str(path)))


def _use_of(directory: Path, limit: Limit, octets: int) -> Use:
    if not directory.is_dir():
        return Use()  # it comes into being with its first message
    with quota.locked(directory):
        return quota.look(directory, limit, octets)

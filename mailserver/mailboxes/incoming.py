"""One message on its way into its mailboxes, and the commit that many messages share (law 3).

A message is written once, to the ``tmp/`` of the first of its mailboxes that can have it, made durable there,
linked into the ``new/`` of each under a name that did not exist (or moved there, if it is for one alone), and
is delivered where that directory is durable too.
Where a file system cannot link, or a mailbox lies on another one, that mailbox gets a copy of its own.

:func:`commit` takes all messages that wait through each of these steps together: what one of them meets does
not touch the others, nor one mailbox's trouble another's. Where that is the better way
(:mod:`~mailserver.mailboxes.ways`), one ``syncfs`` stands in for their ``fsync``; where it fails each is
synced by itself, to know whose the trouble is. Until it is linked a message is litter that no client sees;
what fails is taken back whole.

One sync behind all of it would do for what is acknowledged, but contents come before names: with delayed
allocation (ext4, XFS) a name may reach the disk seconds before what it names, and after a power cut the
mailbox would hold empty messages, or ones of zeros, that nobody can tell from mail. So contents are synced by
themselves before they get their names. Where the file system keeps that order once they have been written
back (:mod:`~mailserver.mailboxes.ordering`), they are only written back and waited for, and one sync behind
the names makes all durable: half the commits of its journal, and half the flushes of the disk. What a file's
write-back fails by is that file's failure, and never tried again: the kernel tells it once, and drops what it
could not write.

That a mailbox exists is looked at once a day. One that has gone since then is missed at the first step that
needs it, made anew, and the step is taken again.

Everything here blocks and is called in a thread. On disk, lines end in LF; a last line that has no end gets
one, so that the octets counted in the name are those that POP3 sends.
"""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.mailboxes import filenames, quota
from mailserver.mailboxes.maildir import Disk, sync_directory
from mailserver.mailboxes.quota import Limit, Use
from mailserver.mailboxes.ways import Ways
from mailserver.wire.dots import in_pairs

__all__ = ["Copy", "Incoming", "attempt", "commit", "trouble_of"]

_NOTHING = Use()
_GONE = (FileNotFoundError, NotADirectoryError)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_WRITE_BACK = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.ESPIPE})
_NO_RENAME = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def trouble_of(error: OSError) -> StorageTrouble:
    """What a system call's failure means to those who asked for storage."""
    kind = StorageFull if error.errno in _NO_ROOM else StorageTrouble
    return kind(str(error))


class Copy:
    """A message's place in one mailbox.

    :param directory: the Maildir.
    :param unique: the unique part of the file's name.
    :param flags: of a message that is not new: it goes to ``cur/`` with them.
    :param uncounted: the mailboxes known to keep no count, as there was no limit; those with one leave it.
    :ivar folder: where the message will be.
    :ivar is_linked: whether the file in it is the one that the message was written to.
    :ivar failure: why the message is not, or will not be, in this mailbox.
    :ivar before: what the mailbox held before it came; zeros where there is no limit.
    :ivar octets: of the message on disk, once it has been published.
    """

    __slots__ = (
        "_final",
        "_uncounted",
        "before",
        "directory",
        "failure",
        "flags",
        "folder",
        "is_linked",
        "limit",
        "octets",
        "place",
        "unique",
    )

    def __init__(
        self,
        directory: Path,
        unique: str,
        limit: Limit,
        flags: str | None = None,
        uncounted: set[str] | None = None,
    ) -> None:
        self.directory = directory
        self.place = place = str(directory)
        self.folder = f"{place}/new" if flags is None else f"{place}/cur"
        self.unique = unique
        self.flags = flags
        self.limit = limit
        self.failure: Exception | None = None
        self._uncounted = set() if uncounted is None else uncounted
        self.before = _NOTHING
        self.octets = 0
        self.is_linked = False
        self._final = ""

    @property
    def begun(self) -> str:
        """Where the message is written, if it is written here."""
        return "/".join((self.place, "tmp", self.unique))

    def check(self, octets: int) -> None:
        """Raise :class:`MailboxFull` when so many octets do not fit."""
        if self.limit:
            with quota.locked(self.directory):
                quota.check(self.directory, self.limit, octets)

    def publish(self, octets: int, name: str, link: Callable[["Copy", str], None]) -> None:
        """Put it into its folder, and into the count.

        :param name: what stands behind the unique part: the sizes.
        """
        info = "" if self.flags is None else f":2,{self.flags}"
        final = f"{self.folder}/{self.unique}{name}{info}"
        if self.limit:
            self._uncounted.discard(self.place)
            with quota.locked(self.directory):
                # Checked once more, now that the others of the group are noted: together they must fit.
                self.before = quota.check(self.directory, self.limit, octets)
                self._put(final, octets, link)
        else:
            self._put(final, octets, link)

    def fail(self, error: Exception) -> None:
        """It will not be delivered here: take back whatever has been done. Never raises."""
        self.failure = trouble_of(error) if isinstance(error, OSError) else error
        final, self._final = self._final, ""
        if final:
            with suppress(OSError), quota.locked(self.directory, bool(self.limit)):
                os.unlink(final)
                quota.note(self.place, -self.octets, -1)

    def _put(self, final: str, octets: int, link: Callable[["Copy", str], None]) -> None:
        link(self, final)
        self._final, self.octets = final, octets
        if self.place not in self._uncounted:
            quota.note(self.place, octets, 1)


def attempt(step: Callable[[], object], copies: Sequence[Copy]) -> None:
    """Take a step if it still concerns any of these copies, which all fail if it does."""
    going = [copy for copy in copies if copy.failure is None]
    if not going:
        return
    try:
        step()
    except Exception as error:
        for copy in going:
            if copy.failure is None:
                copy.fail(error)


class Incoming:
    """A message on its way. Its methods may be called from any thread, one after the other.

    :param copies: its mailboxes; at least one.
    :param content: all of it, in wire form; or ``None`` when it is written piece by piece.
    :param arrived: when it came, in seconds since 1970, if that is not now.
    :param is_in_pairs: it is known that in ``content`` CR and LF stand in pairs only; says nothing of what is
        written piece by piece.
    :ivar device: the file system that its file lies on; ``None``: none that is synced in one go.
    """

    def __init__(
        self,
        copies: Sequence[Copy],
        disk: Disk,
        content: bytes | None,
        arrived: float | None = None,
        is_in_pairs: bool = False,
    ) -> None:
        self.copies = copies
        self._disk = disk
        self._content = content
        self._arrived = arrived
        self._is_in_pairs = is_in_pairs
        self._temporary = ""
        self._fd = -1
        self.device: int | None = None
        self._held = b""  # a CR that may be half of a line end
        self._last = b"\n"
        self._octets = self._wire_octets = 0
        self._piecemeal = content is None
        self._ended = False
        self._is_durable = False
        # A withdrawal must not close the file under a write that a cancelled delivery left running.
        self._guard = threading.Lock()

    @property
    def going(self) -> list[Copy]:
        """The copies that have not failed."""
        return [copy for copy in self.copies if copy.failure is None]

    def begin(self, octets: int) -> None:
        """Create the file. Raises what keeps the last of the mailboxes from taking so many octets."""
        with self._guard:
            while self._fd < 0:
                try:
                    self._open(octets)
                except OSError as error:
                    self._leave_home(error)
                    if not self.going:
                        raise

    def write(self, data: bytes) -> None:
        """Add content in wire form."""
        with self._guard:
            self._write(self._held + data)

    def fill(self) -> None:
        """See that all content is written."""
        with self._guard:
            if self._content is not None:
                # The size on disk is smaller by the CRs; not enough to let a message in or keep it out by.
                self._open(len(self._content))
                if self._is_in_pairs:
                    self._append(self._content.replace(b"\r", b""), len(self._content))
                else:
                    self._write(self._content)
            if self._held or self._last != b"\n":
                self._put(self._held + b"\n")
            if self._arrived is not None:
                os.utime(self._fd, (self._arrived, self._arrived))
            self._content = None

    def move(self, error: OSError) -> None:
        """The mailbox that it would be written to fails by this; it begins anew in the next one."""
        with self._guard:
            self._drop_file()
            self._held, self._last = b"", b"\n"
            self._octets = self._wire_octets = 0
            self._leave_home(error)

    @property
    def is_piecemeal(self) -> bool:
        """Whether it was there before the others' descriptors were opened.

        These tell of errors from then on only: it takes an ``fsync`` of its own.
        """
        return self._piecemeal

    @property
    def is_durable(self) -> bool:
        """Whether its content has been synced by itself."""
        return self._is_durable

    @property
    def keeps_order(self) -> bool:
        """Whether a name reaches the disk after what was written back before it was made."""
        return self.device is not None and self._disk.keeps_order(self._fd, self.device)

    def write_back(self, wait: bool) -> None:
        """Have the file brought to the device; where there is no such call, make it durable."""
        if self._is_durable:
            return
        try:
            self._disk.write_back(self._fd, wait)
        except OSError as error:
            if error.errno not in _NO_WRITE_BACK:
                raise
            self.harden()

    def harden(self) -> None:
        """Make the file durable."""
        self._disk.fsync(self._fd)
        self._is_durable = True

    def harden_group(self) -> None:
        """Make all of its file system durable."""
        assert self._disk.syncfs is not None
        self._disk.syncfs(self._fd)

    def publish(self, mend: Callable[[Path], None]) -> None:
        """Put it into ``new/`` of each of its mailboxes: never over a file that is there."""
        sizes = filenames.finished("", self._octets, self._wire_octets)
        for copy in self.copies:
            if copy.failure is None:
                try:
                    try:
                        copy.publish(self._octets, sizes, self._link)
                    except _GONE:
                        mend(copy.directory)
                        copy.publish(self._octets, sizes, self._link)
                except Exception as error:
                    copy.fail(error)

    def end(self) -> None:
        """Nothing more will be done with it: let the file go. Never raises."""
        with self._guard:
            self._ended = True
            self._drop_file()

    def _open(self, octets: int) -> None:
        if self._ended:
            raise StorageTrouble("withdrawn")
        for copy in self.copies:
            if copy.limit:
                attempt(partial(copy.check, octets), [copy])
        for home in self.going:
            self._temporary = home.begun
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            if self._disk.syncfs is not None:
                device = os.fstat(self._fd).st_dev
                self.device = device if self._disk.syncs_all(self._fd, device) else None
            return
        failure = self.copies[0].failure
        raise failure if failure is not None else StorageTrouble("no mailbox")

    def _leave_home(self, error: OSError) -> None:
        for home in self.going[:1]:
            home.fail(error)

    def _drop_file(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._temporary:
                with suppress(OSError):
                    os.unlink(self._temporary)

    def _link(self, copy: Copy, final: str) -> None:
        if len(self.going) == 1 and self._rename(final):
            copy.is_linked = True
            return
        try:
            self._disk.link(self._temporary, final)
            copy.is_linked = True
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(final):
                raise
            if len(self.going) == 1:
                os.rename(self._temporary, final)
                copy.is_linked = True
            else:
                self._duplicate(copy, final)

    def _rename(self, final: str) -> bool:
        """Give its only mailbox the file itself, if that can be done in one go."""
        if self._disk.rename is None:
            return False
        try:
            self._disk.rename(self._temporary, final)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            return False
        self._temporary = ""
        return True

    def _duplicate(self, copy: Copy, final: str) -> None:
        """A file of its own for a mailbox that cannot share one."""
        own = copy.directory / "tmp" / f"{copy.unique}.copy"
        try:
            fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(self._temporary, "rb") as source, open(fd, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                self._disk.fsync(target.fileno())
            own.rename(final)
        except BaseException:
            with suppress(OSError):
                own.unlink()
            raise

    def _write(self, data: bytes) -> None:
        if data.endswith(b"\r"):
            self._held, data = b"\r", data[:-1]
        else:
            self._held = b""
        lines = in_pairs(data)
        # A CR at the end of the file makes a pair with an LF that follows.
        if lines is not None and self._last != b"\r":
            self._append(lines, len(data))
        else:
            self._put(data.replace(b"\r\n", b"\n"))

    def _put(self, data: bytes) -> None:
        """Write what may hold CRs and LFs of any kind; it ends in no CR that may be half of a line end."""
        # What WireForm will make of it: a CRLF that stands on disk stays one.
        pairs = data.count(b"\r\n") if b"\r" in data else 0
        pairs += self._last == b"\r" and data.startswith(b"\n")
        self._append(data, len(data) + data.count(b"\n") - pairs)

    def _append(self, data: bytes, wire_octets: int) -> None:
        """Write it to the file; in wire form it has so many octets."""
        if not data:
            return
        if self._ended:
            raise StorageTrouble("withdrawn")
        self._wire_octets += wire_octets
        self._octets += len(data)
        self._last = data[-1:]
        written = self._disk.write(self._fd, data)
        while written < len(data):
            written += self._disk.write(self._fd, memoryview(data)[written:])


def commit(
    waiting: Sequence[Incoming],
    disk: Disk,
    prepare: Callable[[Path], None],
    mend: Callable[[Path], None] | None = None,
    contents: Ways | None = None,
    names: Ways | None = None,
) -> list[list[Exception | None]]:
    """Deliver all of them; return, for each copy of each, ``None`` or why it is not delivered.

    :param prepare: sees to it that a Maildir exists; need not look again at one that it knows.
    :param mend: the same for one that is missing, whatever is known of it; ``None``: as ``prepare``.
    :param contents: how files are best made durable; ``None``: that is not timed.
    :param names: the same for directories.
    """
    mend = mend or prepare
    _prepare(waiting, prepare)
    for incoming in waiting:
        try:
            _fill(incoming, mend)
        except Exception as error:
            _fail(incoming.going, error)
    going = [incoming for incoming in waiting if incoming.going]
    unsynced = _secure_contents(going, contents or Ways(None))
    for incoming in going:
        incoming.publish(mend)
    _sync(going, unsynced, disk, names or Ways(None))
    for incoming in waiting:
        incoming.end()
    return [[copy.failure for copy in incoming.copies] for incoming in waiting]


def _prepare(waiting: Sequence[Incoming], prepare: Callable[[Path], None]) -> None:
    mailboxes: dict[str, list[Copy]] = {}
    for incoming in waiting:
        for copy in incoming.copies:
            mailboxes.setdefault(copy.place, []).append(copy)
    for copies in mailboxes.values():
        try:
            prepare(copies[0].directory)
        except Exception as error:
            _fail(copies, error)


def _fill(incoming: Incoming, mend: Callable[[Path], None]) -> None:
    """See that it is written: where the first of its mailboxes cannot have the file, to the next."""
    while incoming.going:
        try:
            try:
                incoming.fill()
            except _GONE:
                mend(incoming.going[0].directory)
                incoming.fill()
        except OSError as error:
            if incoming.is_piecemeal:
                raise  # what was written is known to its file only
            incoming.move(error)
        else:
            return


def _fail(copies: Sequence[Copy], error: Exception) -> None:
    for copy in copies:
        if copy.failure is None:
            copy.fail(error)


def _secure_contents(going: Sequence[Incoming], ways: Ways) -> list[Incoming]:
    """See that no name can reach the disk before what it names; return what is not durable by that."""
    groups: dict[int | None, list[Incoming]] = {}
    for incoming in going:
        groups.setdefault(None if incoming.is_piecemeal else incoming.device, []).append(incoming)
    unsynced: list[Incoming] = []
    for device, members in groups.items():
        if device is not None and members[0].keeps_order:
            ways.take(partial(_write_back, members))
            unsynced += [incoming for incoming in members if not incoming.is_durable]
        elif device is None:
            ways.take(partial(_harden_each, members))
        else:
            together = partial(_succeeds, members[0].harden_group)
            ways.harden(len(members), together, partial(_harden_each, members))
    return unsynced


def _harden_each(members: Iterable[Incoming]) -> None:
    for incoming in members:
        attempt(incoming.harden, incoming.copies)


def _write_back(members: Sequence[Incoming]) -> None:
    """Begin with all of them before the first is waited for."""
    for wait in (False, True) if len(members) > 1 else (True,):
        for incoming in members:
            attempt(partial(incoming.write_back, wait), incoming.copies)


class _Rest:
    """What is to become durable yet, of one file system: names, and contents that were only written back.

    :param disk: on which.
    :param anyone: who has a file open there.
    """

    def __init__(self, disk: Disk, anyone: Incoming) -> None:
        self._disk = disk
        self._anyone = anyone
        self.files: list[Incoming] = []
        self.folders: dict[str, list[Copy]] = {}

    def sync(self, ways: Ways, can_together: bool) -> None:
        """All together, or each by itself."""
        if not can_together:
            ways.take(self._sync_each)
            return
        # A message has a file and a folder to be synced; the commit of the one takes the other along.
        most = max(len(self.files), len(self.folders))
        ways.harden(most, partial(_succeeds, self._anyone.harden_group), self._sync_each)

    def _sync_each(self) -> None:
        _harden_each(self.files)
        for folder, copies in self.folders.items():
            attempt(partial(sync_directory, folder, self._disk), copies)


def _sync(going: Sequence[Incoming], unsynced: Sequence[Incoming], disk: Disk, ways: Ways) -> None:
    """Make the names in every folder durable, and those contents that are not.

    What could be linked lies on the file system that it was written to.
    """
    rests: dict[int | None, _Rest] = {}
    for incoming in unsynced:
        if incoming.going:
            rests.setdefault(incoming.device, _Rest(disk, incoming)).files.append(incoming)
    for incoming in going:
        for copy in incoming.going:
            device = incoming.device if copy.is_linked else None
            rest = rests.get(device)
            if rest is None:
                rest = rests[device] = _Rest(disk, incoming)
            rest.folders.setdefault(copy.folder, []).append(copy)
    for device, rest in rests.items():
        rest.sync(ways, can_together=device is not None)


def _succeeds(step: Callable[[], object]) -> bool:
    try:
        step()
    except OSError:
        return False
    return True

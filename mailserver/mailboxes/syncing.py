"""Making a group of files durable in one go: ``syncfs`` (Linux) instead of one ``fsync`` for each.

Which is the better way is measured (:mod:`~mailserver.mailboxes.ways`). Since Linux 5.8 ``syncfs`` tells of
every write-back error on the file system since the descriptor was opened; before that it kept silent, and is
not used. Where it is missing, or fails, each file is synced by itself, and says itself what is wrong. Nor is
it used on file systems of which it is not known to do all that ``fsync`` does: on those of FUSE it does
nothing and says that all is well, and through overlayfs nobody hears of the errors of what is beneath.

Where the file system keeps the order (:mod:`~mailserver.mailboxes.ordering`), content can be written back
ahead of its name by ``sync_file_range``, which costs no flush at all, and makes nothing durable.
"""

import ctypes
import errno
import os
from collections.abc import Callable

from mailserver.mailboxes.mounts import ByMount, Mount

__all__ = ["SyncFS", "SyncsAll", "WriteBack", "find_syncfs", "find_write_back", "no_write_back"]

SyncFS = Callable[[int], None]
"""Makes everything on the file system of an open descriptor durable. Raises ``OSError``."""

WriteBack = Callable[[int, bool], None]
"""Has the content of an open file written to its device, and waits until it is there if that is wanted.

Raises ``OSError``: what befell this file. It is told once, an ``fsync`` after it would know of nothing.
"""

_TELLS_ERRORS = (5, 8)
_THAT_SYNC = frozenset({"bcachefs", "btrfs", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})
_BEGIN, _FINISH = 2, 1 | 2 | 4  # SYNC_FILE_RANGE_WRITE; and with _WAIT_BEFORE and _WAIT_AFTER


class SyncsAll(ByMount):
    """Tells whether ``syncfs`` makes all durable on the file system of an open file."""

    def _judge(self, mount: Mount, device: int) -> bool:
        return mount.kind in _THAT_SYNC


def find_syncfs(release: str) -> SyncFS | None:
    """The system call, where the kernel of this release has one that tells of errors."""
    numbers = release.split(".")[:2]
    if len(numbers) < 2 or not all(part.isascii() and part.isdecimal() for part in numbers):
        return None
    if (int(numbers[0]), int(numbers[1])) < _TELLS_ERRORS:
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None

    def syncfs(fd: int) -> None:
        if call(ctypes.c_int(fd)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return syncfs


def no_write_back(fd: int, wait: bool) -> None:
    """Where there is none."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def find_write_back() -> WriteBack:
    """The system call, of whole files."""
    try:
        call = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return no_write_back
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]

    def write_back(fd: int, wait: bool) -> None:
        if call(fd, 0, 0, _FINISH if wait else _BEGIN) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return write_back

"""Making a group of files durable in one go: ``syncfs`` (Linux) instead of one ``fsync`` for each.

``fsync`` of each of many small files costs the disk one flush a file; ``syncfs`` costs one for all of them,
and takes along whatever else waits to be written there, so it pays from a few files on. Since Linux 5.8 it
tells of every write-back error on the file system since the descriptor was opened; before that it kept
silent, and is not used. Where it is missing, or fails, each file is synced by itself, and says itself what is
wrong.

Where the file system keeps the order (:mod:`~mailserver.mailboxes.ordering`), content can be written back
ahead of its name by ``sync_file_range``, which costs no flush at all, and makes nothing durable.
"""

import ctypes
import errno
import os
from collections.abc import Callable

__all__ = ["SyncFS", "WriteBack", "find_syncfs", "find_write_back", "no_write_back"]

SyncFS = Callable[[int], None]
"""Makes everything on the file system of an open descriptor durable. Raises ``OSError``."""

WriteBack = Callable[[int, bool], None]
"""Has the content of an open file written to its device, and waits until it is there if that is wanted.

Raises ``OSError``: what befell this file. It is told once, an ``fsync`` after it would know of nothing.
"""

_TELLS_ERRORS = (5, 8)
_BEGIN, _FINISH = 2, 1 | 2 | 4  # SYNC_FILE_RANGE_WRITE; and with _WAIT_BEFORE and _WAIT_AFTER


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

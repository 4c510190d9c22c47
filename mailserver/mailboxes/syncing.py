"""Making a group of files durable in one go: ``syncfs`` (Linux) instead of one ``fsync`` for each.

``fsync`` of each of many small files costs the disk one flush a file; ``syncfs`` costs one for all of them,
and takes along whatever else waits to be written there, so it pays from a few files on. Since Linux 5.8 it
tells of every write-back error on the file system since the descriptor was opened; before that it kept
silent, and is not used. Where it is missing, or fails, each file is synced by itself, and says itself what is
wrong.
"""

import ctypes
import os
from collections.abc import Callable

__all__ = ["SyncFS", "find_syncfs"]

SyncFS = Callable[[int], None]
"""Makes everything on the file system of an open descriptor durable. Raises ``OSError``."""

_TELLS_ERRORS = (5, 8)


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

"""The disk of a run: what one server does to it is not to be felt by another.

ext4 without a journal, as virtual machines have it, lets nobody have the number of a removed file for a
minute or more, and whoever makes a file looks at all such numbers of its block group: after some thousand
removals that takes longer than all else about a message. Directories that are made below one that is marked
as the top of unrelated ones, as ``/home`` may be, begin in block groups of their own.
"""

import array
import fcntl
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["spread"]

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_TOP_OF_UNRELATED = 0x00020000  # FS_TOPDIR_FL, as "chattr +T" sets it


def spread(directory: Path) -> None:
    """Have what is made in this directory lie apart, where the file system can do so."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            flags = array.array("l", [0])
            fcntl.ioctl(handle, _GET_FLAGS, flags)
            flags[0] |= _TOP_OF_UNRELATED
            fcntl.ioctl(handle, _SET_FLAGS, flags)
    finally:
        os.close(handle)

"""Giving a file another name that nobody has: ``renameat2`` (Linux) with ``RENAME_NOREPLACE``.

One change of the file system, where a link and the removal of the old name are two; and as safe, for it fails
where the name is there already.
"""

import ctypes
import os
from collections.abc import Callable

__all__ = ["Rename", "find_rename"]

Rename = Callable[[str, str], None]
"""Gives the file of the first name the second one. Raises ``OSError``, ``FileExistsError`` among them."""

_HERE = -100  # AT_FDCWD
_NO_REPLACE = 1


def find_rename() -> Rename | None:
    """The system call, where the C library has it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def rename(source: str, target: str) -> None:
        if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), _NO_REPLACE) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), source, None, target)

    return rename

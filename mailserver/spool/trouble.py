"""What a failing disk or database means to those who wait for it."""

import errno
import sqlite3

from mailserver.interfaces import StorageFull, StorageTrouble

__all__ = ["Damage", "as_trouble", "is_damage"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGE_EXTENDED = {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


class Damage(StorageTrouble):
    """What is stored is not what was once written."""


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the database is not what was once written; others may pass."""
    if isinstance(error, Damage):
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE or code in _DAMAGE_EXTENDED


def as_trouble(error: BaseException) -> StorageTrouble:
    """The error as the interfaces promise it."""
    if isinstance(error, StorageTrouble):
        return error
    full = isinstance(error, OSError) and error.errno in _FULL
    full = full or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    trouble = (StorageFull if full else StorageTrouble)(f"{type(error).__name__}: {error}")
    trouble.__cause__ = error
    return trouble

"""Rewriting a file of an admin's in one step: what is not meant to change stays as it was.

A change is made under a lock on the file's directory, so that two admins do not undo each other, and
appears at once: written beside the file, flushed to the disk, renamed over it. A crash leaves the old file or
the new one. The file is the owner's alone (mode 0600) and keeps its owner; a link is followed, not replaced.

:raises OSError: the disk, or the permissions, would not have it.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mailserver.files import locked, sync_directory

__all__ = ["edit_lines", "make_directory", "read_lines"]


def edit_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Put what ``change`` makes of a file's lines in their place. What it raises leaves the file alone."""
    path = path.resolve()
    with locked(path.parent):
        _replace(path, "".join(line + "\n" for line in change(read_lines(path))))


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends; none where there is no file."""
    try:
        # What is not UTF-8 is kept as it is, and told by those who read the file.
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def _replace(path: Path, text: str) -> None:
    # mkstemp makes the file with mode 0600, under a name with a dot, which nothing here reads.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            _keep_owner(path, file.fileno())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """A new directory, durably, that belongs to the owner of the one it is in."""
    path.mkdir(mode=0o750)
    owner = os.stat(path.parent)
    with suppress(PermissionError):
        os.chown(path, owner.st_uid, owner.st_gid)
    sync_directory(path.parent)


def _keep_owner(path: Path, descriptor: int) -> None:
    """A file that root changes must stay readable for the server; a new one is its directory's owner's."""
    owner = os.stat(path if path.exists() else path.parent)
    with suppress(PermissionError):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)

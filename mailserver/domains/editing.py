"""Changing a ``users`` file: one line at a time, everything else as it was.

A change is made under a lock on the domain's directory, so that two admins do not undo each other, and
appears in one step: written beside the file, flushed to the disk, renamed over it. A crash leaves the old
file or the new one. Comments, blank lines and the order stay. The file is the owner's alone (mode 0600) and
keeps its owner; a link is followed, not replaced.

:raises OSError: the disk, or the permissions, would not have it.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mailserver.domains.naming import parse_local_key
from mailserver.domains.users import split_user_line

__all__ = ["NoSuchUser", "UserExists", "add_user", "has_user", "remove_user", "set_password"]


class NoSuchUser(Exception):
    """The file has no user of that name."""


class UserExists(Exception):
    """The file has a user of that name already."""


def has_user(directory: Path, domain: str, name: str) -> bool:
    """Whether the file has a line for a user, sound or not."""
    return _find(_read(directory / "users"), domain, name) is not None


def add_user(directory: Path, domain: str, name: str, password: str, quota: str = "") -> None:
    """Add a line for a user.

    :param directory: the domain's; the file in it comes into being if there is none.
    :param name: as in an address: quoted where it must be.
    :param password: as it is to be stored.
    :param quota: as it is to be written; nothing if empty.
    :raises UserExists: there is one.
    """
    line = f"{name}:{password}:quota={quota}" if quota else f"{name}:{password}"

    def change(lines: list[str]) -> list[str]:
        if _find(lines, domain, name) is not None:
            raise UserExists
        return [*lines, line]

    _edit(directory / "users", change)


def set_password(directory: Path, domain: str, name: str, password: str) -> None:
    """Put another password in a user's line, the options staying. :raises NoSuchUser: there is none."""

    def change(lines: list[str]) -> list[str]:
        at = _find(lines, domain, name)
        if at is None:
            raise NoSuchUser
        spelled, _, options = split_user_line(lines[at])
        lines[at] = f"{spelled}:{password}:{options}" if options else f"{spelled}:{password}"
        return lines

    _edit(directory / "users", change)


def remove_user(directory: Path, domain: str, name: str) -> None:
    """Take a user's line out. :raises NoSuchUser: there is none."""

    def change(lines: list[str]) -> list[str]:
        at = _find(lines, domain, name)
        if at is None:
            raise NoSuchUser
        return lines[:at] + lines[at + 1 :]

    _edit(directory / "users", change)


def _find(lines: list[str], domain: str, name: str) -> int | None:
    key = parse_local_key(name, domain)
    for number, line in enumerate(lines):
        spelled = split_user_line(line)[0]
        with suppress(ValueError):
            if spelled and parse_local_key(spelled, domain) == key:
                return number
    return None


def _edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = path.resolve()
    with _locked(path.parent):
        _replace(path, "".join(line + "\n" for line in change(_read(path))))


def _read(path: Path) -> list[str]:
    try:
        # What is not UTF-8 is kept as it is, and told by those who read the file.
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep_owner(path: Path, descriptor: int) -> None:
    """A file that root changes must stay readable for the server; a new one is its directory's owner's."""
    owner = os.stat(path if path.exists() else path.parent)
    with suppress(PermissionError):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)

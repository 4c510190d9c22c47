"""Changing a ``users`` file: one line at a time, everything else as it was.

Comments, blank lines and the order stay; :mod:`mailserver.domains.rewriting` says the rest.

:raises OSError: the disk, or the permissions, would not have it.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mailserver.domains.naming import parse_local_key
from mailserver.domains.rewriting import edit_lines, read_lines
from mailserver.domains.users import split_user_line

__all__ = [
    "NoSuchUser",
    "UserExists",
    "add_user",
    "add_users",
    "has_user",
    "remove_user",
    "set_option",
    "set_password",
    "spell_user",
]


class NoSuchUser(Exception):
    """The file has no user of that name."""


class UserExists(Exception):
    """The file has a user of that name already."""


def has_user(directory: Path, domain: str, name: str) -> bool:
    """Whether the file has a line for a user, sound or not."""
    return _find(read_lines(directory / "users"), domain, name) is not None


def spell_user(name: str, password: str, **options: str) -> str:
    """A user's line. Options that are empty are left out."""
    return _spell(name, password, [f"{key}={value}" for key, value in options.items() if value])


def add_user(
    directory: Path, domain: str, name: str, password: str, quota: str = "", verifier: str = ""
) -> None:
    """Add a line for a user.

    :param directory: the domain's; the file in it comes into being if there is none.
    :param name: as in an address: quoted where it must be.
    :param password: as it is to be stored.
    :param quota: as it is to be written; nothing if empty.
    :param verifier: of the same password, for SCRAM; nothing if empty.
    :raises UserExists: there is one.
    """
    line = spell_user(name, password, quota=quota, scram=verifier)

    def change(lines: list[str]) -> list[str]:
        if _find(lines, domain, name) is not None:
            raise UserExists
        return [*lines, line]

    edit_lines(directory / "users", change)


def add_users(directory: Path, lines: Sequence[str]) -> None:
    """Add whole lines, which have been found good and new, in one step."""
    edit_lines(directory / "users", lambda known: [*known, *lines])


def set_password(directory: Path, domain: str, name: str, password: str, verifier: str = "") -> None:
    """Put another password in a user's line, the options staying but for the verifier of the old one.

    :param verifier: of the new password, for SCRAM; none if empty.
    :raises NoSuchUser: there is none.
    """

    def change(spelled: str, old: str, options: list[str]) -> str:
        kept = [word for word in options if not word.startswith("scram=")]
        return _spell(spelled, password, [*kept, f"scram={verifier}" if verifier else ""])

    _change_user(directory, domain, name, change)


def set_option(directory: Path, domain: str, name: str, option: str, value: str | None) -> None:
    """Give a user's line an option in the place of the one of that name, if there is one.

    :param value: empty for an option that has none; ``None`` takes the option out.
    :raises NoSuchUser: there is none.
    """
    word = f"{option}={value}" if value else option if value is not None else ""

    def change(spelled: str, password: str, options: list[str]) -> str:
        kept = [known for known in options if known.partition("=")[0] != option]
        return _spell(spelled, password, [*kept, word])

    _change_user(directory, domain, name, change)


def _change_user(
    directory: Path, domain: str, name: str, change: Callable[[str, str, list[str]], str]
) -> None:
    """Have ``change`` spell a user's line anew from its name, password and options."""

    def change_lines(lines: list[str]) -> list[str]:
        at = _find(lines, domain, name)
        if at is None:
            raise NoSuchUser
        spelled, password, options = split_user_line(lines[at])
        lines[at] = change(spelled, password, re.split(r"[:\s]+", options))
        return lines

    edit_lines(directory / "users", change_lines)


def _spell(name: str, password: str, options: Sequence[str]) -> str:
    return ":".join((name, password, *filter(None, options)))


def remove_user(directory: Path, domain: str, name: str) -> None:
    """Take a user's line out. :raises NoSuchUser: there is none."""

    def change(lines: list[str]) -> list[str]:
        at = _find(lines, domain, name)
        if at is None:
            raise NoSuchUser
        return lines[:at] + lines[at + 1 :]

    edit_lines(directory / "users", change)


def _find(lines: list[str], domain: str, name: str) -> int | None:
    key = parse_local_key(name, domain)
    for number, line in enumerate(lines):
        spelled = split_user_line(line)[0]
        with suppress(ValueError):
            if spelled and parse_local_key(spelled, domain) == key:
                return number
    return None

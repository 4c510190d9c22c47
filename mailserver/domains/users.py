"""The ``users`` file of a domain: one line a user, ``name:password[:option=value …]``.

Lines that are blank or begin with ``#`` say nothing. A password is spelled as
:mod:`mailserver.domains.passwords` has it, and holds no colon. The one option is ``quota`` (``quota=50MB``;
0: none), and it goes before the domain's own. Names are case-insensitive and may be quoted.
"""

import difflib
import re
from collections.abc import Mapping

from attrs import field, frozen

from mailserver.domains.naming import parse_local_key
from mailserver.domains.passwords import fault, is_plain
from mailserver.domains.units import parse_size
from mailserver.interfaces import Account
from mailserver.model.address import Address
from mailserver.model.source import Problem, Source

__all__ = ["User", "parse_users", "spell_user_name", "split_user_line"]

_QUOTED_NAME = re.compile(r'("(?:[^"\\]|\\.)*")[^:]*')
_OPTIONS = ("quota",)


@frozen
class User:
    """One user.

    :ivar password: as it is stored, with its scheme.
    """

    account: Account
    password: str = field(repr=False)


def split_user_line(line: str) -> tuple[str, str, str]:
    """The name, the password and the options of a line; all empty where the line says nothing."""
    line = line.strip()
    if not line or line.startswith("#"):
        return "", "", ""
    if line.startswith('"') and (match := _QUOTED_NAME.match(line)):
        name, rest = line[: match.end()], line[match.end() + 1 :]
    else:
        name, _, rest = line.partition(":")
    password, _, options = rest.partition(":")
    return name.strip(), password, options


def spell_user_name(address: Address) -> str:
    """A user's name as the file has it: quoted where it must be."""
    name = str(Address(address.local, ""))
    return f'"{name}"' if name.startswith("#") else name


def parse_users(
    text: str, file: str, domain: str, quota: int = 0
) -> tuple[Mapping[str, User], tuple[Problem, ...]]:
    """Read a ``users`` file.

    :param file: what the file is called in problems.
    :param quota: of a user whose line names none, in octets.
    :returns: the users by key within the domain, in the order of the file, and all that is wrong.
    """
    users: dict[str, User] = {}
    problems: list[Problem] = []
    plain: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        name, password, options = split_user_line(line)
        if not name and not password:
            if line.strip() and not line.lstrip().startswith("#"):
                problems.append(Problem(Source(file, number), "", "has no name"))
            continue
        source = Source(file, number)
        try:
            key = parse_local_key(name, domain)
        except ValueError as error:
            problems.append(Problem(source, "", str(error)))
            continue
        try:
            user = _user(source, f"{key}@{domain}", password, options, quota)
        except ValueError as error:
            problems.append(Problem(source, name, str(error)))
            continue
        if known := users.get(key):
            problems.append(Problem(source, name, f"is in line {known.account.source.line} already"))
            continue
        users[key] = user
        if is_plain(password):
            plain.append(number)
    if plain:
        problems.append(_warn_of_plain(file, plain))
    return users, tuple(problems)


def _user(source: Source, name: str, password: str, options: str, quota: int) -> User:
    if trouble := fault(password):
        raise ValueError(f"the password {trouble}")
    for option in options.split(":"):
        for word in option.split():
            quota = _quota(word)
    return User(Account(name, quota, source), password)


def _quota(option: str) -> int:
    key, equals, value = option.partition("=")
    if not equals or key not in _OPTIONS:
        # A password with a colon in it ends up here, so the word itself is not repeated.
        close = difflib.get_close_matches(key, _OPTIONS, 1) if equals else []
        raise ValueError(
            f'unknown option, did you mean "{close[0]}"?'
            if close
            else "after the password come options, as quota=50MB; a password with a colon must be hashed"
        )
    return parse_size(int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else value)


def _warn_of_plain(file: str, lines: list[int]) -> Problem:
    who = "a password is" if len(lines) == 1 else f"{len(lines)} passwords, from here on, are"
    text = f"{who} readable {{PLAIN}}: set them with mailctl user passwd"
    return Problem(Source(file, lines[0]), "", text, fatal=False)

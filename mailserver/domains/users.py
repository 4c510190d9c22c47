"""The ``users`` file of a domain: one line a user, ``name:password[:option=value …]``.

Lines that are blank or begin with ``#`` say nothing. A password is spelled as
:mod:`mailserver.domains.passwords` has it, and holds no colon. Names are case-insensitive and may be quoted.

The options:

``quota=50MB``
    0: none; goes before the domain's own.
``messages=1000``
    How many the mailbox may hold; as ``quota``.
``disabled``
    The name exists and the mailbox stays, but takes no mail and no login.
``senders=info@example.org,@example.net,sales``
    As whom the user may send mail, beside its own addresses; ``@`` before a domain: anybody there.
``scram=…``
    What SCRAM checks a proof against; ``mailctl user`` writes it beside the password.
"""

import difflib
import re
from collections.abc import Callable, Mapping

from attrs import evolve, field, frozen

from mailserver.domains.naming import parse_domain, parse_local_key, parse_mailbox
from mailserver.domains.passwords import fault, is_plain
from mailserver.domains.units import parse_size
from mailserver.interfaces import Account
from mailserver.model.address import Address
from mailserver.model.source import Problem, Source
from mailserver.wire.scram import Verifier

__all__ = ["User", "parse_users", "spell_user_name", "split_user_line"]

_QUOTED_NAME = re.compile(r'("(?:[^"\\]|\\.)*")[^:]*')


@frozen
class User:
    """One user.

    :ivar password: as it is stored, with its scheme.
    :ivar scram: of the same password; ``None`` where there is none.
    :ivar senders: as :attr:`mailserver.interfaces.SenderRights.extra`.
    """

    account: Account
    password: str = field(repr=False)
    scram: Verifier | None = None
    senders: frozenset[str] = frozenset()


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
    text: str, file: str, domain: str, quota: int = 0, messages: int = 0
) -> tuple[Mapping[str, User], tuple[Problem, ...]]:
    """Read a ``users`` file.

    :param file: what the file is called in problems.
    :param quota: of a user whose line names none, in octets.
    :param messages: how many of them, likewise.
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
            user = _user(source, f"{key}@{domain}", password, options, Account("", quota, messages=messages))
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


def _user(source: Source, name: str, password: str, options: str, usual: Account) -> User:
    if trouble := fault(password):
        raise ValueError(f"the password {trouble}")
    user = User(Account(name, usual.quota, source, usual.messages), password)
    for option in options.split(":"):
        for word in option.split():
            user = _with_option(user, word)
    return user


def _with_option(user: User, option: str) -> User:
    key, equals, value = option.partition("=")
    change = _OPTIONS.get(key) if equals else _FLAGS.get(key)
    if change is None:
        # A password with a colon in it ends up here, so the word itself is not repeated.
        close = difflib.get_close_matches(key, _OPTIONS, 1) if equals else []
        raise ValueError(
            f'unknown option, did you mean "{close[0]}"?'
            if close
            else "after the password come options, as quota=50MB; a password with a colon must be hashed"
        )
    return change(user, value)


def _with_quota(user: User, value: str) -> User:
    plain = value.isascii() and value.isdecimal() and len(value) < 20
    return evolve(user, account=evolve(user.account, quota=parse_size(int(value) if plain else value)))


def _with_messages(user: User, value: str) -> User:
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise ValueError(f'"{value}" is not a number of messages')
    return evolve(user, account=evolve(user.account, messages=int(value)))


def _disabled(user: User, value: str) -> User:
    return evolve(user, account=evolve(user.account, disabled=True))


def _with_senders(user: User, value: str) -> User:
    home = user.account.name.rpartition("@")[2]
    return evolve(user, senders=frozenset(_sender(word, home) for word in value.split(",") if word))


def _sender(word: str, home: str) -> str:
    return f"@{parse_domain(word[1:])}" if word.startswith("@") else parse_mailbox(word, home).key


def _with_verifier(user: User, value: str) -> User:
    return evolve(user, scram=Verifier.parse(value))


_OPTIONS: Mapping[str, Callable[[User, str], User]] = {
    "quota": _with_quota,
    "messages": _with_messages,
    "senders": _with_senders,
    "scram": _with_verifier,
}


_FLAGS: Mapping[str, Callable[[User, str], User]] = {"disabled": _disabled}


def _warn_of_plain(file: str, lines: list[int]) -> Problem:
    who = "a password is" if len(lines) == 1 else f"{len(lines)} passwords, from here on, are"
    text = f"{who} readable {{PLAIN}}: set them with mailctl user passwd"
    return Problem(Source(file, lines[0]), "", text, fatal=False)

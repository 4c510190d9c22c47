"""The ``domains/`` directory, read whole: every domain hosted here, and all that is wrong with them.

A directory's name is the domain's; names that begin with a dot are passed over, internationalised names
may be written either way. In it, all optional:

``users``
    :mod:`mailserver.domains.users`
``aliases``
    :mod:`mailserver.domains.aliases`
``domain.toml``
    ``quota = "1GB"``, ``messages = 5000``: of users whose line names none. ``separators = "+"``: what sets a
    tag off from the name; ``""``: nothing. ``catch_all = "alice"``: who gets what is for nobody, as ``*`` in
    ``aliases``.
    ``check_from = true``: what users send names them in its From field, too.

Reading takes seconds for tens of thousands of users; it blocks, and belongs in a thread once the server
runs. A :class:`~mailserver.domains.domain.Tree` never changes.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mailserver.domains.aliases import CATCH_ALL, Alias, parse_aliases
from mailserver.domains.circles import check_aliases
from mailserver.domains.domain import NO_DOMAINS, Domain, Tree, choose_decoy
from mailserver.domains.naming import parse_domain, parse_mailbox
from mailserver.domains.textfile import read_text
from mailserver.domains.tomlfile import Table, read_toml
from mailserver.domains.units import parse_size
from mailserver.domains.users import User, parse_users
from mailserver.model.source import Problem, Source

__all__ = ["directory_of", "load_tree"]

_FILES = ("users", "aliases", "domain.toml")


def _check_separators(text: str) -> str:
    if any(letter.isalnum() or letter in '@"\\' or not letter.isprintable() for letter in text):
        raise ValueError('a separator is a sign like "+" or "-"')
    return text


class _Settings(Table):
    quota: Annotated[int, BeforeValidator(parse_size)] = 0
    messages: Annotated[int, Field(ge=0)] = 0
    separators: Annotated[str, AfterValidator(_check_separators)] = "+"
    catch_all: str = ""
    check_from: bool = True


def load_tree(directory: Path, shown: str = "") -> tuple[Tree, tuple[Problem, ...]]:
    """Read every domain.

    :param shown: what the directory is called in problems; its path if empty.
    :returns: the domains, and all that is wrong with any of them. Where a problem is fatal the tree holds
        what could be read, and is not to be used.
    """
    shown = shown or str(directory)
    problems: list[Problem] = []
    domains: dict[str, Domain] = {}
    try:
        directories = _directories(directory)
    except OSError as error:
        return NO_DOMAINS, (Problem(Source(shown), "", f"cannot be read: {error.strerror or error}"),)
    for directory_name, path in directories:
        source = Source(f"{shown}/{directory_name}")
        try:
            name = parse_domain(directory_name)
        except ValueError as error:
            problems.append(Problem(source, "", str(error)))
            continue
        if name in domains:
            problems.append(Problem(source, "", f"is the domain {name}, which another directory is already"))
            continue
        domains[name], found = _load_domain(path, source.file, name)
        problems += found
    tree = Tree({name: domains[name] for name in sorted(domains)})
    problems += check_aliases(tree.domains)
    return tree, tuple(problems)


def directory_of(directory: Path, domain: str) -> Path | None:
    """Where a domain's files are, however the directory's name is spelled; ``None`` if it is not hosted."""
    for name, path in _directories(directory):
        with suppress(ValueError):
            if parse_domain(name) == domain:
                return path
    return None


def _directories(directory: Path) -> list[tuple[str, Path]]:
    with os.scandir(directory) as entries:
        found = [(entry.name, Path(entry.path)) for entry in entries if entry.is_dir()]
    return sorted((name, path) for name, path in found if not name.startswith("."))


def _load_domain(path: Path, shown: str, name: str) -> tuple[Domain, list[Problem]]:
    problems = list(_strange_files(path, shown))

    def read(file: str) -> str | None:
        # What is absent is as good as empty.
        if not (path / file).exists():
            return None
        text, trouble = read_text(path / file, f"{shown}/{file}")
        problems.extend(trouble)
        return text

    settings, catch_all = _Settings(), None
    if text := read("domain.toml"):
        settings, catch_all, found = _read_settings(text, f"{shown}/domain.toml", name)
        problems += found
    users: Mapping[str, User] = {}
    if text := read("users"):
        users, more = parse_users(text, f"{shown}/users", name, settings.quota, settings.messages)
        problems += more
    aliases: dict[str, Alias] = {}
    if text := read("aliases"):
        parsed, more = parse_aliases(text, f"{shown}/aliases", name)
        aliases = dict(parsed)
        problems += more
    problems += _doubles(users, aliases)
    star = aliases.pop(CATCH_ALL, None)
    if star and catch_all:
        problems.append(Problem(star.source, CATCH_ALL, f"there is one in {catch_all.source} already"))
    domain = Domain(
        name=name,
        source=Source(f"{shown}/users" if users else shown),
        users=users,
        aliases=aliases,
        catch_all=star or catch_all,
        separators=settings.separators,
        quota=settings.quota,
        messages=settings.messages,
        check_from=settings.check_from,
        decoy=choose_decoy(users),
    )
    return domain, problems


def _read_settings(text: str, file: str, name: str) -> tuple[_Settings, Alias | None, tuple[Problem, ...]]:
    settings, problems, positions = read_toml(text, file, _Settings)
    if settings is None or not settings.catch_all:
        return settings or _Settings(), None, problems
    source = Source(file, positions.line(["catch_all"]))
    try:
        target = parse_mailbox(settings.catch_all, name)
    except ValueError as error:
        return settings, None, (*problems, Problem(source, "catch_all", str(error)))
    return settings, Alias(CATCH_ALL, source, (target,), (source.line,)), problems


def _doubles(users: Mapping[str, User], aliases: Mapping[str, Alias]) -> Iterator[Problem]:
    for name in filter(users.__contains__, aliases):
        where = users[name].account.source
        text = f"is a user too ({where}); give the alias another name, it would never be used"
        yield Problem(aliases[name].source, name, text)


def _strange_files(path: Path, shown: str) -> Iterator[Problem]:
    """Files whose names look mistyped: nobody would be told why the users in them do not exist."""
    for name in sorted(os.listdir(path)):
        if name not in _FILES and not name.startswith(".") and not name.endswith("~"):
            for close in difflib.get_close_matches(name.lower(), _FILES, 1, 0.75):
                yield Problem(Source(f"{shown}/{name}"), "", f'is not read, did you mean "{close}"?', False)

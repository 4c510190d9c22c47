"""``mailctl user import``: many users at once, from a CSV file.

The first line names the columns: ``address`` and ``password``, and, where wanted, ``quota`` and ``messages``.
A password is in clear, or stored as another server had it, with its scheme: ``{SSHA512}…``. All that is wrong
is told at once, and then nothing is written. A domain's users are added in one step.
"""

import csv
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

import click
from attrs import field, frozen

from mailserver.cli.configuration import server_configuration
from mailserver.domains.domain import Tree
from mailserver.domains.editing import add_users, spell_user
from mailserver.domains.naming import local_key, parse_mailbox
from mailserver.domains.passwords import check_password, hash_password
from mailserver.domains.tree import directory_of, load_tree
from mailserver.domains.units import parse_size
from mailserver.domains.users import parse_users, spell_user_name
from mailserver.model.address import Address
from mailserver.wire.scram import make_verifier

__all__ = ["import_users"]

_REQUIRED = ("address", "password")
_COLUMNS = (*_REQUIRED, "quota", "messages")
_NO_HASH = "{PLAIN}x"  # stands in for a hash that is yet to be made while a line is checked


@frozen
class _User:
    line: int
    named: Address
    password: str = field(repr=False)
    quota: str
    messages: str

    @property
    def is_stored(self) -> bool:
        return self.password.startswith("{")

    def spell(self, password: str, verifier: str) -> str:
        """The line of the ``users`` file."""
        name = spell_user_name(self.named)
        return spell_user(name, password, quota=self.quota, messages=self.messages, scram=verifier)


@click.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@click.pass_context
def import_users(context: click.Context, file: TextIO) -> None:
    """Add the users of a CSV file: address,password[,quota][,messages].

    A running server sees them after "mailctl reload".
    """
    domains = server_configuration(context).domains
    tree, _ = load_tree(domains)
    problems: list[str] = []
    try:
        users = list(_read(file, tree, lambda line, text: problems.append(f"{file.name}:{line}: {text}")))
    except (UnicodeDecodeError, csv.Error) as trouble:
        raise click.ClickException(f"{file.name} is no CSV file in UTF-8: {trouble}") from None
    if problems:
        for problem in problems:
            click.echo(problem, err=True)
        raise click.ClickException(f"nothing was written: {len(problems)} of the lines are wrong")
    lines: dict[str, list[str]] = {}
    with (
        click.progressbar(length=len(users), label="hashing", file=sys.stderr) as bar,
        ThreadPoolExecutor() as pool,
    ):
        for user, line in zip(users, pool.map(_finish, users), strict=True):
            lines.setdefault(user.named.domain, []).append(line)
            bar.update(1)
    for domain, added in lines.items():
        directory = directory_of(domains, domain)
        if directory is None:
            raise click.ClickException(f"{domain} is hosted no more")
        add_users(directory, added)
    click.echo(f"added {len(users)} users in {len(lines)} domain{'s' * (len(lines) != 1)}")


def _read(file: TextIO, tree: Tree, wrong: Callable[[int, str], None]) -> Iterator[_User]:
    rows = csv.DictReader(file)
    names = [name.strip().lower() for name in rows.fieldnames or ()]
    strange = [name for name in names if name not in _COLUMNS]
    if strange or any(name not in names for name in _REQUIRED):
        wrong(1, f"the first line names the columns: {', '.join(_COLUMNS)}; the last two may be left out")
        return
    rows.fieldnames = names
    seen: dict[str, int] = {}
    for row in rows:
        if None in row:
            wrong(rows.line_num, "has more fields than there are columns")
            continue
        values = {name: (value or "").strip() for name, value in row.items() if name != "password"}
        try:
            user = _check(rows.line_num, values, row["password"] or "", tree)
        except ValueError as error:
            wrong(rows.line_num, str(error))
            continue
        first = seen.setdefault(user.named.key, rows.line_num)
        if first != rows.line_num:
            wrong(rows.line_num, f"{user.named} is in line {first} already")
        yield user


def _check(line: int, values: Mapping[str, str], password: str, tree: Tree) -> _User:
    """The user of a row. Raises ``ValueError``."""
    named = parse_mailbox(values["address"])
    hosted = tree.domains.get(named.domain)
    if hosted is None:
        raise ValueError(f"{named.domain} is not hosted here")
    key = local_key(named)
    if key in hosted.users:
        raise ValueError(f"{named} exists already")
    if key in hosted.aliases:
        raise ValueError(f"{named} is an alias ({hosted.aliases[key].source})")
    quota = values.get("quota", "")
    if quota:
        parse_size(int(quota) if quota.isascii() and quota.isdecimal() and len(quota) < 20 else quota)
    if not password.startswith("{"):
        check_password(password.encode())
    user = _User(line, named, password, quota.replace(" ", ""), values.get("messages", ""))
    text = user.spell(password if user.is_stored else _NO_HASH, "")
    known, problems = parse_users(text, "", named.domain)
    for problem in problems:
        if problem.fatal:
            raise ValueError(problem.text)
    if list(known) != [key]:
        raise ValueError("holds what no line of a users file may hold")
    return user


def _finish(user: _User) -> str:
    """The line of the file. Called in threads, for hashing takes its time."""
    if user.is_stored:
        return user.spell(user.password, "")
    password = user.password.encode()
    return user.spell(hash_password(password), str(make_verifier(password, secrets.token_bytes(16))))

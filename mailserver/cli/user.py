"""``mailctl user``: the users of the hosted domains.

Changes are written to the domain's ``users`` file, by :mod:`mailserver.domains.editing`; a running server
sees them after ``mailctl reload``. They work while something else in ``domains/`` is wrong, so that it can
be mended with them.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click
from attrs import frozen

from mailserver.cli.configuration import server_configuration
from mailserver.domains.aliases import Alias
from mailserver.domains.editing import (
    NoSuchUser,
    UserExists,
    add_user,
    has_user,
    remove_user,
    set_password,
)
from mailserver.domains.naming import local_key, parse_domain, parse_mailbox
from mailserver.domains.passwords import LONGEST, BadPassword, hash_password
from mailserver.domains.tree import Tree, directory_of, load_tree
from mailserver.domains.units import parse_size, spell_size
from mailserver.domains.users import spell_user_name
from mailserver.interfaces import Account
from mailserver.model.address import Address

__all__ = ["user"]

T = TypeVar("T")

_stdin_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from the first line of the input."
)
_address_argument = click.argument("address", metavar="NAME@DOMAIN")


@click.group()
def user() -> None:
    """Users: add, list, remove, and their passwords.

    A running server sees a change after "mailctl reload".
    """


@user.command()
@_address_argument
@_stdin_option
@click.option("--quota", metavar="SIZE", default="", help='Of the mailbox, as "50MB"; "0": none.')
@click.pass_context
def add(context: click.Context, address: str, from_stdin: bool, quota: str) -> None:
    """Add a user. The mailbox comes into being with its first message or login."""
    place = _locate(context, address)
    named = place.named
    if alias := place.tree.domains[named.domain].aliases.get(local_key(named)):
        raise click.ClickException(f"{named} is an alias ({alias.source})")
    if has_user(place.directory, named.domain, place.spelled):
        raise click.ClickException(f"{named} exists already")
    _check_quota(quota)
    stored = _ask_password(from_stdin)
    try:
        add_user(place.directory, named.domain, place.spelled, stored, quota)
    except UserExists:
        raise click.ClickException(f"{named} exists already") from None
    click.echo(f"added {named}")


@user.command()
@_address_argument
@_stdin_option
@click.pass_context
def passwd(context: click.Context, address: str, from_stdin: bool) -> None:
    """Give a user another password."""
    place = _locate(context, address)
    named = place.named
    if not has_user(place.directory, named.domain, place.spelled):
        raise click.ClickException(f"{named} does not exist")
    stored = _ask_password(from_stdin)
    try:
        set_password(place.directory, named.domain, place.spelled, stored)
    except NoSuchUser:
        raise click.ClickException(f"{named} does not exist") from None
    click.echo(f"changed the password of {named}")


@user.command()
@_address_argument
@click.pass_context
def remove(context: click.Context, address: str) -> None:
    """Remove a user. The mailbox stays where it is."""
    place = _locate(context, address)
    named = place.named
    for alias in _aliases_to(place.tree, named):
        raise click.ClickException(f"{named} is a target of {alias.name} ({alias.source}): change that first")
    try:
        remove_user(place.directory, named.domain, place.spelled)
    except NoSuchUser:
        raise click.ClickException(f"{named} does not exist") from None
    click.echo(f"removed {named}")


@user.command("list")
@click.argument("domain", required=False)
@click.pass_context
def list_users(context: click.Context, domain: str | None) -> None:
    """List the users of a domain, or of all, with their quotas."""
    tree, _ = load_tree(server_configuration(context).domains)
    domains = tree.domains
    if domain is not None:
        name = _parse(parse_domain, domain)
        if name not in domains:
            raise click.ClickException(f"{name} is not hosted here")
        domains = {name: domains[name]}
    accounts = [user.account for hosted in domains.values() for user in hosted.users.values()]
    width = max((len(account.name) for account in accounts), default=0)
    for account in accounts:
        quota = spell_size(account.quota) if account.quota else "-"
        click.echo(f"{account.name:{width}}  quota={quota}")


@frozen
class _Place:
    """The user meant, how the file spells the name, and where the file is."""

    named: Address
    spelled: str
    directory: Path
    tree: Tree


def _locate(context: click.Context, address: str) -> _Place:
    domains = server_configuration(context).domains
    named = _parse(parse_mailbox, address)
    directory = directory_of(domains, named.domain)
    if directory is None:
        raise click.ClickException(
            f"{named.domain} is not hosted here; to host it, make the directory {domains / named.domain}"
        )
    tree, _ = load_tree(domains)
    return _Place(named, spell_user_name(named), directory, tree)


def _parse(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _check_quota(quota: str) -> None:
    if quota:
        _parse(parse_size, quota)
    if ":" in quota or quota != "".join(quota.split()):
        raise click.ClickException(f'"{quota}" is not a size')


def _aliases_to(tree: Tree, named: Address) -> Iterator[Alias]:
    """The aliases that name a user as their target, tagged or not: they would be left hanging."""
    for domain in tree.domains.values():
        for alias in (*domain.aliases.values(), *((domain.catch_all,) if domain.catch_all else ())):
            for target in alias.targets:
                hosted = tree.domains.get(target.domain) if target.domain == named.domain else None
                found = hosted.find(local_key(target)) if hosted else None
                if isinstance(found, Account) and found.name == named.key:
                    yield alias


def _ask_password(from_stdin: bool) -> str:
    """What to store for a password that is asked for, or read from the input."""
    if from_stdin:
        password = sys.stdin.buffer.readline(2 * LONGEST).removesuffix(b"\n").removesuffix(b"\r")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True).encode()
    try:
        return hash_password(password)
    except BadPassword as error:
        raise click.ClickException(str(error)) from None

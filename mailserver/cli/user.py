"""``mailctl user``: the users of the hosted domains.

Changes are written to the domain's ``users`` file, by :mod:`mailserver.domains.editing`; a running server
sees them after ``mailctl reload``. They work while something else in ``domains/`` is wrong, so that it can
be mended with them.
"""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mailserver.cli.bulk import import_users
from mailserver.cli.configuration import server_configuration
from mailserver.cli.places import locate, parse
from mailserver.domains.aliases import Alias
from mailserver.domains.domain import Tree
from mailserver.domains.editing import (
    NoSuchUser,
    UserExists,
    add_user,
    has_user,
    remove_user,
    set_option,
    set_password,
)
from mailserver.domains.naming import local_key, parse_domain
from mailserver.domains.passwords import LONGEST, BadPassword, hash_password
from mailserver.domains.tree import load_tree
from mailserver.domains.units import parse_size, spell_size
from mailserver.interfaces import Account
from mailserver.mailboxes import walking
from mailserver.mailboxes.quota import Limit, count, noted
from mailserver.model.address import Address
from mailserver.wire.scram import make_verifier

__all__ = ["user"]

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
    place = locate(context, address)
    named = place.named
    if alias := place.tree.domains[named.domain].aliases.get(local_key(named)):
        raise click.ClickException(f"{named} is an alias ({alias.source})")
    if has_user(place.directory, named.domain, place.spelled):
        raise click.ClickException(f"{named} exists already")
    _check_quota(quota)
    stored, verifier = _ask_password(from_stdin)
    try:
        add_user(place.directory, named.domain, place.spelled, stored, quota, verifier)
    except UserExists:
        raise click.ClickException(f"{named} exists already") from None
    click.echo(f"added {named}")


@user.command()
@_address_argument
@_stdin_option
@click.pass_context
def passwd(context: click.Context, address: str, from_stdin: bool) -> None:
    """Give a user another password."""
    place = locate(context, address)
    named = place.named
    if not has_user(place.directory, named.domain, place.spelled):
        raise click.ClickException(f"{named} does not exist")
    stored, verifier = _ask_password(from_stdin)
    try:
        set_password(place.directory, named.domain, place.spelled, stored, verifier)
    except NoSuchUser:
        raise click.ClickException(f"{named} does not exist") from None
    click.echo(f"changed the password of {named}")


@user.command()
@_address_argument
@click.pass_context
def remove(context: click.Context, address: str) -> None:
    """Remove a user. The mailbox stays where it is."""
    place = locate(context, address)
    named = place.named
    for alias in _aliases_to(place.tree, named):
        raise click.ClickException(f"{named} is a target of {alias.name} ({alias.source}): change that first")
    try:
        remove_user(place.directory, named.domain, place.spelled)
    except NoSuchUser:
        raise click.ClickException(f"{named} does not exist") from None
    click.echo(f"removed {named}")


@user.command()
@_address_argument
@click.argument("size")
@click.option("--messages", type=click.IntRange(min=0), help="How many the mailbox may hold; 0: any number.")
@click.pass_context
def quota(context: click.Context, address: str, size: str, messages: int | None) -> None:
    """Give a user another quota, as "50MB"; "0": none."""
    _check_quota(size)
    _set_option(context, address, "quota", size)
    if messages is not None:
        _set_option(context, address, "messages", str(messages))
    click.echo(f"changed the quota of {address}")


@user.command()
@_address_argument
@click.pass_context
def disable(context: click.Context, address: str) -> None:
    """Take neither mail nor logins for a user. The mailbox stays."""
    _set_option(context, address, "disabled", "")
    click.echo(f"disabled {address}")


@user.command()
@_address_argument
@click.pass_context
def enable(context: click.Context, address: str) -> None:
    """Take mail and logins for a user again."""
    _set_option(context, address, "disabled", None)
    click.echo(f"enabled {address}")


user.add_command(import_users)


@user.command("list")
@click.argument("domain", required=False)
@click.pass_context
def list_users(context: click.Context, domain: str | None) -> None:
    """List the users of a domain, or of all, with what their mailboxes hold and may hold."""
    config = server_configuration(context)
    tree, _ = load_tree(config.domains)
    domains = tree.domains
    if domain is not None:
        name = parse(parse_domain, domain)
        if name not in domains:
            raise click.ClickException(f"{name} is not hosted here")
        domains = {name: domains[name]}
    accounts = [user.account for hosted in domains.values() for user in hosted.users.values()]
    width = max((len(account.name) for account in accounts), default=0)
    for account in accounts:
        limit = spell_size(account.quota) if account.quota else "-"
        words = [f"{account.name:{width}}", f"quota={limit}"]
        words += [f"messages={account.messages}"] if account.messages else []
        words += _spell_use(account, walking.directory_of(config.state / "mail", account.name))
        click.echo("  ".join([*words, "disabled"] if account.disabled else words))


def _spell_use(account: Account, directory: Path) -> list[str]:
    limit = Limit.of(account)
    try:
        use = noted(directory, limit) if limit else None
        use = use or count(directory)
    except FileNotFoundError:
        return ["empty"]
    except OSError as error:
        return [f"({error.strerror})"]
    full = f" ({limit.percent(use):.0f} %)" if limit else ""
    return [f"holds {use.octets} octets in {use.messages} messages{full}"]


def _set_option(context: click.Context, address: str, option: str, value: str | None) -> None:
    place = locate(context, address)
    try:
        set_option(place.directory, place.named.domain, place.spelled, option, value)
    except NoSuchUser:
        raise click.ClickException(f"{place.named} does not exist") from None


def _check_quota(quota: str) -> None:
    if quota:
        parse(parse_size, quota)
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


def _ask_password(from_stdin: bool) -> tuple[str, str]:
    """What to store for a password that is asked for, or read from the input: its hash, and its verifier."""
    if from_stdin:
        password = sys.stdin.buffer.readline(2 * LONGEST).removesuffix(b"\n").removesuffix(b"\r")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True).encode()
    try:
        return hash_password(password), str(make_verifier(password, secrets.token_bytes(16)))
    except BadPassword as error:
        raise click.ClickException(str(error)) from None

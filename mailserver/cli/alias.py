"""``mailctl alias``: the aliases of the hosted domains.

Changes are written to the domain's ``aliases`` file, by :mod:`mailserver.domains.aliasing`; a running server
sees them after ``mailctl reload``. What would be wrong with the whole is told before anything is written.
"""

from pathlib import Path

import click

from mailserver.cli.configuration import server_configuration
from mailserver.cli.places import parse
from mailserver.domains.aliases import CATCH_ALL, Alias
from mailserver.domains.aliasing import AliasExists, NoSuchAlias, add_alias, remove_alias
from mailserver.domains.naming import local_key, parse_domain, parse_mailbox
from mailserver.domains.tree import directory_of, load_tree
from mailserver.domains.users import spell_user_name

__all__ = ["alias"]

_address_argument = click.argument("address", metavar="NAME@DOMAIN")


@click.group()
def alias() -> None:
    """Aliases: add, remove, list. "*@example.lan" is the catch-all of a domain.

    A running server sees a change after "mailctl reload".
    """


@alias.command()
@_address_argument
@click.argument("targets", nargs=-1, required=True)
@click.pass_context
def add(context: click.Context, address: str, targets: tuple[str, ...]) -> None:
    """Add an alias: where its mail goes, as addresses, or as "|/path/of/program"."""
    directory, domain, name = _locate(context, address)
    tree, _ = load_tree(server_configuration(context).domains)
    key = name if name == CATCH_ALL else local_key(parse(parse_mailbox, address))
    if key in tree.domains[domain].users:
        raise click.ClickException(f"{address} is a user ({tree.domains[domain].users[key].account.source})")
    for target in targets:
        if not target.startswith("|"):
            found = parse(lambda text: parse_mailbox(text, domain), target)
            hosted = tree.domains.get(found.domain)
            if hosted is not None and hosted.find(local_key(found)) is None:
                raise click.ClickException(f"{found} does not exist")
    try:
        parse(lambda spelled: add_alias(directory, domain, spelled, targets), name)
    except AliasExists:
        raise click.ClickException(f"{address} exists already") from None
    click.echo(f"added {address}")
    _, problems = load_tree(server_configuration(context).domains)
    for problem in problems:
        if problem.fatal:
            click.echo(f"{problem}", err=True)


@alias.command()
@_address_argument
@click.pass_context
def remove(context: click.Context, address: str) -> None:
    """Remove an alias."""
    directory, domain, name = _locate(context, address)
    try:
        remove_alias(directory, domain, name)
    except NoSuchAlias:
        raise click.ClickException(f"{address} does not exist") from None
    click.echo(f"removed {address}")


@alias.command("list")
@click.argument("domain", required=False)
@click.pass_context
def list_aliases(context: click.Context, domain: str | None) -> None:
    """List the aliases of a domain, or of all, with where they lead to."""
    tree, _ = load_tree(server_configuration(context).domains)
    name = parse(parse_domain, domain) if domain is not None else None
    if name is not None and name not in tree.domains:
        raise click.ClickException(f"{name} is not hosted here")
    for hosted in tree.domains.values():
        if name in (None, hosted.name):
            for one in (*hosted.aliases.values(), *([hosted.catch_all] if hosted.catch_all else [])):
                click.echo(f"{one.name}@{hosted.name}: {_spell_targets(one)}")


def _spell_targets(one: Alias) -> str:
    return ", ".join([*map(str, one.targets), *(f"|{command}" for command in one.commands)])


def _locate(context: click.Context, address: str) -> tuple[Path, str, str]:
    """The domain's directory, the domain, and the alias's name as the file spells it."""
    if address.startswith(f"{CATCH_ALL}@"):
        name, domain = CATCH_ALL, parse(parse_domain, address[2:])
    else:
        named = parse(parse_mailbox, address)
        name, domain = spell_user_name(named), named.domain
    directory = directory_of(server_configuration(context).domains, domain)
    if directory is None:
        raise click.ClickException(f"{domain} is not hosted here; to host it: mailctl domain add")
    return directory, domain, name

"""``mailctl domain``: the domains hosted here. A domain is a directory below ``domains/``, and nothing else.

A running server sees a change after ``mailctl reload``.
"""

from datetime import UTC, datetime

import click

from mailserver.cli.configuration import server_configuration
from mailserver.cli.places import parse
from mailserver.domains.naming import parse_domain
from mailserver.domains.rewriting import make_directory
from mailserver.domains.tree import directory_of, load_tree
from mailserver.files import sync_directory

__all__ = ["domain"]


@click.group()
def domain() -> None:
    """Hosted domains: add, remove, list.

    A running server sees a change after "mailctl reload".
    """


@domain.command()
@click.argument("name")
@click.pass_context
def add(context: click.Context, name: str) -> None:
    """Host a domain."""
    domains = server_configuration(context).domains
    spelled = parse(parse_domain, name)
    if directory_of(domains, spelled) is not None:
        raise click.ClickException(f"{spelled} is hosted already")
    make_directory(domains / spelled)
    click.echo(f"added {spelled}: now add its users, with mailctl user add")


@domain.command()
@click.argument("name")
@click.option("--with-users", is_flag=True, help="Although there are users.")
@click.pass_context
def remove(context: click.Context, name: str, with_users: bool) -> None:
    """Host a domain no more. Its files are set aside under a name with a dot; mailboxes stay."""
    domains = server_configuration(context).domains
    spelled = parse(parse_domain, name)
    directory = directory_of(domains, spelled)
    if directory is None:
        raise click.ClickException(f"{spelled} is not hosted here")
    tree, _ = load_tree(domains)
    users = len(tree.domains[spelled].users)
    if users and not with_users:
        has = "has 1 user: remove it" if users == 1 else f"has {users} users: remove them"
        raise click.ClickException(f"{spelled} {has} first, or say --with-users")
    for hosted in tree.domains.values():
        for alias in hosted.aliases.values() if hosted.name != spelled else ():
            if any(target.domain == spelled for target in alias.targets):
                where = f"{alias.name}@{hosted.name} ({alias.source})"
                raise click.ClickException(f"{where} leads to {spelled}: change that first")
    aside = domains / f".{directory.name}.removed-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    directory.rename(aside)
    sync_directory(domains)
    click.echo(f"removed {spelled}; its files are in {aside}")


@domain.command("list")
@click.pass_context
def list_domains(context: click.Context) -> None:
    """List the domains, with their users and aliases counted."""
    config = server_configuration(context)
    tree, _ = load_tree(config.domains)
    width = max(map(len, tree.domains), default=0)
    for name, domain in tree.domains.items():
        aliases = len(domain.aliases) + (domain.catch_all is not None)
        click.echo(f"{name:{width}}  users={len(domain.users)}  aliases={aliases}")

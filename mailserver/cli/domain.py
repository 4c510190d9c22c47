"""``mailctl domain``: the domains hosted here."""

import click

from mailserver.cli.configuration import server_configuration
from mailserver.domains.tree import load_tree

__all__ = ["domain"]


@click.group()
def domain() -> None:
    """Hosted domains."""


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

"""``mailctl workers``: the processes that accept, and speak to other hosts, as their parent sees them."""

import click

from mailserver.cli.configuration import server_configuration
from mailserver.control.client import NoServer, Refused, ask

__all__ = ["workers"]


@click.command()
@click.pass_context
def workers(context: click.Context) -> None:
    """List the processes that accept: their age and how many sessions each has.

    One that is much younger than the server has taken the place of one that died; the log says of what. One
    that is missing is about to be replaced.
    """
    socket = server_configuration(context).state / "run" / "control"
    try:
        there = ask(socket, "workers.list", {})
    except (NoServer, Refused) as trouble:
        raise click.ClickException(str(trouble)) from None
    if not there:
        click.echo("no workers")
    for it in there:
        state = f"{it['sessions']} sessions" if it["accepts"] else "does not accept yet"
        click.echo(f"{it['number']}  pid {it['pid']}  {it['seconds']:.0f} s old  {state}")

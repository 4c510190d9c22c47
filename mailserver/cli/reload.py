"""``mailctl reload``: has the running server read its configuration again."""

import os
import signal

import click

from mailserver.cli.configuration import configuration
from mailserver.state import running_pid

__all__ = ["reload"]


@click.command()
@click.pass_context
def reload(context: click.Context) -> None:
    """Have the running server read its configuration again.

    A configuration with an error is not even tried: the server would refuse it and keep the old one.
    """
    config = configuration(context)
    server = running_pid(config.state)
    if server is None:
        raise click.ClickException(f"no server runs on {config.state}")
    try:
        os.kill(server, signal.SIGHUP)
    except PermissionError:
        raise click.ClickException(f"the server, process {server}, is not yours to signal") from None
    except ProcessLookupError:
        raise click.ClickException(f"no server runs on {config.state}") from None
    click.echo(f"told the server, process {server}, to read its configuration again")

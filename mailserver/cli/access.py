"""``mailctl access``: who is locked out after wrong passwords.

The locks are the running server's, in its memory: without a server there is nothing to show.
"""

from ipaddress import ip_address
from typing import Any

import click

from mailserver.cli.configuration import server_configuration
from mailserver.control.client import NoServer, Refused, ask

__all__ = ["access"]


@click.group()
def access() -> None:
    """Lock-outs after wrong passwords: list, lift."""


@access.command("list")
@click.pass_context
def list_locks(context: click.Context) -> None:
    """List who is locked out, of which account, and for how long."""
    locks = _ask(context, "access.list", {})
    if not locks:
        click.echo("nobody is locked out")
    width = max((len(lock["client"]) for lock in locks), default=0)
    for lock in locks:
        account = lock["account"] or "(all accounts)"
        click.echo(f"{lock['client']:{width}}  {_printable(account)}  {lock['seconds']:.0f} s left")


def _client(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """An address, or what the list shows of an IPv6 one."""
    try:
        return str(ip_address(value.removesuffix("/64")))
    except ValueError:
        raise click.BadParameter(f'"{value}" is not a client\'s address, as the list shows it') from None


@access.command()
@click.argument("address", callback=_client)
@click.pass_context
def lift(context: click.Context, address: str) -> None:
    """Forget the wrong passwords that came from ADDRESS, and let it log in again."""
    opened = _ask(context, "access.lift", {"client": address})["locks"]
    click.echo(f"lifted {opened} locks of {address}" if opened != 1 else f"lifted 1 lock of {address}")


def _ask(context: click.Context, verb: str, request: dict[str, Any]) -> Any:
    socket = server_configuration(context).state / "run" / "control"
    try:
        return ask(socket, verb, request)
    except (NoServer, Refused) as trouble:
        raise click.ClickException(str(trouble)) from None


def _printable(name: str) -> str:
    # Whoever guessed chose it: it must not move the terminal's cursor.
    return "".join(letter if letter.isprintable() else "?" for letter in name)

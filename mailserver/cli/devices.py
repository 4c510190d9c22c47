"""``mailctl devices``: who uses the relay.

Reads what the server has written to ``devices.json`` in its state directory, some seconds old, and works
without a server, too.
"""

import json
import time

import click
from attrs import asdict

from mailserver.access.devices import DEVICES, Device, read_devices
from mailserver.cli.configuration import server_configuration

__all__ = ["devices"]


@click.command()
@click.option("--network", metavar="NAME", help="Those of this network only.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON list, times in seconds since 1970.")
@click.pass_context
def devices(context: click.Context, network: str | None, as_json: bool) -> None:
    """Who used the relay: when, how much, and what was refused last.

    The clients of the listed networks, the last seen first.
    """
    path = server_configuration(context).state / DEVICES
    try:
        found = read_devices(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    found = [device for device in found if network is None or device.network == network]
    if as_json:
        click.echo(json.dumps([asdict(device) for device in found], indent=1))
        return
    for device in found:
        click.echo(_spell(device))


def _spell(device: Device) -> str:
    owner = f" ({_visible(device.owner)})" if device.owner else ""
    lines = [
        f"{device.address}  {_visible(device.network)}{owner}  HELO {_visible(device.helo) or '-'}",
        f"    {_when(device.first)} to {_when(device.last)}  "
        f"messages: {device.messages}  recipients: {device.recipients}",
    ]
    if device.error:
        lines.append(f"    {_when(device.erred)}  {_visible(device.error)}")
    return "\n".join(lines)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _visible(text: str) -> str:
    # Names come from the wire; none of them may move the cursor.
    return "".join(letter if letter.isprintable() else "?" for letter in text)

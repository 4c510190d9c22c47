"""``mailctl explain``: what would become of mail to an address, and which line of which file says so.

The decisions are those that the server makes, by the same functions, of the files as they are now; nothing is
sent, and no server is asked.
"""

from collections.abc import Iterator

import click

from mailserver.access.networks import Networks
from mailserver.access.relay import may_send
from mailserver.access.routes import Route, To, choose, routed_domains
from mailserver.cli.configuration import configuration
from mailserver.config import Config
from mailserver.domains.directory import Directory
from mailserver.domains.naming import parse_mailbox
from mailserver.interfaces import Account, Forward, Nobody, NotHosted, Relayed, Standing
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.settings import relay_domains

__all__ = ["explain"]


@click.command()
@click.argument("recipient")
@click.option("--from", "sender", default="", metavar="SENDER", help="Who sends it; else the null sender.")
@click.option("--client", default="", metavar="ADDRESS", help="From where; else from a stranger.")
@click.option("--user", "login", default="", metavar="USER", help="Who has logged in to send it.")
@click.pass_context
def explain(context: click.Context, recipient: str, sender: str, client: str, login: str) -> None:
    """Say what RECIPIENT is here, whether one may send to it, and which way its mail goes.

    Each with the line that says so.
    """
    config = configuration(context)
    directory = Directory(config.tree, config.hostname)
    directory.routed = routed_domains(config.delivery.routes)
    directory.relayed = relay_domains(config)
    try:
        named = Recipient(parse_mailbox(recipient))
        author = parse_mailbox(sender) if sender.strip("<>") else NULL_SENDER
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    standing = directory.find(named.address)
    click.echo(f"{named.address}: {_what(standing)}")
    profile = Networks(config.profiles).match(client)
    verdict = may_send(profile, login, standing, named.address, author)
    click.echo(f"  {'taken' if verdict.allowed else 'refused'}: {verdict.reason} ({verdict.source})")
    if not verdict.allowed:
        return
    recipients = directory.expand(named) if not isinstance(standing, NotHosted | Relayed) else (named,)
    mail = Envelope(QueueID("-"), author, recipients, Origin(client, login=login), 0.0)
    for one in recipients:
        for way in _ways(config, directory, one, mail):
            click.echo(f"  {one.address} {way}")


def _what(standing: Standing) -> str:
    match standing:
        case Account():
            disabled = ", disabled" if standing.disabled else ""
            return f"the mailbox {standing.name}{disabled} ({standing.source})"
        case Forward():
            targets = [*map(str, standing.targets), *(f"|{command}" for command in standing.commands)]
            return f"an alias for {', '.join(targets)} ({standing.source})"
        case Nobody():
            return f"nobody in a domain that is hosted here ({standing.source})"
        case Relayed():
            return f"in a domain that is not hosted here, for which mail is handed on ({standing.source})"
    return "in a domain that is not hosted here"


def _ways(config: Config, directory: Directory, recipient: Recipient, mail: Envelope) -> Iterator[str]:
    standing = directory.find(recipient.address)
    if isinstance(standing, Forward):
        for command in standing.commands:
            yield f"goes to the program {command} ({standing.source})"
        return
    routes = config.delivery.routes
    route = choose(routes, recipient, mail, directory.hosts(recipient.address.domain))
    if route is not None:
        yield f"{_where(route, recipient.address)} ({route.source})"
    elif isinstance(standing, Account):
        yield f"goes to the mailbox {standing.name} ({standing.source})"
    elif config.delivery.smarthost:
        hosts = ", ".join(map(str, config.delivery.smarthost))
        yield f"goes to the smarthosts {hosts} (delivery.smarthost)"
    else:
        yield f"goes to the mail hosts of {recipient.address.domain}"


def _where(route: Route, address: Address) -> str:
    match route.to:
        case To.MX:
            return f"goes to the mail hosts of {address.domain}"
        case To.BACKUP:
            return f"goes to those mail hosts of {address.domain} that are better than us"
        case To.DISCARD:
            return "goes nowhere"
        case To.REFUSE:
            return f"goes back: {route.text or 'not from here'}"
    if route.pipe is not None:
        return f"goes to the program {' '.join(route.pipe.command)}"
    return f"goes by {route.to.value} to {', '.join(map(str, route.hops))}"

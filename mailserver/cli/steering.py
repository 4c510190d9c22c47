"""What the commands about the queue share: filters, tables, times for people, the way to the server."""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from mailserver.cli.configuration import server_configuration
from mailserver.control.client import NoServer, Refused, ask
from mailserver.domains.units import parse_duration
from mailserver.spool import schema
from mailserver.spool.listing import Listing
from mailserver.spool.opening import DATABASE
from mailserver.spool.selecting import OPEN, Selection

__all__ = [
    "Trouble",
    "asked",
    "clock",
    "filters",
    "listing",
    "order",
    "plain",
    "printable",
    "since",
    "size",
    "spool_directory",
    "table",
    "troubles",
]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Trouble:
    """A destination where nobody can be spoken to.

    :ivar error: the last answer.
    :ivar rests: seconds for which it is left in peace.
    :ivar lasts: seconds for which that has been so.
    """

    domain: str
    error: str
    rests: float
    lasts: float

    def __str__(self) -> str:
        rests = f", rests for {since(self.rests)}" if self.rests else ""
        return f"nobody there for {since(self.lasts)}{rests}: {printable(self.error)}"


def filters(command: F) -> F:
    """Give a command the filters, as one :class:`Selection` named ``selection``."""

    @wraps(command)
    def select(
        *arguments: Any,
        ids: tuple[str, ...],
        sender: str,
        recipient: str,
        domain: str,
        older: float,
        error: str,
        state: str | None,
        **options: Any,
    ) -> Any:
        before = time.time() - older if older else 0.0
        selection = Selection(ids, sender, recipient, domain, error, state or "", before=before)
        return command(*arguments, selection=selection, **options)

    options = (
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        click.option("--from", "sender", default="", metavar="SENDER", help='An address, a domain or "<>".'),
        click.option("--to", "recipient", default="", metavar="RECIPIENT", help="An address or a domain."),
        click.option("--domain", default="", metavar="DOMAIN", help="Mail for this domain."),
        click.option(
            "--older",
            default="",
            callback=_seconds,
            metavar="TIME",
            help='Queued for longer: "4h", "2d".',
        ),
        click.option("--error", default="", metavar="TEXT", help="Words, code or status of the last reply."),
        click.option("--state", type=click.Choice(OPEN), help="Waiting or held."),
    )
    for option in reversed(options):
        select = option(select)
    return select  # type: ignore[return-value]


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return float(parse_duration(value)) if value else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# --- the database, and the server ----------------------------------------------------------------------


def spool_directory(context: click.Context) -> Path:
    """Where the spool is."""
    return server_configuration(context).state / "spool"


@contextmanager
def listing(context: click.Context) -> Iterator[Listing]:
    """The queue as the database has it, whether a server runs or not."""
    database = spool_directory(context) / DATABASE
    if not database.exists():
        raise click.ClickException(f"{database}: there is no queue; has the server ever run?")
    try:
        with closing(schema.connect(database, read_only=True)) as connection:
            if schema.version(connection) < schema.VERSION:
                raise click.ClickException(
                    f"{database} is of an older version of this server: start the server, which converts it"
                )
            yield Listing(connection)
    except sqlite3.Error as error:
        raise click.ClickException(f"{database}: {error}") from error


def order(context: click.Context, verb: str, request: dict[str, Any]) -> Any:
    """Have the running server do something, showing how far it is."""
    path = server_configuration(context).state / "run" / "control"
    shows = sys.stderr.isatty()

    def progress(told: Any) -> None:
        if shows and isinstance(told, dict):
            of = f" of {told['of']}" if "of" in told else ""
            click.echo(f"\r{told.get('recipients', 0)}{of} recipients …", err=True, nl=False)

    try:
        return ask(path, verb, request, progress)
    except (NoServer, Refused) as refusal:
        raise click.ClickException(str(refusal)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; what was done stays done") from None
    finally:
        if shows:
            click.echo("\r\x1b[K", err=True, nl=False)


def troubles(context: click.Context) -> dict[str, Trouble]:
    """What the running server knows of destinations where nobody can be spoken to; nothing without one."""
    path = server_configuration(context).state / "run" / "control"
    try:
        told = ask(path, "queue.troubles", {})
    except (NoServer, Refused):
        return {}
    return {one["domain"]: Trouble(**one) for one in told}


def plain(selection: Selection) -> dict[str, Any]:
    """A selection as a request has it."""
    return {name: value for name, value in attrs.asdict(selection).items() if value}


# --- how it looks --------------------------------------------------------------------------------------


def clock(moment: float, now: float) -> str:
    """A time as the clock here shows it; with the date where that is not today's."""
    there, here = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M:%S" if there[:3] == here[:3] else "%Y-%m-%d %H:%M:%S", there)


def since(seconds: float) -> str:
    """A length of time, roughly."""
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or (unit == "m" and seconds >= length):
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def size(octets: int) -> str:
    """A number of octets, roughly."""
    amount = float(octets)
    for unit in ("", "KB", "MB"):
        if amount < 1024:
            return f"{amount:.3g}{unit}"
        amount /= 1024
    return f"{amount:.3g}GB"


def printable(text: str, most: int = 0) -> str:
    """Text from the wire, so that it can move no terminal's cursor; cut to so many columns."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text[: most - 1] + "…" if most and len(text) > most else text


def table(head: Sequence[str], rows: Sequence[Sequence[object]], right: str = "") -> None:
    """Print a table whose columns are as wide as they must be.

    :param right: the heads of the columns that are set to the right.
    """
    cells = [[printable(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        columns = zip(row, widths, head, strict=True)
        spelled = [f"{c:>{w}}" if name in right.split() else f"{c:{w}}" for c, w, name in columns]
        click.echo("  ".join(spelled).rstrip())


def asked(attempt: Mapping[str, Any]) -> str:
    """One host that was asked: what TLS was there, what it had to be, and what came of it."""
    facts = {name: attempt.get(name, "") for name in ("host", "address", "policy", "seconds", "result")}
    security = attempt.get("tls") or "without TLS"
    demanded = f" (policy {facts['policy']})" if facts["policy"] else ""
    where = f"{facts['host']} [{facts['address']}]"
    return f"asked {where}, {security}{demanded}, {facts['seconds']} s: {facts['result']}"

"""``mailctl queue``: what waits, why, and what is to become of it.

What shows something reads the database, whether a server runs or not. What changes something asks the running
server, through its control socket, so that nobody else writes to the database.
"""

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

import attrs
import click

from mailserver.cli.steering import (
    Trouble,
    asked,
    clock,
    filters,
    listing,
    order,
    plain,
    printable,
    since,
    size,
    table,
    troubles,
)
from mailserver.spool.listing import AGES, Entry, Listing
from mailserver.spool.orders import FIELDS
from mailserver.spool.selecting import Selection

__all__ = ["queue"]

_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
_all_option = click.option("--all", "everything", is_flag=True, help="All of the queue, without filters.")

_LATEST = 10
"""The hosts asked last that are shown of a message."""


@click.group()
def queue() -> None:
    """The queue: look at it, and steer it.

    The same filters select mail for every command; several must all hold.
    """


# --- looking -------------------------------------------------------------------------------------------


@queue.command("list")
@filters
@click.option("--count", is_flag=True, help="Count by domain and age instead.")
@click.option("--limit", default=50, show_default=True, help="How many recipients.")
@click.option("--after", default="", metavar="KEY", help="Go on after the page that ended with this key.")
@_json_option
@click.pass_context
def list_queue(
    context: click.Context, selection: Selection, count: bool, limit: int, after: str, as_json: bool
) -> None:
    """List who waits or is held, the longest queued first."""
    with listing(context) as queued:
        if count:
            _show_counts(queued, selection, as_json)
            return
        message, _, number = after.partition(".")
        start = (int(message), int(number)) if message.isdecimal() and number.isdecimal() else (-1, -1)
        page = queued.page(selection, limit + 1, start)
        more, page = len(page) > limit, page[:limit]
        if as_json:
            for entry in page:
                click.echo(json.dumps(attrs.asdict(entry)))
            return
        _show_pauses(queued)
    _show_troubles(troubles(context), {entry.domain for entry in page})
    _show_page(page)
    if more:
        click.echo("\nMore: --after {}.{}".format(*page[-1].key))


@queue.command()
@filters
@_json_option
@click.pass_context
def summary(context: click.Context, selection: Selection, as_json: bool) -> None:
    """Count what is queued, by domain and age."""
    with listing(context) as queued:
        _show_counts(queued, selection, as_json)


def _show_page(page: list[Entry]) -> None:
    now = time.time()
    rows = []
    for entry in page:
        due = "held" if entry.state == "held" else clock(entry.next_attempt, now)
        why = entry.hold if entry.state == "held" else _last_word(entry)
        age = since(now - entry.arrived)
        sender = printable(entry.sender or "<>", 32)
        rows.append(
            (entry.id, age, sender, printable(entry.recipient, 40), entry.attempts, due, printable(why, 70))
        )
    if rows:
        table(("ID", "AGE", "FROM", "TO", "TRIED", "NEXT", "WHY"), rows, "AGE TRIED")
    else:
        click.echo("nothing is queued")


def _last_word(entry: Entry) -> str:
    why = ": ".join(part for part in (entry.host, " ".join((entry.status, entry.reply)).strip()) if part)
    return f"via {entry.reroute}; {why}" if entry.reroute else why


def _show_pauses(queued: Listing) -> None:
    now = time.time()
    for name, moment in queued.paused().items():
        what = "everything" if name == "*" else name
        click.echo(f"PAUSED since {clock(moment, now)}: {what}")


def _show_troubles(known: Mapping[str, Trouble], domains: Collection[str]) -> None:
    for name, trouble in known.items():
        if name in domains:
            click.echo(f"TROUBLE at {name}: {trouble}")


def _show_counts(queued: Listing, selection: Selection, as_json: bool) -> None:
    now = time.time()
    counts = queued.counts(selection, now)
    names = [name for name, _ in AGES]
    if as_json:
        for one in counts:
            ages = dict(zip([*names, "older"], one.ages, strict=True))
            click.echo(json.dumps({**attrs.asdict(one), "ages": ages}))
        return
    _show_pauses(queued)
    head = ("DOMAIN", "QUEUED", "HELD", *(f"<{name}" for name in names), "OLDER", "OLDEST")
    rows: list[tuple[object, ...]] = [
        (one.domain or "(here)", one.recipients, one.held, *one.ages, since(now - one.oldest))
        for one in counts
    ]
    total = [sum(column) for column in zip(*(one.ages for one in counts), strict=True)] or [0] * (
        len(names) + 1
    )
    recipients, held = sum(one.recipients for one in counts), sum(one.held for one in counts)
    oldest = since(now - min((one.oldest for one in counts), default=now))
    rows.append((f"{len(counts)} domains", recipients, held, *total, oldest))
    table(head, rows, " ".join(head[1:]))


@queue.command()
@_json_option
@click.pass_context
def destinations(context: click.Context, as_json: bool) -> None:
    """List the domains where nobody can be spoken to: for how long, until when they rest, the last error.

    The running server knows, and forgets it when it is restarted. A domain's rest is over when somebody there
    speaks, or with "queue retry".
    """
    known = [Trouble(**one) for one in order(context, "queue.troubles", {})]
    now = time.time()
    with listing(context) as queued:
        counts = {one.domain: one.recipients for one in queued.counts(Selection(), now)}
    known.sort(key=lambda one: -counts.get(one.domain, 0))
    if as_json:
        for one in known:
            click.echo(json.dumps({**attrs.asdict(one), "queued": counts.get(one.domain, 0)}))
        return
    rows = []
    for one in known:
        rests = clock(now + one.rests, now) if one.rests else "no more"
        queue_length = counts.get(one.domain, 0)
        rows.append((one.domain, queue_length, since(one.lasts), rests, printable(one.error, 90)))
    if rows:
        table(("DOMAIN", "QUEUED", "LASTS", "RESTS UNTIL", "LAST ERROR"), rows, "QUEUED LASTS")
    else:
        click.echo("no destination is in trouble")


@queue.command()
@click.argument("id", metavar="ID")
@_json_option
@click.pass_context
def show(context: click.Context, id: str, as_json: bool) -> None:
    """Show all that is known of one queued message."""
    with listing(context) as queued:
        entries, attempts, facts = queued.recipients(id), queued.attempts(id), queued.origin(id)
    if not entries:
        raise click.ClickException(f"{id} is not in the queue; mailctl trace {id} may know what became of it")
    known = {name: it for name, it in troubles(context).items() if name in {one.domain for one in entries}}
    if as_json:
        recipients = [attrs.asdict(entry) for entry in entries]
        told = {name: attrs.asdict(it) for name, it in known.items()}
        whole = {"recipients": recipients, "attempts": attempts, "facts": facts, "troubles": told}
        click.echo(json.dumps(whole))
        return
    now = time.time()
    first = entries[0]
    click.echo(f"{first.id}  from {printable(first.sender or '<>')}, {size(first.size)}")
    click.echo(f"arrived {clock(first.arrived, now)}, {since(now - first.arrived)} ago, {_came(facts)}")
    if first.message_id:
        click.echo(f"Message-ID {printable(first.message_id)}")
    for entry in entries:
        click.echo(f"\n  {printable(entry.recipient)}: {_standing(entry, now)}")
        if entry.reply:
            click.echo(f"    last: {printable(_last_word(entry))}")
        if entry.domain in known:
            click.echo(f"    {entry.domain}: {known[entry.domain]}")
    for one in attempts[-_LATEST:]:
        click.echo(f"\n  {clock(one['at'], now)} {printable(asked(one))}")


def _came(facts: dict[str, Any]) -> str:
    address, _, helo, protocol, tls, login = facts.get("origin", [""] * 6)
    if not address:
        return "made here"
    return printable(
        f"by {protocol} from {address} ({helo})"
        + (f", {tls}" if tls else "")
        + (f", login {login}" if login else "")
    )


def _standing(entry: Entry, now: float) -> str:
    tried = f"tried {entry.attempts} times" if entry.attempts != 1 else "tried once"
    if entry.state == "held":
        return f"held: {printable(entry.hold)}; {tried}"
    if entry.state != "waiting":
        return entry.state
    when = f"in {since(entry.next_attempt - now)}" if entry.next_attempt > now else "due"
    return f"next attempt {clock(entry.next_attempt, now)} ({when}); {tried}"


# --- steering ------------------------------------------------------------------------------------------


def _steer(context: click.Context, verb: str, selection: Selection, everything: bool, **more: object) -> Any:
    request = {**plain(selection), **more, "all": everything}
    return order(context, f"queue.{verb}", request)


def _say(done: dict[str, int], what: str) -> None:
    recipients = done["recipients"]
    number = "1 recipient" if recipients == 1 else f"{recipients} recipients"
    click.echo(f"{what} {number}")
    if done.get("under_way"):
        click.echo(
            f"{done['under_way']} are still being delivered; what is not delivered stays held", err=True
        )


@queue.command()
@filters
@_all_option
@click.option("--reason", default="", help="Is shown in the list.")
@click.pass_context
def hold(context: click.Context, selection: Selection, everything: bool, reason: str) -> None:
    """Hold mail: it is kept and not tried until it is released."""
    _say(_steer(context, "hold", selection, everything, reason=reason), "held")


@queue.command()
@filters
@_all_option
@click.pass_context
def release(context: click.Context, selection: Selection, everything: bool) -> None:
    """Release what is held: it is due at once."""
    _say(_steer(context, "release", selection, everything), "released")


@queue.command()
@filters
@_all_option
@click.pass_context
def retry(context: click.Context, selection: Selection, everything: bool) -> None:
    """Try now, whenever the next attempt would have been."""
    _say(_steer(context, "retry", selection, everything), "due now:")


@queue.command()
@filters
@_all_option
@click.option("--via", "host", default="", metavar="HOST", help="The host it goes to instead.")
@click.option("--undo", is_flag=True, help="As routed, again.")
@click.pass_context
def reroute(context: click.Context, selection: Selection, everything: bool, host: str, undo: bool) -> None:
    """Send mail to another host than it is routed to.

    HOST is "mx.example", "mx.example:2525", "smtps://mx.example" (TLS from the first octet), an address, or
    "unix:/run/lmtp" (LMTP on a socket).
    """
    if bool(host) is undo:
        raise click.UsageError("say --via HOST, or --undo")
    _say(
        _steer(context, "reroute", selection, everything, host=host),
        "rerouted" if host else "as routed again:",
    )


@queue.command()
@filters
@_all_option
@click.pass_context
def bounce(context: click.Context, selection: Selection, everything: bool) -> None:
    """End mail with a report to its sender."""
    _say(_steer(context, "bounce", selection, everything), "bounced")


@queue.command()
@filters
@_all_option
@click.confirmation_option("--yes", prompt="Nobody will be told. Drop it?")
@click.pass_context
def drop(context: click.Context, selection: Selection, everything: bool) -> None:
    """End mail without a word to anybody."""
    _say(_steer(context, "drop", selection, everything), "dropped")


@queue.command()
@click.argument("id", metavar="ID")
@click.option(
    "--from", "sender", default="", metavar="SENDER", help='The new sender; "<>" is the null sender.'
)
@click.option("--replace", nargs=2, multiple=True, metavar="OLD NEW", help="Another address for a recipient.")
@click.option("--add", multiple=True, metavar="RECIPIENT", help="One recipient more.")
@click.option("--remove", multiple=True, metavar="RECIPIENT", help="One recipient less.")
@click.pass_context
def edit(context: click.Context, /, id: str, sender: str, **changes: Any) -> None:
    """Change the sender and recipients of one message."""
    order(context, "queue.edit", {"id": id, "sender": sender, **changes})
    click.echo(f"changed {id.upper()}")


# --- what stands ---------------------------------------------------------------------------------------


@queue.command()
@click.argument("domain", default="")
@click.option("--all", "everything", is_flag=True, help="All of the queue.")
@click.pass_context
def pause(context: click.Context, domain: str, everything: bool) -> None:
    """Begin no delivery to a domain, or at all, until "resume"; restarts included."""
    _all_or_one(domain, everything)
    order(context, "queue.pause", {"domain": domain})
    click.echo(f"paused {domain or 'everything'}")


@queue.command()
@click.argument("domain", default="")
@click.option("--all", "everything", is_flag=True, help="Everything that is paused.")
@click.pass_context
def resume(context: click.Context, domain: str, everything: bool) -> None:
    """End a pause."""
    _all_or_one(domain, everything)
    order(context, "queue.resume", {"domain": domain})
    click.echo(f"resumed {domain or 'everything'}")


def _all_or_one(domain: str, everything: bool) -> None:
    if bool(domain) is everything:
        raise click.UsageError("name a domain, or say --all")


@queue.group()
def rule() -> None:
    """Rules that hold mail when it comes."""


@rule.command("add")
@click.argument("action", type=click.Choice(["hold"]))
@click.option("--domain", help="Mail for this domain.")
@click.option("--to", "recipient", help="Mail for this address or domain.")
@click.option("--from", "sender", help='Mail of this address or domain, or of "<>".')
@click.pass_context
def add_rule(context: click.Context, /, action: str, **fields: str | None) -> None:
    """Hold mail that comes from now on; what is queued already: "queue hold"."""
    named = {name: value for name, value in fields.items() if value}
    if len(named) != 1:
        raise click.UsageError(f"a rule is about one of {', '.join(FIELDS)}")
    ((field, value),) = named.items()
    done = order(context, "rule.add", {"field": field, "value": value})
    click.echo(f"rule {done['rule']}: {action} {field} {value}")


@rule.command("list")
@click.pass_context
def list_rules(context: click.Context) -> None:
    """List the rules that stand."""
    with listing(context) as queued:
        for number, field, value, moment in queued.rules():
            click.echo(f"{number}  hold {field} {printable(value)}  since {clock(moment, time.time())}")


@rule.command("remove")
@click.argument("number", type=int)
@click.pass_context
def remove_rule(context: click.Context, number: int) -> None:
    """Remove a rule; what it held stays held."""
    order(context, "rule.remove", {"number": number})
    click.echo(f"removed rule {number}")

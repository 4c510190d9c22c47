"""``mailctl trace``: the story of a message, or of an address: what came, what was tried, what became of it.

Reads the queue for what still waits and the history for what is gone or was refused, without the server.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from attrs import asdict, define, field

from mailserver.cli.steering import asked, clock, listing, printable, since, size, spool_directory
from mailserver.spool.history import FILE, Event, find, open_for_reading
from mailserver.spool.listing import Entry, Listing

__all__ = ["trace"]

_MOST_OF_ONE = 200


@define
class _Told:
    """One story as it is told: a headline, and what happened when."""

    head: str = ""
    facts: dict[str, Any] = field(factory=dict)
    lines: list[tuple[float, str]] = field(factory=list)
    end: list[str] = field(factory=list)


@click.command()
@click.argument("what", metavar="ID|ADDRESS|MESSAGE-ID")
@click.option("--limit", default=20, show_default=True, help="The latest so many messages and events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per story.")
@click.pass_context
def trace(context: click.Context, what: str, limit: int, as_json: bool) -> None:
    """Tell the story of a message: by queue ID, Message-ID, sender or recipient.

    Refused mail is told, too, and when what still waits is tried next.
    """
    now = time.time()
    history = None
    try:
        history = open_for_reading(spool_directory(context) / FILE)
        with listing(context) as queued:
            stories = _stories(what, limit, queued, history, now)
    except sqlite3.Error as error:
        raise click.ClickException(f"{FILE}: {error}") from error
    finally:
        if history is not None:
            history.close()
    if not stories:
        raise click.ClickException(f"nothing is known of {what}")
    for number, told in enumerate(stories):
        if as_json:
            click.echo(json.dumps(told.facts))
        else:
            _tell(told, now, bool(number))


def _tell(told: _Told, now: float, another: bool) -> None:
    if another:
        click.echo()
    click.echo(printable(told.head))
    # How it came is told by each part of a story: some copies may have been delivered before it was queued.
    for moment, text in sorted(dict.fromkeys(told.lines), key=lambda line: line[0]):
        click.echo(f"  {clock(moment, now)}  {printable(text)}")
    for text in told.end:
        click.echo(f"  {printable(text)}")


def _stories(
    what: str, limit: int, queued: Listing, history: sqlite3.Connection | None, now: float
) -> list[_Told]:
    past = find(history, what, limit) if history is not None else []
    ids = {str(event.facts["id"]): event.at for event in past if event.facts.get("id", "-") != "-"}
    ids.update((id, now) for id in queued.find(what, limit))
    told = [(event.at, _refusal(event)) for event in past if event.kind == "refused"]
    for id, at in ids.items():
        events = find(history, id, _MOST_OF_ONE) if history is not None else []
        told.append((at, _message(id, events, queued, now)))
    return [one for _, one in sorted(told, key=lambda pair: pair[0])]


def _refusal(event: Event) -> _Told:
    facts = event.facts
    who = " ".join(str(facts[name]) for name in ("client", "helo", "login") if facts.get(name))
    sender = f", sender {facts['sender']}" if facts.get("sender") else ""
    text = f"{facts['what']}{sender}: {facts['reply']}; {facts['reason']} ({facts['rule']})"
    return _Told(f"refused: {who}", {"at": event.at, "kind": event.kind, **facts}, [(event.at, text)])


def _message(id: str, events: Sequence[Event], queued: Listing, now: float) -> _Told:
    told = _Told(f"{id}", {"id": id, "events": []})
    for event in events:
        if event.facts.get("id") != id and event.facts.get("report") != id:
            continue
        told.facts["events"].append({"at": event.at, "kind": event.kind, **event.facts})
        if event.kind == "finished":
            _finished(told, event.facts)
        else:
            told.lines.append((event.at, _happened(event, id)))
    entries = queued.recipients(id)
    if entries:
        _queued(told, entries, queued, now)
    return told


def _finished(told: _Told, facts: Mapping[str, Any]) -> None:
    told.head = _headline(facts["id"], facts["sender"], facts["size"], facts["message_id"])
    told.lines.append((facts["arrived"], _came(facts["origin"])))
    told.lines.extend(_attempts(facts["attempts"]))
    for address, original, state, at, attempts, status, reply, host in facts["recipients"]:
        named = f" (for {original.partition(';')[2] or original})" if original else ""
        where = f" by {host}" if host else ""
        line = f"<{address}>{named} {state}{where}: {status or ''} {reply or ''}, attempt {attempts}"
        told.lines.append((at or facts["arrived"], line))


def _queued(told: _Told, entries: Sequence[Entry], queued: Listing, now: float) -> None:
    first = entries[0]
    attempts = queued.attempts(first.id)
    told.head = _headline(first.id, first.sender, first.size, first.message_id)
    told.facts["queued"] = {"recipients": [asdict(entry) for entry in entries], "attempts": attempts}
    told.lines.append((first.arrived, _came(queued.origin(first.id).get("origin", [""] * 6))))
    told.lines.extend(_attempts(attempts))
    for entry in entries:
        if entry.last_attempt is not None:
            where = f" by {entry.host}" if entry.host else ""
            state = "delayed" if entry.state in ("waiting", "held") else entry.state
            line = (
                f"<{entry.recipient}> {state}{where}: {entry.status} {entry.reply}, attempt {entry.attempts}"
            )
            told.lines.append((entry.last_attempt, line))
        told.end.extend(_waits(entry, queued.paused(), now))


def _waits(entry: Entry, paused: Mapping[str, float], now: float) -> Iterator[str]:
    if entry.state == "held":
        yield f"<{entry.recipient}> is held: {entry.hold}"
    if entry.state == "waiting":
        left = entry.next_attempt - now
        when = f"{clock(entry.next_attempt, now)}, in {since(left)}" if left > 0 else "now"
        via = f" via {entry.reroute}" if entry.reroute else ""
        yield f"<{entry.recipient}> waits; next attempt{via}: {when}"
        if "*" in paused or entry.domain in paused:
            yield f"  but {'everything' if '*' in paused else entry.domain} is paused"


def _headline(id: str, sender: str, octets: int, message_id: str) -> str:
    named = f", Message-ID <{message_id}>" if message_id else ""
    return f"{id}  from <{sender}>, {size(octets)}{named}"


def _came(origin: Sequence[Any]) -> str:
    address, _, helo, protocol, tls, login = origin
    if not address:
        return "made by this server"
    return f"accepted from {address} ({helo}) by {protocol}{tls and ', ' + tls}{login and ', login ' + login}"


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, str]]:
    for one in attempts:
        yield one["at"], asked(one)


def _happened(event: Event, id: str) -> str:
    facts = event.facts
    if event.kind == "reported":
        if facts.get("report") == id:
            return f"is the report ({facts['kind']}) about {facts['id']}"
        return f"report {facts['report']} ({facts['kind']}) to {facts['to']}"
    return f"administrator: {facts['order']} {facts['detail']}"

"""``mailctl mailbox``, ``mailctl import`` and ``mailctl restore``: the mail that lies here.

They work on the files, beside a running server and without telling it: a Maildir is made for that.
"""

import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click

from mailserver.cli.configuration import server_configuration
from mailserver.cli.places import mailbox_of, owned
from mailserver.domains.tree import load_tree
from mailserver.interfaces import Account, MaildropInUse, StorageTrouble
from mailserver.mailboxes import examining, importing, undo, walking
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import THE_DISK, prepare
from mailserver.mailboxes.quota import Limit
from mailserver.mailboxes.snapshot import snapshot
from mailserver.wire.letter import visible
from mailserver.wire.trace import field_values

__all__ = ["import_mail", "mailbox", "restore"]

_BEGINNING = 64 * 1024
_address_argument = click.argument("address", metavar="NAME@DOMAIN")


@click.group()
def mailbox() -> None:
    """Mailboxes: check, repair, export."""


@mailbox.command()
@click.argument("address", metavar="[NAME@DOMAIN]", required=False)
@click.option("--thoroughly", is_flag=True, help="Read every message.")
@click.pass_context
def check(context: click.Context, address: str | None, thoroughly: bool) -> None:
    """Say what is wrong with a mailbox, or with any. Exit status 1 if anything is."""
    config = server_configuration(context)
    if address is not None:
        one = mailbox_of(context, address)
        boxes = [(one.account.name, one.directory)] if one.directory.is_dir() else []
    else:
        boxes = list(walking.mailboxes(config.state / "mail"))
    accounts = _accounts(context)
    faults = 0
    for name, directory in boxes:
        if name not in accounts:
            click.echo(f"{directory}: {name} is nobody's name (any more)")
        account = accounts.get(name, Account(name))
        for fault in examining.examine(directory, Limit.of(account), thoroughly):
            click.echo(f"{fault.path}: {fault.text}")
            faults += 1
    click.echo(f"{len(boxes)} mailbox{'es' * (len(boxes) != 1)} checked, {faults or 'no'} faults")
    context.exit(1 if faults else 0)


@mailbox.command()
@_address_argument
@click.pass_context
def repair(context: click.Context, address: str) -> None:
    """Put right what "check" finds, and count what the quota counts anew."""
    box = mailbox_of(context, address)
    lock = Lock()
    with owned(box.config):
        prepare(box.directory, THE_DISK, _say)
        try:
            lock.acquire(box.directory)
        except MaildropInUse:
            text = f"somebody is fetching mail of {box.account.name}: try again"
            raise click.ClickException(text) from None
        try:
            mended = examining.mend(box.directory, Limit.of(box.account), THE_DISK, _say, time.time())
        finally:
            lock.release()
    click.echo(f"{box.directory}: {mended} put right")


@mailbox.command()
@_address_argument
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--mbox", is_flag=True, help="One file, in the place of a Maildir.")
@click.pass_context
def export(context: click.Context, address: str, target: Path, mbox: bool) -> None:
    """Copy a mailbox into a new Maildir, or a new mbox."""
    box = mailbox_of(context, address)
    if target.exists():
        raise click.ClickException(f"{target} exists already")
    messages = []
    if box.directory.is_dir():
        with owned(box.config):
            messages = [box.directory / one.folder / one.name for one in snapshot(box.directory, _say)]
    copying = (importing.export_mbox if mbox else importing.export_maildir)(messages, target)
    with click.progressbar(length=len(messages), label="exporting", file=sys.stderr) as bar:
        for count in copying:
            bar.update(count)
    click.echo(f"exported {len(messages)} messages of {box.account.name} to {target}")


@click.command("import")
@_address_argument
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.pass_context
def import_mail(context: click.Context, address: str, source: Path) -> None:
    """Put the mail of a Maildir or an mbox into a mailbox; the server may run."""
    box = mailbox_of(context, address)
    try:
        coming = importing.open_source(source)
    except importing.NotMail as trouble:
        raise click.ClickException(str(trouble)) from None
    taken = 0
    try:
        with click.progressbar(length=coming.count, label="importing", file=sys.stderr) as bar:
            for group in importing.groups(coming, box.directory, box.names, THE_DISK):
                with owned(box.config):
                    taken += importing.take_in(group, THE_DISK, _prepare)
                bar.update(len(group))
    except StorageTrouble as trouble:
        raise click.ClickException(f"after {taken} of {coming.count} messages: {trouble}") from None
    click.echo(f"imported {taken} messages into {box.account.name}")


@click.command()
@_address_argument
@click.option("--since", default="", metavar="DAY", help='"today", "yesterday" or 2026-11-23; else all.')
@click.option("--list", "only_list", is_flag=True, help="Say what could be restored, and leave it.")
@click.pass_context
def restore(context: click.Context, address: str, since: str, only_list: bool) -> None:
    """Bring back mail that was deleted by POP3, as new mail."""
    box = mailbox_of(context, address)
    first = _day(since)
    with owned(box.config):
        found = undo.kept(box.directory, first)
        if not only_list:
            count = undo.restore(box.directory, found, box.names, THE_DISK) if found else 0
            click.echo(f"restored {count} message{'s' * (count != 1)} of {box.account.name}")
            return
        if not found:
            click.echo(f"nothing that was deleted is kept of {box.account.name}")
        for one in found:
            click.echo(f"{one.day}  {_describe(one.path)}")


def _day(text: str) -> date:
    today = undo.local_day(time.time())
    known = {"": date.min, "today": today, "yesterday": today - timedelta(1)}
    if text in known:
        return known[text]
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise click.ClickException(f'"{text}" is not a day: "yesterday", or as 2026-11-23') from None


def _describe(path: Path) -> str:
    try:
        with path.open("rb") as file:
            facts, beginning = path.stat(), file.read(_BEGINNING)
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    header = beginning.replace(b"\r\n", b"\n").partition(b"\n\n")[0].replace(b"\n", b"\r\n") + b"\r\n"
    came = datetime.fromtimestamp(facts.st_mtime, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    words = [b" ".join(field_values(header, name)).decode("utf-8", "replace") for name in ("From", "Subject")]
    return f"{came}  {facts.st_size:>9}  {visible(words[0])[:40]:40}  {visible(words[1])[:60]}".rstrip()


def _accounts(context: click.Context) -> dict[str, Account]:
    tree, _ = load_tree(server_configuration(context).domains)
    users = [user.account for hosted in tree.domains.values() for user in hosted.users.values()]
    return {account.name: account for account in users}


def _prepare(directory: Path) -> None:
    prepare(directory, THE_DISK, _say)


def _say(what: str, path: Path) -> None:
    click.echo(f"{path}: {what}", err=True)

"""``mailctl hello``: what listens where, and lines to paste.

``make run`` starts it beside the server; it waits until the server listens and then says how to send to a
user here, how to send to the outside and how to fetch, with the demo login where there is one.
"""

import time
from pathlib import Path

import click

from mailserver.cli.configuration import server_configuration
from mailserver.state import Listener, StateDirectory

__all__ = ["hello"]


@click.command()
@click.option("--wait", default=0, metavar="SECONDS", help="How long to wait for the server to listen.")
@click.pass_context
def hello(context: click.Context, wait: int) -> None:
    """Show what listens where and how to try it."""
    config = server_configuration(context)
    listeners = _wait_for(config.state, wait)
    if not listeners:
        raise click.ClickException(f"no server runs on {config.state}")
    click.echo("\nmailserver is up. What listens where:\n")
    for listener in listeners:
        click.echo(f"    {listener.service:<12} {_place(listener)}")
    click.echo(_to_try(config.domains, {it.service: it for it in reversed(listeners)}))


def _wait_for(state: Path, seconds: int) -> tuple[Listener, ...]:
    directory = StateDirectory(state)
    deadline = time.monotonic() + seconds
    while not (listeners := directory.listeners()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return listeners


def _place(listener: Listener) -> str:
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{host}:{listener.port}"


def _to_try(domains: Path, listeners: dict[str, Listener]) -> str:
    login, password = _demo_login(domains)
    if not login or "smtp" not in listeners or "pop3" not in listeners:
        return ""
    smtp, pop3 = _place(listeners["smtp"]), _place(listeners["pop3"])
    send = "printf 'Subject: {subject}\\r\\n\\r\\nHello!\\r\\n' | curl -sS smtp://{smtp} --mail-from {sender}"
    send += " --mail-rcpt {recipient} -T -"
    here = send.format(subject="hello", smtp=smtp, sender=login, recipient=login)
    out = send.format(subject="greetings", smtp=smtp, sender=login, recipient="somebody@example.com")
    with_password = _with_password(listeners, login, password)
    return f"""
The demo login is {login}, password {password}. To paste:

  Send to a local user:
    {here}

  Send to the outside (it waits in the queue, or comes back as a report, without a network):
    {out}
{with_password}
  Fetch by POP3:
    curl -sS --user {login}:{password} pop3://{pop3}/1

Ctrl-C stops the server.
"""


def _with_password(listeners: dict[str, Listener], login: str, password: str) -> str:
    if "submissions" not in listeners:
        return ""
    place = _place(listeners["submissions"])
    header = f"From: {login}\\r\\nSubject: roaming\\r\\n\\r\\nHello!\\r\\n"
    command = f"printf '{header}' | curl -sSk smtps://{place} --user {login}:{password}"
    return f"""
  Send with a password, in TLS, as from anywhere (-k: nobody vouches for the demo's certificate):
    {command} --mail-from {login} --mail-rcpt somebody@example.com -T -
"""


def _demo_login(domains: Path) -> tuple[str, str]:
    """The first user with a password in clear text, as only demos have; empty strings when there is none."""
    for file in sorted(domains.glob("*/users")):
        for line in file.read_text(encoding="utf-8").split("\n"):
            name, _, rest = line.partition(":")
            if rest.startswith("{PLAIN}") and not name.startswith("#"):
                return f"{name}@{file.parent.name}", rest.removeprefix("{PLAIN}").partition(":")[0]
    return "", ""

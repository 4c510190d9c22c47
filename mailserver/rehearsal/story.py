"""The story that ``mailctl selftest`` plays: five scenes, told as they happen.

Each scene talks to the server over real sockets with the standard library's clients and fails by raising
:class:`WentWrong`. Scenes block and run in a thread; the world they play in lives in the reactor.
"""

import email
import poplib
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import EmailMessage, Message
from email.policy import SMTP

from attrs import frozen

from mailserver.rehearsal.server import ServerProcess
from mailserver.rehearsal.world import LAN, PASSWORD, STRANGER, World

__all__ = ["SCENES", "Scene", "WentWrong"]

_PATIENCE = 30.0
"""Seconds after which what has not happened is taken as not happening."""


class WentWrong(Exception):
    """The server did not do what it should; the text says what was expected and what happened."""


@frozen
class Scene:
    """One scene.

    :ivar play: yields a line for every step that succeeded.
    """

    title: str
    play: Callable[[World, ServerProcess], Iterator[str]]


def _local(_: World, server: ServerProcess) -> Iterator[str]:
    said = _send(server, LAN, "bob@example.lan", "alice@example.lan", "Lunch at noon?")
    yield f"bob writes to alice from the LAN, without a password: {said}"
    message = _fetch(server, "alice@example.lan", "Lunch at noon?")
    yield f"alice fetches it by POP3: Subject: {message['Subject']}, Return-Path: {message['Return-Path']}"


def _outside(world: World, server: ServerProcess) -> Iterator[str]:
    said = _send(server, LAN, "alice@example.lan", "carol@outside.example", "Greetings from the LAN")
    yield f"alice writes to carol@outside.example: {said}"
    _until(lambda: bool(world.willing.messages), "the mail to arrive at the host of preference 50")
    yield f"MX 10 at {world.dead} refuses connections"
    if not world.busy.connections:
        raise WentWrong("the host of preference 30 was never asked")
    yield f"MX 30 at {world.busy.address}:{world.busy.port} answers 421"
    mail = world.willing.messages[0]
    yield f"MX 50 at {world.willing.address}:{world.willing.port} takes it for {', '.join(mail.recipients)}"


def _relaying(_: World, server: ServerProcess) -> Iterator[str]:
    said = _refusal(server, "mallory@elsewhere.example", "carol@outside.example", 550, "5.7.1")
    yield f"a stranger at {STRANGER} tries to relay to carol@outside.example: {said}"


def _unknown(_: World, server: ServerProcess) -> Iterator[str]:
    said = _refusal(server, "mallory@elsewhere.example", "nobody@example.lan", 550, "5.1.1")
    yield f"a stranger at {STRANGER} writes to nobody@example.lan: {said}"


def _report(_: World, server: ServerProcess) -> Iterator[str]:
    said = _send(server, LAN, "bob@example.lan", "dave@refusing.example", "Are you there?")
    yield f"bob writes to dave@refusing.example: {said}"
    report = _fetch(server, "bob@example.lan", "")
    if report.get_content_type() != "multipart/report":
        raise WentWrong(f"bob's new mail is not a report but {report.get_content_type()}")
    status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    fields = list(status.walk())[-1]
    yield f"the host refuses dave, and bob fetches the report: Subject: {report['Subject']}"
    yield f"{fields['Final-Recipient']}: {fields['Action']}, status {fields['Status']}"
    yield f"it said: {fields['Diagnostic-Code']}"


SCENES = (
    Scene("A LAN machine sends to a user here, who fetches it", _local),
    Scene("A LAN machine sends to the outside; the first two mail hosts are of no use", _outside),
    Scene("A stranger may not send to the outside", _relaying),
    Scene("A stranger may not send to a user that does not exist", _unknown),
    Scene("A mail host refuses a message; its sender fetches the failure report", _report),
)


# --- what the scenes are made of ---------------------------------------------------------------------


def _send(server: ServerProcess, client: str, sender: str, recipient: str, subject: str) -> str:
    """Send a message and return the server's last word."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message.set_content("This is a rehearsal.\n")
    with _smtp(server, client) as session:
        session.ehlo()
        content = message.as_bytes(policy=SMTP)
        for code, text in (session.mail(sender), session.rcpt(recipient), session.data(content)):
            if code != 250:
                raise WentWrong(f"expected 250, the server said {code} {text.decode()}")
    return f"{code} {text.decode()}"


def _refusal(server: ServerProcess, sender: str, recipient: str, code: int, status: str) -> str:
    """Have a recipient refused, and return the words."""
    with _smtp(server, STRANGER) as session:
        session.ehlo()
        session.mail(sender)
        said, text = session.rcpt(recipient)
        if said != code or not text.startswith(status.encode()):
            raise WentWrong(f"expected {code} {status}, the server said {said} {text.decode()}")
    return f"{said} {text.decode()}"


def _smtp(server: ServerProcess, client: str) -> smtplib.SMTP:
    host, port = server.address("smtp")
    return smtplib.SMTP(
        host, port, local_hostname="client.example.lan", timeout=_PATIENCE, source_address=(client, 0)
    )


def _fetch(server: ServerProcess, login: str, subject: str) -> Message:
    """Fetch and delete the newest message of a maildrop, waiting for it; ``subject`` is checked if given."""
    found: list[Message] = []

    def look() -> bool:
        host, port = server.address("pop3")
        with closing(poplib.POP3(host, port, timeout=_PATIENCE)) as session:
            session.user(login)
            session.pass_(PASSWORD)
            count, _ = session.stat()
            if count:
                _, lines, _ = session.retr(count)
                found.append(email.message_from_bytes(b"\r\n".join(lines)))
                session.dele(count)
            session.quit()
        return bool(found)

    _until(look, f"mail for {login}")
    if subject and found[0]["Subject"] != subject:
        raise WentWrong(f"expected Subject: {subject}, fetched {found[0]['Subject']}")
    return found[0]


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise WentWrong(f"waited {_PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.05)

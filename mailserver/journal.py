"""The operator's log: one function for each thing that happens to mail.

Every line begins with the event's name and goes on with ``field=value`` in a fixed order, so that it is
read by people and by ``grep`` and ``awk`` alike. Values that come from the wire are quoted where they hold
a space, a quote or anything that is not printable ASCII, so nobody can write a line of their own, or move
the terminal's cursor. In structured observers the fields stand under the same names, unquoted.

=============== =====================================================================================
``listening``   a service can be reached
``accepted``    a message is durably ours: the 250 has been, or is being, said
``refused``     a command was refused because of a rule: who, what, and the rule's file and line
``ordered``     the mail hosts of a domain, in the order in which they are asked
``routed``      recipients take the way that a ``[[route]]`` table says
``attempted``   a mail host was asked: which, and how it went
``downgraded``  mail for a domain went less protected than before, and nothing forbade it
``unprotected`` TLS with a mail host did not come about, and mail goes on in clear
``delivered``   a recipient's mail went on, to a mailbox or a host
``delayed``     … did not, and will be tried again, when
``failed``      … did not, and never will
``reported``    a report to the sender was stored
``steered``     the administrator ordered something: held, released, rerouted …
``removed``     nobody waits for the message any more; it is gone from the queue
``fetched``     a POP3 session ended: what it took and what it deleted
``reloaded``    the configuration was read again and is gone by
``login``       a login succeeded or failed
``locked``      passwords were guessed too often: a client address is locked out, wholly or of one account
``warned``      something that is allowed, and unwise
``trouble``     something an operator should look at
=============== =====================================================================================
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any

from twisted.logger import Logger, LogLevel

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID
from mailserver.model.exchanger import Demand, Exchanger, Level
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome
from mailserver.model.source import Source

__all__ = [
    "accepted",
    "attempted",
    "delayed",
    "delivered",
    "downgraded",
    "failed",
    "fetched",
    "listening",
    "locked",
    "login",
    "ordered",
    "refused",
    "refused_configuration",
    "reloaded",
    "removed",
    "reported",
    "routed",
    "steered",
    "trouble",
    "unprotected",
    "warned",
]

NAMESPACE = "mail"
_log = Logger(namespace=NAMESPACE)

_PLAIN = re.compile(r"[!#-\[\]-~]+")
_LONGEST = 500


@lru_cache(1024)  # most values come again with the next event: hosts, names, replies
def _spell(text: str) -> str:
    if not text:
        return '""'
    if len(text) <= _LONGEST and _PLAIN.fullmatch(text):
        return text
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def _write(event: str, level: Any = LogLevel.info, /, **fields: object) -> None:
    # Numbers are seldom the same again, and spell themselves. Of a text, one character more than is shown
    # tells that it goes on: what is remembered must not hold a megabyte.
    texts = [it if type(it) is int else _spell(str(it)[: _LONGEST + 1]) for it in fields.values()]
    line = _form(event, *fields) % tuple(texts)
    # What Logger.emit would make of it, at a third of the cost: several of these are made for each message.
    _log.observer(
        {
            "log_logger": _log,
            "log_level": level,
            "log_namespace": _log.namespace,
            "log_source": None,
            "log_format": "{mail_line}",
            "log_time": time(),
            "mail_line": line,
            "mail_event": event,
            "mail_fields": fields,
        }
    )


@lru_cache(256)
def _form(event: str, *names: str) -> str:
    """The line of an event, with a place for the value of each field."""
    return event + "".join([f" {name}=%s" for name in names])


@lru_cache(4096)  # each address is named several times, and the same people come again and again
def _angle(address: Address) -> str:
    return f"<{address}>"


def listening(service: str, host: str, port: int) -> None:
    """A service can be reached."""
    _write("listening", service=service, host=host, port=port)


def accepted(envelope: Envelope) -> None:
    """A message is durably in the spool, or in its mailboxes."""
    origin = envelope.origin
    _write(
        "accepted",
        id=envelope.id,
        sender=_angle(envelope.sender),
        recipients=",".join([_angle(recipient.address) for recipient in envelope.recipients[:20]]),
        count=len(envelope.recipients),
        size=envelope.size,
        client=origin.address or "local",
        helo=origin.helo,
        protocol=origin.protocol,
        tls=origin.tls,
        login=origin.login,
    )


def refused(
    origin: Origin, what: str, reason: str, rule: Source, reply: str, sender: Address | None = None
) -> None:
    """A rule said no.

    :param what: the command and its argument, as ``RCPT <bob@example.org>``.
    :param reason: for the operator.
    :param reply: what the client was told.
    :param sender: of the transaction, where there is one.
    """
    _write(
        "refused",
        client=origin.address or "local",
        helo=origin.helo,
        login=origin.login,
        sender="" if sender is None else _angle(sender),
        what=what,
        reason=reason,
        rule=rule,
        reply=reply,
    )


def ordered(id: QueueID, domain: str, exchangers: Iterable[Exchanger], seed: int) -> None:
    """Whom a message goes to, if need be one after the other.

    :param seed: what the order of equal hosts was drawn from; 0: nothing was drawn.
    """
    _write("ordered", id=id, domain=domain, hosts=",".join(map(str, exchangers)), seed=seed)


def routed(id: QueueID, recipients: Iterable[Address], to: str, rule: Source) -> None:
    """Recipients take the way that a rule says."""
    _write("routed", id=id, recipients=",".join(map(_angle, recipients)), to=to, rule=rule)


def attempted(
    id: QueueID, exchanger: Exchanger, result: str, seconds: float, tls: str, demand: Demand
) -> None:
    """A mail host was asked, or passed over because it cannot be what is demanded of it.

    :param result: in a few words: what was accepted, delayed, failed, and the telling reply.
    :param tls: version, cipher, and what proves the host; empty when in clear.
    """
    _write(
        "attempted",
        id=id,
        host=exchanger.host,
        address=exchanger.address,
        preference=exchanger.preference,
        result=result,
        seconds=f"{seconds:.3f}",
        tls=tls,
        policy=demand,
    )


def downgraded(
    id: QueueID, domain: str, exchanger: Exchanger, best: Level, level: Level, reason: str
) -> None:
    """Mail for a domain went less protected than before, and nothing forbade it."""
    _write(
        "downgraded",
        LogLevel.warn,
        id=id,
        domain=domain,
        host=exchanger.host,
        address=exchanger.address,
        before=best.name.lower(),
        now=level.name.lower(),
        reason=reason,
    )


def unprotected(host: str, address: str, reason: str) -> None:
    """TLS with a mail host did not come about, nobody asked for it, and mail goes on in clear."""
    _write("unprotected", host=host, address=address, reason=reason)


def delivered(id: QueueID, recipient: Address, outcome: Delivered) -> None:
    """A recipient's mail went on."""
    _write("delivered", LogLevel.info, **_about(id, recipient, outcome))


def delayed(id: QueueID, recipient: Address, outcome: Delayed, next_attempt: float) -> None:
    """A recipient's mail waits; ``next_attempt`` in seconds since 1970."""
    when = datetime.fromtimestamp(next_attempt, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _write("delayed", LogLevel.info, **_about(id, recipient, outcome), scope=outcome.scope.value, next=when)


def failed(id: QueueID, recipient: Address, outcome: Failed) -> None:
    """A recipient's mail is given up."""
    _write("failed", LogLevel.warn, **_about(id, recipient, outcome), scope=outcome.scope.value)


def _about(id: QueueID, recipient: Address, outcome: Outcome) -> dict[str, object]:
    return {
        "id": id,
        "recipient": _angle(recipient),
        "host": outcome.host or "local",
        "status": outcome.status,
        "reply": outcome.reply,
    }


def reported(id: QueueID, kind: str, report: QueueID, sender: Address) -> None:
    """A report about message ``id`` was stored as message ``report``; ``kind``: failed, delayed …"""
    _write("reported", id=id, kind=kind, report=report, to=_angle(sender))


def steered(order: str, id: str, recipients: int, detail: str) -> None:
    """The administrator ordered something.

    :param id: of the message; empty where it is not about one.
    :param recipients: how many of the message's it concerns.
    """
    _write("steered", order=order, id=id or "-", recipients=recipients, detail=detail)


def removed(id: QueueID) -> None:
    """Nobody waits for the message any more."""
    _write("removed", id=id)


def login(service: str, client: str, account: str, ok: bool, reason: str = "") -> None:
    """Somebody logged in, or tried."""
    _write(
        "login",
        LogLevel.info if ok else LogLevel.warn,
        service=service,
        client=client,
        account=account,
        result="ok" if ok else "failed",
        reason=reason,
    )


def locked(client: str, account: str, seconds: float) -> None:
    """Passwords were guessed too often. ``account`` is empty where the client can log in to none."""
    _write("locked", LogLevel.warn, client=client, account=account, seconds=f"{seconds:.0f}")


def fetched(client: str, account: str, messages: int, octets: int, deleted: int) -> None:
    """A POP3 session with a login ended."""
    _write("fetched", client=client, account=account, messages=messages, octets=octets, deleted=deleted)


def reloaded(file: object, domains: int, users: int) -> None:
    """The configuration was read again and is gone by."""
    _write("reloaded", file=file, domains=domains, users=users)


def refused_configuration(file: object, problems: Iterable[object]) -> None:
    """A configuration was refused whole at a reload; the old one stays."""
    for problem in problems:
        _write("trouble", LogLevel.error, where="reload", what=str(problem))
    _write("trouble", LogLevel.error, where="reload", what=f"{file} refused; the old configuration stays")


def warned(where: str, what: object) -> None:
    """Something that is allowed and unwise, or takes effect later than one may think."""
    _write("warned", LogLevel.warn, where=where, what=str(what))


def trouble(where: str, what: object, **fields: object) -> None:
    """Something an operator should look at; mail is safe unless it says otherwise."""
    # As text: an exception would keep its frames alive, and all in them, for as long as a log is buffered.
    _write("trouble", LogLevel.error, where=where, what=str(what), **fields)

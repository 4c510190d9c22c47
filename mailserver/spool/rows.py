"""Envelopes and outcomes as rows, and back.

What the queue tools ask for is a column; the rest of an envelope is one JSON text, of which only what differs
from the usual is written.
"""

import json
from collections.abc import Iterable
from typing import Any

import attrs

from mailserver.interfaces import Settlement, Waiting
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delivered

__all__ = [
    "ENVELOPE_COLUMNS",
    "RECIPIENT_COLUMNS",
    "envelope_row",
    "read_address",
    "read_envelope",
    "read_waiting",
    "recipient_row",
    "settlement_row",
    "spell_address",
]

ENVELOPE_COLUMNS = "id, arrived, sender, size, facts"
RECIPIENT_COLUMNS = "address, original, notify, attempts, warned, route"

_FACTS = ("body", "smtputf8", "ret", "envid", "requiretls")
_USUAL = {name: getattr(attrs.fields(Envelope), name).default for name in _FACTS}
_ORIGIN = tuple(field.name for field in attrs.fields(Origin))
_dump = json.JSONEncoder(separators=(",", ":")).encode


def spell_address(address: Address) -> str:
    """An address as text that :func:`read_address` reads back exactly: unquoted, always with its ``@``."""
    local, domain = address.local, address.domain
    return f"{local}@{domain}" if local or domain else ""


def read_address(text: str) -> Address:
    """The address that was spelled."""
    if not text:
        return NULL_SENDER
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def envelope_row(envelope: Envelope) -> tuple[object, ...]:
    """The values of :data:`ENVELOPE_COLUMNS`."""
    facts: dict[str, object] = {
        name: value for name in _FACTS if (value := getattr(envelope, name)) != _USUAL[name]
    }
    if envelope.marks:
        facts["marks"] = dict(envelope.marks)
    facts["origin"] = [getattr(envelope.origin, name) for name in _ORIGIN]
    return envelope.id, envelope.arrived, spell_address(envelope.sender), envelope.size, _dump(facts)


def read_envelope(row: tuple[Any, ...], recipients: Iterable[tuple[Any, ...]]) -> Envelope:
    """The envelope of one row of :data:`ENVELOPE_COLUMNS` and its rows of :data:`RECIPIENT_COLUMNS`.

    Raises ``ValueError``, ``TypeError`` or ``KeyError`` for a row that nobody wrote so.
    """
    id_, arrived, sender, size, text = row
    facts = json.loads(text)
    origin = Origin(*facts.pop("origin"))
    return Envelope(
        id=QueueID(id_),
        sender=read_address(sender),
        recipients=tuple(_read_recipient(row) for row in recipients),
        origin=origin,
        arrived=arrived,
        size=size,
        **facts,
    )


def recipient_row(
    message: int, number: int, recipient: Recipient, due: float, hold: str | None = None
) -> tuple[object, ...]:
    """A new recipient: message, number, address, original, notify, destination, next attempt, state, hold.

    :param hold: why it is to be held; ``None`` when it is not.
    """
    notify = None if recipient.notify is None else " ".join(sorted(recipient.notify))
    address = recipient.address
    state = "waiting" if hold is None else "held"
    spelled = spell_address(address)
    return message, number, spelled, recipient.original, notify, address.domain, due, state, hold


def _read_recipient(row: tuple[Any, ...]) -> Recipient:
    address, original, notify = row[:3]
    return Recipient(read_address(address), original, None if notify is None else frozenset(notify.split()))


def read_waiting(row: tuple[Any, ...]) -> Waiting:
    """The waiting recipient of one row of :data:`RECIPIENT_COLUMNS`."""
    return Waiting(_read_recipient(row), row[3], bool(row[4]), row[5] or "")


def settlement_row(settlement: Settlement, now: float) -> tuple[object, ...]:
    """state, next attempt (``None``: as it was), warned, last attempt, scope, status, reply, host, code."""
    outcome = settlement.outcome
    if isinstance(outcome, Delivered):
        state, scope, code = "delivered", None, 0
    else:
        state, scope, code = "failed", outcome.scope.value, outcome.code
    if settlement.next_attempt is not None:
        state = "waiting"
    return (
        state,
        settlement.next_attempt,
        settlement.warned,
        now,
        scope,
        outcome.status,
        outcome.reply,
        outcome.host,
        code,
    )

"""What a process that speaks to mail hosts for another one is told, and what it answers, as plain values."""

import pickle
from collections.abc import Sequence
from typing import Any

from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Exchanger
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.smtp.transmitter import Transmission
from mailserver.wire.envelope import Facts, read_envelope, spell_envelope

__all__ = [
    "read_host",
    "read_request",
    "read_transmission",
    "spell_host",
    "spell_request",
    "spell_transmission",
]


def spell_host(exchanger: Exchanger) -> bytes:
    """A host and how it is spoken to; most messages go where the last ones went, so it may be remembered."""
    return pickle.dumps(exchanger)


def read_host(spelled: bytes) -> Exchanger:
    """The host that was spelled."""
    exchanger: Exchanger = pickle.loads(spelled)  # noqa: S301 - our own parent is who tells us
    return exchanger


def spell_request(host: bytes, envelope: Envelope, recipients: Sequence[Recipient]) -> Facts:
    """What is to be offered to a host, for whom.

    :param host: spelled.
    """
    return host, spell_envelope(envelope, recipients)


def read_request(facts: Facts) -> tuple[bytes, Envelope]:
    """The request that was spelled; the envelope has only the recipients that it is about."""
    host, envelope = facts
    return host, read_envelope(envelope)


def spell_transmission(done: Transmission, recipients: Sequence[Recipient]) -> Facts:
    """What became of a request that was about these recipients."""
    outcomes = [_spell_outcome(done.outcomes.get(recipient)) for recipient in recipients]
    return outcomes, done.spoke, done.tls, done.flaw


def read_transmission(facts: Facts, recipients: Sequence[Recipient]) -> Transmission:
    """What was spelled of the same recipients."""
    spelled, *others = facts
    outcomes = {
        recipient: _read_outcome(*outcome)
        for recipient, outcome in zip(recipients, spelled, strict=True)
        if outcome is not None
    }
    return Transmission(outcomes, *others)


def _spell_outcome(outcome: Outcome | None) -> tuple[Any, ...] | None:
    match outcome:
        case None:
            return None
        case Delivered(reply, status, host, reports, expanded, final):
            return "delivered", reply, status, host, reports, expanded, final
        case Delayed(scope, reply, status, host, code):
            return "delayed", scope.value, reply, status, host, code
        case Failed(scope, reply, status, host, code):
            return "failed", scope.value, reply, status, host, code


def _read_outcome(kind: str, *facts: Any) -> Outcome:
    if kind == "delivered":
        return Delivered(*facts)
    scope, *others = facts
    return (Delayed if kind == "delayed" else Failed)(Scope(scope), *others)

"""What a process that speaks to mail hosts for another one is told, and what it answers, as plain values."""

import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Exchanger
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.smtp.transmitter import Transmission
from mailserver.wire.plain import Facts, read_envelope, spell_envelope

__all__ = ["read_order", "read_transmission", "spell_order", "spell_transmission"]

_HOSTS = 256
"""The hosts that are remembered in their spelling: most messages go where the last ones went."""


def spell_order(exchanger: Exchanger, envelope: Envelope, recipients: Sequence[Recipient]) -> Facts:
    """To which host a message is to be offered, for whom."""
    return _spell_exchanger(exchanger), spell_envelope(envelope, recipients)


def read_order(facts: Facts) -> tuple[Exchanger, Envelope]:
    """The order that was spelled; the envelope has only the recipients that it is about."""
    exchanger, envelope = facts
    return _read_exchanger(exchanger), read_envelope(envelope)


@lru_cache(_HOSTS)
def _spell_exchanger(exchanger: Exchanger) -> bytes:
    return pickle.dumps(exchanger)


@lru_cache(_HOSTS)
def _read_exchanger(spelled: bytes) -> Exchanger:
    exchanger: Exchanger = pickle.loads(spelled)  # noqa: S301 - our own parent is who tells us
    return exchanger


def spell_transmission(done: Transmission, recipients: Sequence[Recipient]) -> Facts:
    """What became of an order that was about these recipients."""
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

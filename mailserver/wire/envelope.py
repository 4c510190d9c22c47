"""Envelopes as plain values, which another process of this server can be told, and back.

What an envelope and an origin consist of is asked of their classes, so that nothing new is left behind.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient

__all__ = ["Facts", "read_envelope", "spell_envelope"]

Facts = Sequence[Any]
"""Numbers, text, octets and nothing, and sequences and dictionaries of them: what ``marshal`` spells."""

_ORIGIN = tuple(field.name for field in attrs.fields(Origin))
_OTHERS = tuple(
    field.name
    for field in attrs.fields(Envelope)
    if field.name not in ("id", "sender", "recipients", "origin", "marks")
)


def spell_envelope(envelope: Envelope, recipients: Sequence[Recipient]) -> Facts:
    """An envelope's facts.

    :param recipients: those that it shall have there: all of its own, or some.
    """
    origin, sender = envelope.origin, envelope.sender
    return (
        envelope.id,
        (sender.local, sender.domain),
        [_spell_recipient(recipient) for recipient in recipients],
        [getattr(origin, name) for name in _ORIGIN],
        dict(envelope.marks),
        [getattr(envelope, name) for name in _OTHERS],
    )


def read_envelope(facts: Facts) -> Envelope:
    """The envelope that was spelled."""
    id_, sender, recipients, origin, marks, others = facts
    return Envelope(
        id=QueueID(id_),
        sender=Address(*sender),
        recipients=tuple([_read_recipient(*recipient) for recipient in recipients]),
        origin=Origin(*origin),
        marks=marks,
        **dict(zip(_OTHERS, others, strict=True)),
    )


def _spell_recipient(recipient: Recipient) -> tuple[Any, ...]:
    address, notify = recipient.address, recipient.notify
    return address.local, address.domain, recipient.original, None if notify is None else tuple(notify)


def _read_recipient(local: str, domain: str, original: str, notify: Sequence[str] | None) -> Recipient:
    return Recipient(Address(local, domain), original, None if notify is None else frozenset(notify))

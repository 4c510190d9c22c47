"""Messages as plain values, which another process can be told, and back.

What an envelope and an origin consist of is asked of their classes, so that nothing new is left behind.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.spool.body import Sealed

__all__ = ["read_message", "spell_message"]

Facts = Sequence[Any]

_ORIGIN = tuple(field.name for field in attrs.fields(Origin))
_OTHERS = tuple(
    field.name
    for field in attrs.fields(Envelope)
    if field.name not in ("id", "sender", "recipients", "origin", "marks")
)


def spell_message(envelope: Envelope, content: Sealed) -> tuple[Facts, bytes]:
    """A message's facts, and its octets where they are not in a file."""
    origin, sender = envelope.origin, envelope.sender
    facts = (
        (
            envelope.id,
            (sender.local, sender.domain),
            [_spell_recipient(recipient) for recipient in envelope.recipients],
            [getattr(origin, name) for name in _ORIGIN],
            dict(envelope.marks),
            [getattr(envelope, name) for name in _OTHERS],
        ),
        (content.size, content.file, content.head),
    )
    return facts, b"".join(content.chunks)


def read_message(facts: Facts, octets: bytes) -> tuple[Envelope, Sealed]:
    """The message that was spelled."""
    (id_, sender, recipients, origin, marks, others), (size, file, head) = facts
    envelope = Envelope(
        id=QueueID(id_),
        sender=Address(*sender),
        recipients=tuple([_read_recipient(*recipient) for recipient in recipients]),
        origin=Origin(*origin),
        marks=marks,
        **dict(zip(_OTHERS, others, strict=True)),
    )
    return envelope, Sealed(size, () if file else (octets,), file, head)


def _spell_recipient(recipient: Recipient) -> tuple[Any, ...]:
    address, notify = recipient.address, recipient.notify
    return address.local, address.domain, recipient.original, None if notify is None else tuple(notify)


def _read_recipient(local: str, domain: str, original: str, notify: Sequence[str] | None) -> Recipient:
    return Recipient(Address(local, domain), original, None if notify is None else frozenset(notify))

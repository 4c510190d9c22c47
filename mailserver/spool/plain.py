"""Envelopes as plain values, which another process can be told, and back."""

from collections.abc import Sequence
from typing import Any

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient

__all__ = ["Spelled", "read_envelope", "spell_envelope"]

Spelled = tuple[Any, ...]


def spell_envelope(envelope: Envelope) -> Spelled:
    """As plain values."""
    origin, sender = envelope.origin, envelope.sender
    return (
        envelope.id,
        (sender.local, sender.domain),
        [_spell_recipient(recipient) for recipient in envelope.recipients],
        (origin.address, origin.port, origin.helo, origin.protocol, origin.tls, origin.login),
        envelope.arrived,
        envelope.size,
        envelope.body,
        envelope.smtputf8,
        envelope.ret,
        envelope.envid,
        envelope.requiretls,
        dict(envelope.marks),
    )


def read_envelope(spelled: Sequence[Any]) -> Envelope:
    """The envelope that was spelled."""
    id_, sender, recipients, origin, *facts = spelled
    return Envelope(
        QueueID(id_),
        Address(*sender),
        tuple(_read_recipient(*recipient) for recipient in recipients),
        Origin(*origin),
        *facts,
    )


def _spell_recipient(recipient: Recipient) -> Spelled:
    address, notify = recipient.address, recipient.notify
    return address.local, address.domain, recipient.original, None if notify is None else tuple(notify)


def _read_recipient(local: str, domain: str, original: str, notify: Sequence[str] | None) -> Recipient:
    return Recipient(Address(local, domain), original, None if notify is None else frozenset(notify))

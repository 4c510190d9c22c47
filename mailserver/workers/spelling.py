"""Envelopes and failures as what a channel carries, and back (:mod:`mailserver.workers.channel`)."""

from collections.abc import Sequence
from typing import Any

from mailserver.interfaces import MailboxFull, StorageFull, StorageTrouble
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient

__all__ = ["Spelled", "read_envelope", "read_failure", "spell_envelope", "spell_failure"]

Spelled = tuple[Any, ...]

_FAILURES: dict[str, type[Exception]] = {
    "mailbox full": MailboxFull,
    "full": StorageFull,
    "trouble": StorageTrouble,
}


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


def spell_failure(failure: Exception | None) -> tuple[str, str] | None:
    """Why something was not stored; ``None``: it was."""
    if failure is None:
        return None
    for name, kind in _FAILURES.items():
        if isinstance(failure, kind):
            return name, str(failure)
    return "trouble", f"{type(failure).__name__}: {failure}"


def read_failure(spelled: Sequence[str] | None) -> Exception | None:
    """The failure that was spelled."""
    if spelled is None:
        return None
    name, text = spelled
    return _FAILURES[name](text) if text else _FAILURES[name]()

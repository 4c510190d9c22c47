"""Messages as plain values, which another process can be told, and back."""

from mailserver.model.envelope import Envelope
from mailserver.spool.body import Sealed
from mailserver.wire.envelope import Facts, read_envelope, spell_envelope

__all__ = ["read_message", "spell_message"]


def spell_message(envelope: Envelope, content: Sealed) -> tuple[Facts, bytes]:
    """A message's facts, and its octets where they are not in a file."""
    about = (content.size, content.file, content.head)
    return (spell_envelope(envelope, envelope.recipients), about), b"".join(content.chunks)


def read_message(facts: Facts, octets: bytes) -> tuple[Envelope, Sealed]:
    """The message that was spelled."""
    envelope, (size, file, head) = facts
    return read_envelope(envelope), Sealed(size, () if file else (octets,), file, head)

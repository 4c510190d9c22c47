"""The story of a message: all that is known of it when nobody waits for it any more, as one value."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from mailserver.model.envelope import Envelope
from mailserver.spool.rows import spell_address

__all__ = ["Story", "find_message_id"]

_LONGEST_ID = 998


@frozen
class Story:
    """One message that has left the queue.

    :ivar message_id: without its angle brackets; empty if it has none.
    :ivar ended: for each recipient: address, original, state, when, attempts, status, reply, host.
    :ivar attempts: the hosts that were asked, as the journal's ``attempted`` tells them.
    :ivar at: when it left.
    """

    envelope: Envelope
    message_id: str
    ended: Sequence[tuple[Any, ...]]
    attempts: Sequence[Mapping[str, Any]]
    at: float

    @property
    def id(self) -> str:
        """The queue ID."""
        return self.envelope.id

    def facts(self) -> dict[str, Any]:
        """As it is kept."""
        envelope = self.envelope
        origin = envelope.origin
        return {
            "id": envelope.id,
            "arrived": envelope.arrived,
            "sender": spell_address(envelope.sender),
            "size": envelope.size,
            "message_id": self.message_id,
            "origin": [origin.address, origin.port, origin.helo, origin.protocol, origin.tls, origin.login],
            "recipients": [list(one) for one in self.ended],
            "attempts": [dict(one) for one in self.attempts],
        }


def find_message_id(content: bytes) -> str | None:
    """The Message-ID in the header, without its angle brackets (RFC 5322 §3.6.4); ``None`` if there is none.

    A search for octets, not a parser: every message that is stored passes here.
    """
    end = content.find(b"\r\n\r\n")
    header = content[: end if end >= 0 else len(content)].lower()
    start = 0 if header.startswith(b"message-id:") else header.find(b"\nmessage-id:") + 1
    if start == 0 and not header.startswith(b"message-id:"):
        return None
    opening = header.find(b"<", start)
    closing = header.find(b">", opening)
    following = header.find(b"\n", start)
    while 0 <= following < len(header) - 1 and header[following + 1] in b" \t":  # a folded field goes on
        following = header.find(b"\n", following + 1)
    if opening < 0 or closing < 0 or closing - opening > _LONGEST_ID or 0 <= following < closing:
        return None
    return content[opening + 1 : closing].decode("utf-8", "backslashreplace")

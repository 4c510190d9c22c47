"""Trace fields: what this server writes on top of a message, and what it reads there (RFC 5321 §4.4).

What is written is whole header lines that end in CRLF, folded, at most 998 octets each. Names that came
from the wire are made harmless: what a HELO argument or an address holds can neither end a line nor close a
comment. What is read is read from bytes by a splitter of our own, in time linear in them; header fields of
strangers are never given to ``email``.
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailserver.model.address import Address
from mailserver.model.envelope import Origin, QueueID
from mailserver.wire.addresses import parse_domain
from mailserver.wire.syntax import BadSyntax

__all__ = [
    "HeaderScan",
    "date",
    "delivered_to",
    "field_values",
    "header_end",
    "message_id",
    "received",
    "return_path",
]

_REMEMBERED = 200
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_IN_COMMENTS = re.compile(r"[^A-Za-z0-9._:,=+/ -]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RECEIVED = re.compile(rb"^received[ \t]*+:", re.IGNORECASE | re.MULTILINE)


def received(
    origin: Origin, by: str, id: QueueID, recipient: Address | None, when: float, hidden: bool = False
) -> bytes:
    """The Received field of a message that has just come.

    :param by: our own host name.
    :param recipient: the only recipient; ``None`` when there are more, who must not see each other.
    :param when: in seconds since 1970.
    :param hidden: say nothing of the client, neither where it is nor what it calls itself.
    """
    reader = f"\r\n\tfor <{_harmless(recipient)}>" if recipient and recipient.is_ascii else ""
    made_by = _made_by(origin.helo, origin.address, origin.tls, origin.protocol, by, hidden)
    return f"{made_by} id {id}{reader};\r\n\t{date(when)}\r\n".encode("ascii", "replace")


@lru_cache(_REMEMBERED)  # whoever brings much mail brings it under one name
def _made_by(helo: str, address: str, tls: str, protocol: str, by: str, hidden: bool) -> str:
    if hidden:
        return f"Received: by {by} with {protocol}"
    if not address:
        return f"Received: by {by}"
    return f"Received: from {_client(helo, address, tls)}\r\n\tby {by} with {protocol}"


@lru_cache(_REMEMBERED)
def return_path(sender: Address) -> bytes:
    """The Return-Path field, which the host of final delivery writes."""
    return f"Return-Path: <{_harmless(sender)}>\r\n".encode()


@lru_cache(_REMEMBERED)
def delivered_to(address: Address) -> bytes:
    """The Delivered-To field: a message that comes back to where it has been shows that it loops."""
    return f"Delivered-To: {_harmless(address)}\r\n".encode()


def date(when: float) -> str:
    """A point in time, in seconds since 1970, as RFC 5322 §3.3 writes it, in UTC."""
    return _date(int(when))


@lru_cache(4)  # many messages come in one second
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def message_id(id: QueueID, host: str) -> str:
    """A Message-ID with its angle brackets, for messages made here (RFC 5322 §3.6.4)."""
    return f"<{id}@{host}>"


def header_end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the body begins: behind the first empty line. -1 when there is none in ``data``.

    :param start: it is known not to begin before here.
    """
    if data.startswith(b"\r\n"):
        return 2
    end = data.find(b"\r\n\r\n", start)
    return end + 4 if end >= 0 else -1


def field_values(header: bytes, name: str) -> list[bytes]:
    """The bodies of all fields of that name, in order, unfolded, without blanks around them."""
    pattern = rb"^%b[ \t]*+:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*)" % re.escape(name.encode("ascii"))
    found = re.findall(pattern, header, re.IGNORECASE | re.MULTILINE)
    return [value.replace(b"\r\n", b"").strip(b" \t") for value in found]


class HeaderScan:
    """Collects the header section of a message that passes by in chunks.

    :param limit: octets after which it stops looking; a header may be endless.
    """

    __slots__ = ("_held", "_limit", "finished")

    def __init__(self, limit: int = 256 * 1024) -> None:
        self.finished = False
        """Whether there is nothing more to learn: the header has ended, or has reached the limit."""
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next chunk of content in wire form. Costs nothing once finished."""
        if self.finished:
            return
        held = self._held
        seen = max(len(held) - 3, 0)  # the empty line may have begun there
        held += data[: self._limit - len(held)]
        end = header_end(held, seen)
        if end >= 0:
            del held[end:]
        self.finished = end >= 0 or len(held) >= self._limit

    @property
    def header(self) -> bytes:
        """The header section so far, the empty line that ends it included."""
        return bytes(self._held)

    @property
    def hops(self) -> int:
        """How many Received fields there are: the servers it came through (RFC 5321 §6.3)."""
        return len(_RECEIVED.findall(self._held))


def _client(helo: str, address: str, tls: str) -> str:
    """Whom a message comes from."""
    using = f"\r\n\t(using {_NOT_IN_COMMENTS.sub('?', tls)})" if tls else ""
    return f"{_helo(helo)} ({_literal(address)}){using}"


def _helo(name: str) -> str:
    """The HELO name as a header can hold it: itself where it is a name, else its bad characters masked."""
    try:
        domain = parse_domain(name)
    except BadSyntax:
        return _NOT_IN_NAMES.sub("?", name[:255]) or "unknown"
    return name if name.isascii() else domain


def _literal(address: str) -> str:
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    return _NOT_IN_NAMES.sub("?", literal)


def _harmless(address: Address) -> str:
    return _CONTROL.sub("?", str(address))

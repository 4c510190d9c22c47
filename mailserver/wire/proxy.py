"""The PROXY protocol, versions 1 and 2: what a proxy says, before all else, about the client it speaks for.

After HAProxy's ``proxy-protocol.txt``, sections 2.1 and 2.2. Only the client's address and port are read;
whatever else a header of version 2 holds is passed over.

:func:`parse_header` is fed with all that has come so far and answers when that is enough. It believes every
header: whose headers are to be believed is not for this module to say.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import frozen

from mailserver.wire.syntax import BadSyntax

__all__ = ["Header", "parse_header"]

_TEXT = b"PROXY "
_LONGEST_TEXT = 107
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_LONGEST_REST = 4096
"""Octets of addresses and further facts in version 2; the format would allow for 65,535, for each client that
connects."""

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


@frozen
class Header:
    """Who connects.

    :ivar local: the proxy itself, on its own behalf, as to see whether we are well; there is no client then.
    :ivar address: the client's IP address; empty where the proxy does not know.
    :ivar rest: what came behind the header: the first octets of the session.
    """

    rest: bytes
    address: str = ""
    port: int = 0
    local: bool = False


def parse_header(data: bytes) -> Header | None:
    """The header at the beginning of ``data``; ``None`` while it is not there as a whole.

    Raises :class:`BadSyntax` as soon as it can be none.
    """
    if data.startswith(_SIGNATURE):
        return _parse_binary(data)
    if data.startswith(_TEXT):
        return _parse_text(data)
    if _SIGNATURE.startswith(data) or _TEXT.startswith(data):
        return None
    raise BadSyntax("No PROXY header")


def _parse_text(data: bytes) -> Header | None:
    line, end, rest = data.partition(b"\r\n")
    if len(line) + 2 > _LONGEST_TEXT:
        raise BadSyntax("PROXY header too long")
    if not end:
        return None
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return Header(rest)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise BadSyntax("Bad PROXY header")
    source, _ = (_parse_address(word, int(words[1][3])) for word in words[2:4])
    port, _ = (_parse_port(word) for word in words[4:])
    return Header(rest, source, port)


def _parse_address(word: str, version: int) -> str:
    try:
        address = ip_address(word)
    except ValueError:
        raise BadSyntax("Bad address in the PROXY header") from None
    if address.version != version:
        raise BadSyntax("Bad address in the PROXY header")
    return str(address)


def _parse_port(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= 65535):
        raise BadSyntax("Bad port in the PROXY header")
    return int(word)


def _parse_binary(data: bytes) -> Header | None:
    if len(data) < _FIXED:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > _LONGEST_REST:
        raise BadSyntax("Bad PROXY header")
    if len(data) < _FIXED + length:
        return None
    block, rest = data[_FIXED : _FIXED + length], data[_FIXED + length :]
    if command == _LOCAL:
        return Header(rest, local=True)
    # Each layout: the two addresses, then the two ports.
    size = {_TCP4: 4, _TCP6: 16}.get(family)
    if size is None:
        return Header(rest)
    if length < 2 * size + 4:
        raise BadSyntax("Bad PROXY header")
    address = IPv4Address(block[:4]) if family == _TCP4 else IPv6Address(block[:16])
    return Header(rest, str(address), int.from_bytes(block[2 * size : 2 * size + 2], "big"))

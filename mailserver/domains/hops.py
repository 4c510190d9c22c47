"""How the administrator names a host that takes mail: in the configuration, and to ``mailctl queue reroute``.

``relay.isp.example:587``, ``192.0.2.1``, ``[2001:db8::1]:25``; ``smtps://relay.isp.example`` has TLS before
the greeting (RFC 8314 §3.3); ``unix:/run/dovecot/lmtp`` is a socket. What raises ``ValueError`` says what is
wrong.
"""

import os
from ipaddress import ip_address

from mailserver.domains.naming import parse_domain
from mailserver.domains.units import quote
from mailserver.model.exchanger import NextHop

__all__ = ["parse_hop", "parse_lmtp", "parse_reroute", "spell_hop", "split_port"]

_SMTPS = "smtps://"
_SOCKET = "unix:"
_LONGEST_SOCKET = 107  # sockaddr_un has room for 108 octets, one of them a NUL


def parse_hop(value: object) -> NextHop:
    """A host that speaks SMTP; port 25, or 465 with ``smtps://``, if none is named."""
    if isinstance(value, str) and value.startswith(_SMTPS):
        return NextHop(*_parse_host(value.removeprefix(_SMTPS), 465), wrapped=True)
    return NextHop(*_parse_host(value, 25))


def parse_lmtp(value: object) -> NextHop:
    """A socket, or a host, where LMTP is spoken; port 24 if none is named."""
    if isinstance(value, str) and value.startswith(_SOCKET):
        return _parse_socket(value)
    return NextHop(*_parse_host(value, 24))


def parse_reroute(text: str) -> NextHop:
    """A host that speaks SMTP, or a socket where LMTP is spoken."""
    return parse_lmtp(text) if text.startswith(_SOCKET) else parse_hop(text)


def spell_hop(hop: NextHop) -> str:
    """What :func:`parse_reroute` reads as that."""
    return str(hop) if hop.port else f"{_SOCKET}{hop.host}"


def split_port(value: object, default: int) -> tuple[str, int]:
    """The host, whatever it is, and the port."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{quote(value)} is not a host, with or without :port")
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = value, str(default)
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) <= 65535:
        raise ValueError(f'"{value}" has no port between 1 and 65535')
    return host.removeprefix("[").removesuffix("]"), int(port)


def _parse_host(value: object, default: int) -> tuple[str, int]:
    host, port = split_port(value, default)
    if ":" in host or host.replace(".", "").isdecimal():
        return str(ip_address(host)), port
    return parse_domain(host), port


def _parse_socket(value: str) -> NextHop:
    path = value.removeprefix(_SOCKET)
    if not path.startswith("/") or len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f'"{value}" is no absolute path of a socket, or too long for one')
    return NextHop(path, 0)

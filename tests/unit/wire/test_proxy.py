"""The PROXY protocol's two spellings, however they arrive."""

from ipaddress import ip_address

import pytest

from mailserver.wire.proxy import Header, parse_header
from mailserver.wire.syntax import BadSyntax

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V6 = ip_address("2001:db8::7").packed


def binary(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + block


TCP4 = binary(0x21, 0x11, bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\x12\x34\x00\x19")
TCP6 = binary(0x21, 0x21, V6 + V6 + b"\x12\x34\x00\x19" + b"\x03\x00\x01x")

WHOLE = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25\r\n", Header(b"", "192.0.2.7", 4660)),
    (b"PROXY TCP6 2001:DB8::7 ::1 65535 25\r\n", Header(b"", "2001:db8::7", 65535)),
    (b"PROXY UNKNOWN\r\n", Header(b"")),
    (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n", Header(b"")),
    (TCP4, Header(b"", "192.0.2.7", 0x1234)),
    (TCP6, Header(b"", "2001:db8::7", 0x1234)),
    (binary(0x20, 0x00, b""), Header(b"", local=True)),
    (binary(0x20, 0x11, b"\x00" * 12), Header(b"", local=True)),
    (binary(0x21, 0x00, b""), Header(b"")),
    (binary(0x21, 0x31, b"\x00" * 216), Header(b"")),
    (binary(0x21, 0x12, b"\x00" * 12), Header(b"")),
]


@pytest.mark.parametrize(("data", "header"), WHOLE)
def test_whole(data: bytes, header: Header) -> None:
    assert parse_header(data) == header


@pytest.mark.parametrize(("data", "header"), WHOLE)
def test_octet_by_octet_with_something_behind(data: bytes, header: Header) -> None:
    for end in range(len(data)):
        assert parse_header(data[:end]) is None
    found = parse_header(data + b"EHLO client\r\n")
    assert found is not None
    assert found.rest == b"EHLO client\r\n"
    assert (found.address, found.port, found.local) == (header.address, header.port, header.local)


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example.lan\r\n",
        b"\x16\x03\x01",
        b"proxy TCP4",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25 1\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 4660 25\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 4660 25\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 4660 25\r\n",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 4660 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 \xb2 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 000080 25\r\n",
        b"PROXY TCP4  192.0.2.7 10.0.0.1 80 25\r\n",
        b"PROXY " + b"x" * 102,
        b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
        binary(0x11, 0x11, b"\x00" * 12),
        binary(0x22, 0x11, b"\x00" * 12),
        binary(0x21, 0x11, b"\x00" * 11),
        binary(0x21, 0x21, b"\x00" * 35),
        binary(0x21, 0x11, b"", 4097),
    ],
)
def test_none(data: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_header(data)

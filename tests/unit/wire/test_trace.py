"""Trace fields, written and read."""

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Origin, QueueID
from mailserver.wire.trace import (
    HeaderScan,
    date,
    delivered_to,
    field_values,
    header_end,
    message_id,
    received,
    return_path,
)

ID = QueueID("0123456789BCDFGHJ")
WHEN = 1_700_000_000.9


def made(origin: Origin, recipient: Address | None = None) -> bytes:
    return received(origin, "mail.example.lan", ID, recipient, WHEN)


def test_received_in_full() -> None:
    origin = Origin("192.0.2.7", 4025, "Client.example", "ESMTPS", "TLSv1.3 TLS_AES_256_GCM_SHA384")
    assert made(origin, Address("bob", "example.lan")) == (
        b"Received: from Client.example ([192.0.2.7])\r\n"
        b"\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mail.example.lan with ESMTPS id 0123456789BCDFGHJ\r\n"
        b"\tfor <bob@example.lan>;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_received_without_tls_and_for_several() -> None:
    assert made(Origin("2001:db8::1", 4025, "[IPv6:2001:db8::1]", "ESMTP")) == (
        b"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"
        b"\tby mail.example.lan with ESMTP id 0123456789BCDFGHJ;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_received_that_hides_the_client() -> None:
    origin = Origin("192.0.2.7", 4025, "Client.example", "ESMTPSA", "TLSv1.3 X", "alice@example.lan")
    assert received(origin, "mail.example.lan", ID, None, WHEN, hidden=True) == (
        b"Received: by mail.example.lan with ESMTPSA id 0123456789BCDFGHJ;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_received_of_a_message_made_here() -> None:
    assert made(Origin()) == (
        b"Received: by mail.example.lan id 0123456789BCDFGHJ;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("helo", "spelled"),
    [
        ("", b"unknown"),
        ("a) (b", b"a???b"),
        ("x\r\nBcc: y", b"x??Bcc:?y"),
        ("münchen", b"xn--mnchen-3ya"),
        ("-ü-", b"-?-"),
        ("(" * 9000, b"?" * 255),
    ],
)
def test_a_helo_name_does_no_harm(helo: str, spelled: bytes) -> None:
    line = made(Origin("192.0.2.7", 1, helo)).split(b"\r\n")[0]
    assert line == b"Received: from " + spelled + b" ([192.0.2.7])"


def test_nothing_else_does_harm() -> None:
    field = made(Origin("192.0.2.7\r\nX: y", 1, "a", tls="x)\r\nX: y"), Address("a\r\nX: y", "d"))
    assert all(line[:1] in (b"R", b"\t", b"") for line in field.split(b"\r\n"))
    assert return_path(Address("a\r\nX: y", "d")) == b'Return-Path: <"a??X: y"@d>\r\n'
    assert delivered_to(Address("a\nX", "d")).count(b"\n") == 1


def test_a_recipient_that_ascii_cannot_spell_is_left_out() -> None:
    assert b"for" not in made(Origin("192.0.2.7", 1, "a"), Address("ü", "d"))


def test_other_fields() -> None:
    assert return_path(NULL_SENDER) == b"Return-Path: <>\r\n"
    assert return_path(Address("a b", "d")) == b'Return-Path: <"a b"@d>\r\n'
    assert delivered_to(Address("ü", "d")) == "Delivered-To: ü@d\r\n".encode()
    assert message_id(ID, "mail.example.lan") == "<0123456789BCDFGHJ@mail.example.lan>"
    assert date(0) == "Thu, 01 Jan 1970 00:00:00 +0000"


@pytest.mark.parametrize(
    ("data", "end"),
    [(b"", -1), (b"a: b\r\n", -1), (b"\r\nbody", 2), (b"a: b\r\n\r\nbody\r\n\r\n", 8), (b"a: b\n\nbody", -1)],
)
def test_header_end(data: bytes, end: int) -> None:
    assert header_end(data) == end


HEADER = (
    b"Received: one\r\n"
    b"RECEIVED : two\r\n"
    b"X-Received: no\r\n"
    b"Subject: Received: no\r\n"
    b" Received: no\r\n"
    b"received:\r\n three\r\n\tmore \r\n"
    b"\r\n"
)


def test_field_values() -> None:
    assert field_values(HEADER, "Received") == [b"one", b"two", b"three\tmore"]
    assert field_values(HEADER, "subject") == [b"Received: no Received: no"]
    assert field_values(HEADER, "From") == []


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_hops(step: int) -> None:
    scan = HeaderScan()
    data = HEADER + b"Received: in the body\r\n\r\n"
    for start in range(0, len(data), step):
        scan.feed(data[start : start + step])
    assert scan.finished
    assert scan.hops == 3
    assert scan.header == HEADER


@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_message_without_a_header(step: int) -> None:
    scan = HeaderScan()
    data = b"\r\nReceived: body\r\n\r\n"
    for start in range(0, len(data), step):
        scan.feed(data[start : start + step])
    assert (scan.finished, scan.hops, scan.header) == (True, 0, b"\r\n")


def test_an_endless_header() -> None:
    scan = HeaderScan(limit=99)
    scan.feed(b"Received: x\r\n" * 5)
    assert not scan.finished
    scan.feed(b"Received: x\r\n" * 5000)
    assert scan.finished
    assert scan.hops == 7
    assert len(scan.header) == 99


def test_a_big_header_in_small_pieces() -> None:
    # The empty line is looked for where it can be, not from the start with every piece.
    scan = HeaderScan(limit=2_000_000)
    for _ in range(60_000):
        scan.feed(b"Received: 0123456789\r\n")
    assert scan.hops == 60_000


def test_hostile_fields() -> None:
    for data in (b"received" + b" " * 3_000_000, b"received\t" * 300_000, b"received:\r\n " * 300_000):
        field_values(data, "Received")
        scan = HeaderScan(limit=4_000_000)
        scan.feed(data)
        assert scan.hops <= 1

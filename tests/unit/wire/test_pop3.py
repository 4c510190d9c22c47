"""The POP3 grammar."""

import pytest

from mailserver.wire.pop3 import (
    challenge,
    err,
    is_unique_id,
    line_count,
    message_number,
    ok,
    split_command,
)
from mailserver.wire.syntax import BadSyntax


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"STAT", (b"STAT", ())),
        (b"list  2 ", (b"LIST", (b"2",))),
        (b"TOP 1 0", (b"TOP", (b"1", b"0"))),
        (b"USER alice", (b"USER", (b"alice",))),
        (b"pass two  words ", (b"PASS", (b"two  words ",))),
        (b"PASS  x", (b"PASS", (b" x",))),
        (b"PASS", (b"PASS", ())),
        (b"PASS ", (b"PASS", ())),
        (b"APOP alice 0123", (b"APOP", (b"alice 0123",))),
        (b"UTF8", (b"UTF8", ())),
        (b"auth PLAIN =", (b"AUTH", (b"PLAIN =",))),
        (b"", (b"", (b"",))),
        (b" STAT", (b"", (b" STAT",))),
        (b"GET/ x", (b"", (b"GET/ x",))),
        (b"\xc3\x84", (b"", (b"\xc3\x84",))),
    ],
)
def test_commands(line: bytes, command: tuple[bytes, tuple[bytes, ...]]) -> None:
    assert split_command(line) == command


def test_numbers() -> None:
    assert message_number(b"1") == 1
    assert message_number(b"4294967295") == 4294967295
    assert line_count(b"0") == 0


@pytest.mark.parametrize(
    "text", [b"", b"0", b"-1", b"+1", b"1_0", b" 1", b"1\n", b"\xd9\xa1", b"12345678901", b"9" * 1_000_000]
)
def test_no_message_numbers(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        message_number(text)


@pytest.mark.parametrize(
    ("uid", "good"),
    [
        ("a", True),
        ("!" * 70, True),
        ("", False),
        ("x" * 71, False),
        ("a b", False),
        ("ü", False),
        ("a\n", False),
    ],
)
def test_unique_ids(uid: str, good: bool) -> None:
    assert is_unique_id(uid) == good


def test_status_lines() -> None:
    assert ok() == b"+OK\r\n"
    assert ok("2 320") == b"+OK 2 320\r\n"
    assert err("no\r\nsuch\0thing \x9b\u2028\udc80") == b"-ERR no??such?thing ???\r\n"
    assert ok("é") == b"+OK \xc3\xa9\r\n"
    assert err("locked", "IN-USE") == b"-ERR [IN-USE] locked\r\n"
    assert len(err("x" * 1000)) == 512
    assert err("é" * 1000) == b"-ERR " + b"\xc3\xa9" * 252 + b"\r\n"


def test_challenges() -> None:
    assert challenge(b"") == b"+ \r\n"
    assert challenge(b"VXNlcm5hbWU6") == b"+ VXNlcm5hbWU6\r\n"

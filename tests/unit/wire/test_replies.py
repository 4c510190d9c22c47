"""Replies we give, and replies of strangers."""

import pytest

from mailserver.model.reply import GO_AHEAD_354, OK_250, Reply
from mailserver.wire.replies import ReplyReader, enhanced_status, parse_extensions, spell_reply
from mailserver.wire.syntax import BadSyntax


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (OK_250, b"250 2.0.0 Ok\r\n"),
        (GO_AHEAD_354, b"354 End data with <CR><LF>.<CR><LF>\r\n"),
        (Reply(250, "", "host\nSIZE 100\nPIPELINING"), b"250-host\r\n250-SIZE 100\r\n250 PIPELINING\r\n"),
        (Reply(550, "5.1.1", "No\r\nNo\rNever"), b"550-5.1.1 No\r\n550-5.1.1 No\r\n550 5.1.1 Never\r\n"),
        (Reply(250, "", ""), b"250\r\n"),
        (Reply(250, "2.0.0", "a\0b\x1bc ü\x85d\u2028"), b"250 2.0.0 a?b?c ??d?\r\n"),
        (Reply(250, "2.0.0", "x" * 600), b"250 2.0.0 " + b"x" * 500 + b"\r\n"),
    ],
)
def test_spelling(reply: Reply, wire: bytes) -> None:
    assert spell_reply(reply) == wire


def read(data: bytes) -> list[Reply]:
    reader = ReplyReader()
    replies = reader.feed(data)
    assert reader.pending == 0
    return replies


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"250 Ok\r\n", [Reply(250, "", "Ok")]),
        (b"250\r\n", [Reply(250, "", "")]),
        (b"250 \r\n", [Reply(250, "", "")]),
        (b"250 2.1.0 Ok\r\n", [Reply(250, "2.1.0", "Ok")]),
        (b"250 2.1.0\r\n", [Reply(250, "2.1.0", "")]),
        (b"354 go\r\n", [Reply(354, "", "go")]),
        (b"354 2.0.0 go\r\n", [Reply(354, "", "2.0.0 go")]),
        (b"550 4.1.1 odd\r\n", [Reply(550, "", "4.1.1 odd")]),
        (b"550 5.1.1234 odd\r\n", [Reply(550, "", "5.1.1234 odd")]),
        (b"550 5.01.1 odd\r\n", [Reply(550, "", "5.01.1 odd")]),
        (b"550 5.1.1: odd\r\n", [Reply(550, "", "5.1.1: odd")]),
        (b"550-5.1.1 a\r\n550-5.1.1 b\r\n550 5.7.1 c\r\n", [Reply(550, "5.1.1", "a\nb\n5.7.1 c")]),
        (b"220-hello\r\n220\r\n", [Reply(220, "", "hello\n")]),
        (b"250-\r\n250 x\r\n", [Reply(250, "", "\nx")]),
        (b"250 a\r\n550 5.0.0 b\r\n", [Reply(250, "", "a"), Reply(550, "5.0.0", "b")]),
        (b"250 a\tb\x1b[2J\x7f\r\n", [Reply(250, "", "a b [2J")]),
        ("250 ü\x85\u2028x\r\n".encode(), [Reply(250, "", "ü  x")]),
        (b"250 \xff\r\n", [Reply(250, "", "\ufffd")]),
    ],
)
def test_reading(data: bytes, replies: list[Reply]) -> None:
    assert read(data) == replies


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b" 25 x\r\n",
        b"+25 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"250_x\r\n",
        b"\xd9\xa1\xd9\xa1\xd9\xa1 x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n251 b\r\n",
        b"250 a\nb\r\n",
        b"250 " + b"x" * 70_000,
        b"250 " + b"x" * 70_000 + b"\r\n",
        b"250 " + b"x" * 3000 + b"\n",
        b"220-x\r\n" * 101,
    ],
)
def test_no_replies(data: bytes) -> None:
    reader = ReplyReader()
    with pytest.raises(BadSyntax):
        reader.feed(data)
    assert reader.pending
    with pytest.raises(BadSyntax):
        reader.feed(b"250 ok\r\n")


def test_as_many_lines_as_allowed() -> None:
    [reply] = read(b"220-x\r\n" * 99 + b"220 x\r\n")
    assert reply.text.count("\n") == 99


def test_a_reply_before_a_flaw_is_not_lost() -> None:
    # The 250 may be the answer to the final dot: forgetting it would deliver the mail twice.
    reader = ReplyReader()
    assert reader.feed(b"250 taken\r\ngarbage\r\n") == [Reply(250, "", "taken")]
    assert reader.pending
    with pytest.raises(BadSyntax):
        reader.feed(b"")


def test_pending_counts_the_lines_of_an_unfinished_reply() -> None:
    reader = ReplyReader()
    assert reader.feed(b"250-a\r\n25") == []
    assert reader.pending == 9
    reader.clear()
    assert reader.pending == 0
    assert reader.feed(b"221 b\r\n") == [Reply(221, "", "b")]


def test_clear_also_after_a_flaw() -> None:
    reader = ReplyReader()
    with pytest.raises(BadSyntax):
        reader.feed(b"?\r\nrest\r\n")
    reader.clear()
    assert reader.feed(b"220 ok\r\n") == [Reply(220, "", "ok")]


def test_many_replies_in_one_read() -> None:
    assert len(read(b"250 Ok\r\n" * 100_000)) == 100_000


def test_extensions() -> None:
    reply = Reply(
        250, "", "SIZE.example says hello\nSIZE 1000\nauth PLAIN LOGIN\nAUTH=PLAIN\n\nsmtputf8 \nsize 5\n-x"
    )
    assert parse_extensions(reply) == {"SIZE": "1000", "AUTH": "PLAIN LOGIN", "SMTPUTF8": ""}
    assert parse_extensions(Reply(250, "", "host")) == {}


@pytest.mark.parametrize(
    ("code", "reply", "status"),
    [
        (550, Reply(550, "5.1.1", ""), "5.1.1"),
        (550, Reply(550, "", ""), "5.0.0"),
        (451, Reply(451, "", ""), "4.0.0"),
        (250, Reply(250, "", ""), "2.0.0"),
        (354, Reply(354, "", ""), "2.0.0"),
        (450, Reply(550, "5.1.1", ""), "4.0.0"),
    ],
)
def test_enhanced_status(code: int, reply: Reply, status: str) -> None:
    assert enhanced_status(code, reply) == status


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"550 a\rb\r\n", "a b"),
        (b"550 a\0b\r\n", "a b"),
        (b"550 " + b"x" * 3000 + b"\r\n", "x" * 2042),
        (b"550-" + b"x" * 3000 + b"\r\n550 y\r\n", "x" * 2042 + "\ny"),
    ],
)
def test_the_code_counts_whatever_the_text(data: bytes, text: str, size: int) -> None:
    reader = ReplyReader()
    replies = []
    for start in range(0, len(data), size):
        replies += reader.feed(data[start : start + size])
    assert [(reply.code, reply.text) for reply in replies] == [(550, text)]
    assert not reader.pending


def test_an_endless_line_is_pending_and_forgotten_when_cleared() -> None:
    reader = ReplyReader()
    assert reader.feed(b"550 " + b"x" * 5000) == []
    assert reader.pending
    reader.clear()
    assert not reader.pending
    assert [reply.code for reply in reader.feed(b"250 ok\r\n")] == [250]

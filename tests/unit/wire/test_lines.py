"""Command lines: only CRLF ends them, and what is wrong with one is told once."""

import pytest

from mailserver.wire.lines import Flaw, Lines


def all_of(lines: Lines) -> list[bytes | Flaw]:
    found: list[bytes | Flaw] = []
    while (line := lines.next()) is not None:
        found.append(line)
    return found


def read(data: bytes, limit: int = 20) -> list[bytes | Flaw]:
    lines = Lines(limit)
    lines.feed(data)
    return all_of(lines)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"NOOP", []),
        (b"NOOP\r", []),
        (b"NOOP\r\n", [b"NOOP"]),
        (b"\r\n\r\n", [b"", b""]),
        (b"A\r\nB\r\nC", [b"A", b"B"]),
        (b"x" * 18 + b"\r\n", [b"x" * 18]),
        (b"x" * 19 + b"\r\n", [Flaw.TOO_LONG]),
        (b"x" * 19, []),
        (b"x" * 20, [Flaw.TOO_LONG]),
        (b"x" * 500 + b"\r\nNOOP\r\n", [Flaw.TOO_LONG, b"NOOP"]),
        (b"A\nB\r\nNOOP\r\n", [Flaw.BAD_OCTET, b"NOOP"]),
        (b"\nB\nC\nD\r\nNOOP\r\n", [Flaw.BAD_OCTET, b"NOOP"]),
        (b"A\rB\r\nNOOP\r\n", [Flaw.BAD_OCTET, b"NOOP"]),
        (b"A\r\r\nNOOP\r\n", [Flaw.BAD_OCTET, b"NOOP"]),
        (b"A\0\r\nNOOP\r\n", [Flaw.BAD_OCTET, b"NOOP"]),
    ],
)
def test_lines_and_flaws(data: bytes, expected: list[bytes | Flaw]) -> None:
    assert read(data) == expected


def test_a_flaw_is_told_as_soon_as_it_shows_and_only_once() -> None:
    lines = Lines(20)
    lines.feed(b"x" * 30)
    assert all_of(lines) == [Flaw.TOO_LONG]
    for _ in range(3):
        lines.feed(b"MAIL FROM:<a@b>\n")
        assert all_of(lines) == []
    lines.feed(b"\r")
    assert all_of(lines) == []
    lines.feed(b"\nNOOP\r\n")
    assert all_of(lines) == [b"NOOP"]


def test_a_line_that_comes_in_three_pieces_after_another() -> None:
    lines = Lines(20)
    lines.feed(b"A\r\nNO")
    assert all_of(lines) == [b"A"]
    lines.feed(b"OP\r")
    assert all_of(lines) == []
    lines.feed(b"\nC\r\n")
    assert all_of(lines) == [b"NOOP", b"C"]


def test_a_dropped_line_takes_no_memory() -> None:
    lines = Lines(20)
    for _ in range(100):
        lines.feed(b"x" * 1000)
        all_of(lines)
        assert len(lines) <= 20


@pytest.mark.parametrize("bad", [b"x" * 40 + b"\r\n", b"A\nB\r\n", b"A\rB\r\n", b"A\0\r\n"])
def test_the_octets_of_every_flawed_line_are_counted(bad: bytes) -> None:
    lines = Lines(20)
    lines.feed(b"NOOP\r\n" + bad + b"NOOP\r\n" + bad)
    all_of(lines)
    assert lines.dropped == 2 * len(bad)


def test_take_gives_what_is_held_as_it_came() -> None:
    lines = Lines(20)
    lines.feed(b"DATA\r\nbody\nof\0mail\r")
    assert lines.next() == b"DATA"
    assert len(lines) == 13
    assert lines.take() == b"body\nof\0mail\r"
    assert len(lines) == 0
    assert lines.take() == b""


def test_take_so_much() -> None:
    lines = Lines(20)
    lines.feed(b"BDAT 3\r\nabcNOOP\r\nx")
    assert lines.next() == b"BDAT 3"
    assert lines.take(2) == b"ab"
    assert lines.take(1) == b"c"
    lines.feed(b"y")
    assert lines.next() == b"NOOP"
    assert lines.take(3) == b"xy"
    assert len(lines) == 0


def test_clear_forgets_also_that_it_was_dropping() -> None:
    lines = Lines(20)
    lines.feed(b"x" * 30)
    all_of(lines)
    lines.clear()
    lines.feed(b"NOOP\r\n")
    assert all_of(lines) == [b"NOOP"]


def test_many_lines_in_one_read() -> None:
    # Would not end in our lifetime if every line cost what is left of the buffer.
    assert len(read(b"NOOP\r\n" * 300_000)) == 300_000


def test_many_octets_one_by_one_without_a_line_end() -> None:
    lines = Lines(1_000_000)
    for _ in range(200_000):
        lines.feed(b"x")
        assert lines.next() is None

"""Stuffing, the end of data, and what must never be taken for it."""

import pytest

from mailserver.wire.dots import Chunks, Stuffer, Unstuffer, WireForm, stuffed


def unstuff(data: bytes, **options: int) -> tuple[bytes, Unstuffer]:
    unstuffer = Unstuffer(**options)
    return unstuffer.feed(data), unstuffer


@pytest.mark.parametrize(
    ("data", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b".\r\nQUIT\r\n", b"", b"QUIT\r\n"),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...b\r\nc.d\r\n.\r\n", b".a\r\n..b\r\nc.d\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),  # RFC 5321 §4.5.2: the dot goes whatever follows
        (b"a\r\n.b\r\n.\r\nMAIL", b"a\r\nb\r\n", b"MAIL"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n", b""),
        (b"\r\n\r\n\r\n.\r\n", b"\r\n\r\n\r\n", b""),
    ],
)
def test_whole_messages(data: bytes, content: bytes, rest: bytes) -> None:
    got, unstuffer = unstuff(data)
    assert (got, unstuffer.rest) == (content, rest)
    assert unstuffer.finished
    assert not unstuffer.flawed
    assert unstuffer.size == len(content)


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\r\n.\r",
        b"\r\n.\r\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\0\n.\r\n",
        b"\n\n.\n\n",
        b"\r\n.\x85",
        b"\r\n. \r\n",
    ],
)
def test_only_one_thing_ends_the_data(end: bytes) -> None:
    """SMTP smuggling: what follows a false end must stay content, and be refused where it holds a flaw."""
    smuggled = b"MAIL FROM:<ceo@outside.example>\r\n"
    _, unstuffer = unstuff(b"a" + end + smuggled)
    assert not unstuffer.finished
    assert unstuffer.rest == b""
    unstuffer.feed(b"\r\n.\r\nNOOP\r\n")
    assert unstuffer.finished
    assert unstuffer.rest == b"NOOP\r\n"
    assert unstuffer.flawed == (end not in (b"\r\n.\x85", b"\r\n. \r\n"))


@pytest.mark.parametrize(
    "bad", [b"\r", b"\n", b"\0", b"\r\r\n", b"\n\r", b"\n\n\r\r", b"\rx\n", b"\r x\n.\r y\n"]
)
@pytest.mark.parametrize(
    "where", [b"%ba\r\n.\r\n", b"a%bb\r\n.\r\n", b"a%b\r\n.\r\n", b"a\r\nb%bc\r\n\r\n.\r\n"]
)
def test_flaws_anywhere_are_noticed_and_wait_for_the_end(bad: bytes, where: bytes) -> None:
    _, unstuffer = unstuff(where % bad + b"QUIT\r\n")
    assert unstuffer.flawed
    assert unstuffer.finished
    assert unstuffer.rest == b"QUIT\r\n"


def test_what_follows_the_end_is_no_flaw() -> None:
    _, unstuffer = unstuff(b"a\r\n.\r\n\0\r\n\n")
    assert not unstuffer.flawed


def test_a_flawed_message_gives_no_content_but_is_counted() -> None:
    unstuffer = Unstuffer()
    assert unstuffer.feed(b"a\nb\r\n..c\r\n") == b""
    assert unstuffer.feed(b"d\r\n.\r\n") == b""
    assert unstuffer.size == len(b"a\nb\r\n.c\r\nd\r\n")


def test_after_the_end_everything_is_rest() -> None:
    _, unstuffer = unstuff(b".\r\nNO")
    assert unstuffer.feed(b"OP\r\n") == b""
    assert unstuffer.rest == b"NOOP\r\n"


@pytest.mark.parametrize(("length", "flawed"), [(10, False), (11, True)])
@pytest.mark.parametrize("before", [b"", b"x\r\n", b"x\r\n" * 20])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 11, 500])
def test_the_longest_line(length: int, flawed: bool, before: bytes, step: int) -> None:
    unstuffer = Unstuffer(longest_line=10)
    data = before + b"x" * (length - 2) + b"\r\n" + before + b".\r\n"
    for start in range(0, len(data), step):
        unstuffer.feed(data[start : start + step])
    assert unstuffer.finished
    assert unstuffer.flawed == flawed


def test_a_stuffed_dot_does_not_make_a_line_longer() -> None:
    _, unstuffer = unstuff(b".." + b"x" * 7 + b"\r\n.\r\n", longest_line=10)
    assert not unstuffer.flawed


def test_a_line_without_end_is_a_flaw() -> None:
    _, unstuffer = unstuff(b"x" * 11, longest_line=10)
    assert unstuffer.flawed
    assert not unstuffer.finished


def test_no_more_than_four_octets_wait() -> None:
    unstuffer = Unstuffer()
    assert unstuffer.feed(b"abc\r\n.\r") == b"abc"
    assert unstuffer.feed(b"\n") == b"\r\n"
    assert unstuffer.finished


@pytest.mark.parametrize("unit", [b"\r\n", b"\r", b"\r\n.\r", b"\r\n.", b".", b"x\r\n..", b"\r\n\r\n.\r"])
def test_big_hostile_data(unit: bytes) -> None:
    # Quadratic work on megabytes would never end.
    data = unit * (4_000_000 // len(unit))
    unstuffer = Unstuffer()
    for start in range(0, len(data), 65536):
        unstuffer.feed(data[start : start + 65536])
    stuffer = Stuffer()
    assert len(stuffer.feed(data)) >= len(data)


def test_one_big_chunk_of_short_and_long_lines() -> None:
    data = (b"\r\n" * 30_000 + b"x" * 65_534 + b"\r\n") * 40
    content, unstuffer = unstuff(data + b".\r\n")
    assert content == data
    assert not unstuffer.flawed


@pytest.mark.parametrize(
    ("chunks", "wire"),
    [
        ([], b".\r\n"),
        ([b""], b".\r\n"),
        ([b"a\r\n"], b"a\r\n.\r\n"),
        ([b"a"], b"a\r\n.\r\n"),
        ([b"."], b"..\r\n.\r\n"),
        ([b".", b".\r\n"], b"...\r\n.\r\n"),
        ([b"a\r\n", b".\r\n"], b"a\r\n..\r\n.\r\n"),
        ([b"a\r", b"\n", b"", b".", b"b\r\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r\n.", b".\r\n"], b"a\r\n...\r\n.\r\n"),
        ([b"a.b\r\n..c\r\n"], b"a.b\r\n...c\r\n.\r\n"),
    ],
)
def test_stuffing(chunks: list[bytes], wire: bytes) -> None:
    stuffer = Stuffer()
    assert b"".join(map(stuffer.feed, chunks)) + stuffer.finish() == wire
    assert stuffed(b"".join(chunks)) == wire


@pytest.mark.parametrize(
    ("chunks", "wire"),
    [
        ([b""], b""),
        ([b"a\nb\n"], b"a\r\nb\r\n"),
        ([b"a\r\nb\n\n"], b"a\r\nb\r\n\r\n"),
        ([b"a\r", b"\nb\n"], b"a\r\nb\r\n"),
        ([b"a\r", b"", b"\nb\n"], b"a\r\nb\r\n"),
        ([b"a\r", b"b\r", b"\n", b"\n"], b"a\rb\r\n\r\n"),
        ([b"a\r\r\n"], b"a\r\r\n"),
    ],
)
def test_wire_form(chunks: list[bytes], wire: bytes) -> None:
    form = WireForm()
    assert b"".join(map(form.feed, chunks)) == wire


SEGMENTS = [1, 2, 3, 1000]


@pytest.mark.parametrize("size", SEGMENTS)
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b"a\r\nb", b"a\r\nb\r\n"),
        (b"..\r\n.\r\n.\r\n", b"..\r\n.\r\n.\r\n"),
        (b"a\n", None),
        (b"a\rb\r\n", None),
        (b"a\r\n\r", None),
        (b"a\0\r\n", None),
        (b"x" * 31, None),
        (b"x" * 28 + b"\r\n", b"x" * 28 + b"\r\n"),
    ],
)
def test_chunks(data: bytes, content: bytes | None, size: int) -> None:
    chunks = Chunks(longest_line=30)
    got = b"".join(chunks.feed(data[at : at + size]) for at in range(0, len(data), size)) + chunks.finish()
    assert chunks.flawed is (content is None)
    assert content is None or got == content


@pytest.mark.parametrize("size", SEGMENTS)
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"\r\n.\r\n\r", b"\r\n.\r\n\r\n"),
        (b"\n\n\r\r", b"\r\n\r\n\r\n\r\n"),
        (b"a\r\r\n", b"a\r\n\r\n"),
        (b"a\0", None),
    ],
)
def test_mended_chunks(data: bytes, content: bytes | None, size: int) -> None:
    chunks = Chunks(repair=True)
    got = b"".join(chunks.feed(data[at : at + size]) for at in range(0, len(data), size)) + chunks.finish()
    assert chunks.flawed is (content is None)
    assert content is None or got == content


@pytest.mark.parametrize("size", SEGMENTS)
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"a\n.\n", b"a\r\n.\r\n\r\n"),
        (b"a\n.\r\n", b"a\r\n.\r\n"),
        (b"a\r.\r", b"a\r\n.\r\n\r\n"),
        (b"a\r\n.\n", b"a\r\n\r\n\r\n"),
        (b"a\r\n.\r", b"a\r\n\r\n\r\n"),
        (b"a\n..b\r\n..c", b"a\r\n..b\r\n.c\r\n"),
    ],
)
def test_mended_data_ends_as_all_data_does(data: bytes, content: bytes, size: int) -> None:
    data += b"" if data.endswith(b"\r\n") else b"\r\n"
    unstuffer = Unstuffer(repair=True)
    got = b"".join(unstuffer.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert not unstuffer.finished
    got += unstuffer.feed(b".\r\nQUIT\r\n")
    assert (unstuffer.finished, unstuffer.flawed, unstuffer.rest) == (True, False, b"QUIT\r\n")
    assert got == content

"""What TOP sends: the same however the message is cut, and no more than is asked for."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.pop3.excerpt import Excerpt


def simply(message: bytes, lines: int) -> bytes:
    """The same, told plainly."""
    header, separator, body = (b"\r\n" + message).partition(b"\r\n\r\n")
    if not separator:
        return message
    rows = body.split(b"\r\n")
    top = b"\r\n".join(rows[:lines]) + (b"\r\n" if 0 < lines < len(rows) else b"")
    return (header + separator)[2:] + top


texts = st.lists(
    st.sampled_from([b"\r\n", b"\r\n\r\n", b"a", b".", b"x: y\r\n", b"\r", b"long line " * 9])
).map(b"".join)


@given(texts, st.integers(0, 5), st.lists(st.integers(0, 400), max_size=8))
@example(b"\r\nbody\r\n", 0, [])
@example(b"\r\nbody\r\n", 1, [1])
@example(b"a: b\r\n\r\none\r\ntwo", 1, [6, 7, 8])
@example(b"a: b\r\n\r\none", 1, [])
@example(b"a: b", 3, [])
@example(b"", 0, [])
def test_any_cut_gives_the_same(message: bytes, lines: int, cuts: list[int]) -> None:
    excerpt = Excerpt(lines)
    places = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    pieces = [message[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(excerpt.feed(piece) for piece in pieces) == simply(message, lines)


def test_it_says_when_the_rest_need_not_be_read() -> None:
    excerpt = Excerpt(2)
    assert excerpt.feed(b"a: b\r\n\r\n1\r\n") == b"a: b\r\n\r\n1\r\n"
    assert not excerpt.complete
    assert excerpt.feed(b"2\r\n3\r\n") == b"2\r\n"
    assert excerpt.complete
    assert excerpt.feed(b"4\r\n") == b""
    header = Excerpt(0)
    assert header.feed(b"a: b\r\n\r\n" + b"x" * 10**6) == b"a: b\r\n\r\n"
    assert header.complete

"""Mailboxes and POP3, whatever mail holds and whatever clients say."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.incoming import Copy, Incoming, commit
from mailserver.mailboxes.maildir import PARTS, THE_DISK
from mailserver.mailboxes.quota import Limit
from tests.support.dialogue import MemoryWire
from tests.support.postoffice import PostOffice, fill, left_in

NAMES = UniqueNames("mail.example.lan", lambda: 1_700_000_000.0)
LOGIN = b"USER alice\r\nPASS secret\r\n"

contents = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"..", b"text", b"\0", b"\xff", b"x" * 70000])
    | st.binary(max_size=9)
).map(b"".join)
mails = contents.map(lambda content: content.replace(b"\r", b"").replace(b"\n", b"\r\n"))


@contextmanager
def mailbox() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        for part in PARTS:
            (Path(place) / part).mkdir()
        yield Path(place)


def fetched(box: Path) -> tuple[int, bytes]:
    """The size that LIST gives the only message, and what RETR sends, unstuffed."""
    wire = MemoryWire(PostOffice(box).factory.buildProtocol(None))
    wire.send(LOGIN + b"LIST 1\r\n")
    size = int(wire.rest(False).split()[-1])
    wire.send(b"RETR 1\r\n")
    status, _, stuffed = wire.rest(False).partition(b"\r\n")
    assert status == b"+OK %d octets" % size
    assert stuffed == b".\r\n" or stuffed.endswith(b"\r\n.\r\n")
    wire.drop()
    return size, (b"\r\n" + stuffed[:-3]).replace(b"\r\n.", b"\r\n")[2:]


def deliver(box: Path, content: bytes, cuts: list[int] | None) -> None:
    incoming = Incoming([Copy(box, NAMES.make(), Limit())], THE_DISK, content if cuts is None else None)
    if cuts is not None:
        incoming.begin(len(content))
        for start, end in pairwise([0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]):
            incoming.write(content[start:end])
    assert commit([incoming], THE_DISK, lambda path: None) == [[None]]


@given(mails, st.none() | st.lists(st.integers(0, 200), max_size=6))
@example(b"a\r\n", [2])
@example(b"", [])
def test_what_was_delivered_is_what_is_fetched(content: bytes, cuts: list[int] | None) -> None:
    with mailbox() as box:
        deliver(box, content, cuts)
        size, text = fetched(box)
    assert text == (content if not content or content.endswith(b"\r\n") else content + b"\r\n")
    assert size == len(text)


@given(contents)
@example(b"a\r")
@example(b"x" * 65535 + b"\r\n")
@example(b"x" * 65536 + b"\n")
def test_any_file_has_the_size_that_is_sent(content: bytes) -> None:
    with mailbox() as box:
        (box / "new" / "1.foreign").write_bytes(content)
        size, text = fetched(box)
    assert size == len(text)


@given(contents, st.none() | st.lists(st.integers(0, 200), max_size=6))
def test_any_delivery_has_the_size_that_is_sent(content: bytes, cuts: list[int] | None) -> None:
    with mailbox() as box:
        deliver(box, content, cuts)
        size, text = fetched(box)
    assert size == len(text)


words = st.sampled_from(
    [b"STAT", b"LIST", b"UIDL", b"RSET", b"NOOP", b"CAPA", b"FROB", b"", b"\0", b"STLS", b"RETR", b"\xff x"]
) | st.builds(
    lambda verb, number: b"%b %d" % (verb, number),
    st.sampled_from([b"DELE", b"RETR", b"LIST", b"UIDL", b"TOP 1", b"STAT"]),
    st.integers(-1, 5),
)


@given(st.lists(words, max_size=8), st.booleans(), st.lists(st.integers(0, 150), max_size=9))
def test_any_split_gives_the_same_and_only_quit_deletes(
    script: list[bytes], quits: bool, cuts: list[int]
) -> None:
    data = LOGIN + b"".join(word + b"\r\n" for word in script) + (b"QUIT\r\n" if quits else b"")
    answers = []
    for places in ([], cuts):
        with mailbox() as box:
            fill(box)
            office = PostOffice(box)
            wire = MemoryWire(office.factory.buildProtocol(None))
            for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in places), len(data)]):
                wire.send(data[start:end])
            answers.append(wire.rest(False))
            wire.drop()
            assert left_in(box) == expected(script, quits)
            assert office.logouts == len(office.drops) == 1
            assert not office.clock.getDelayedCalls()
    assert answers[0] == answers[1]
    statuses = [line for line in answers[0].split(b"\r\n") if line.startswith((b"+OK", b"-ERR"))]
    assert len(statuses) == 1 + data.count(b"\r\n")


def expected(script: list[bytes], quits: bool) -> str:
    """What is left, by the plainest of models."""
    left, marked = {"1", "2", "3", "4"}, set[str]()
    for word in script:
        if word == b"RSET":
            marked.clear()
        elif word.startswith(b"DELE "):
            marked.add(word.split()[1].decode())
    return ",".join(sorted(left - marked if quits else left))

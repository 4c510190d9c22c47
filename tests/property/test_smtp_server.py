"""The SMTP server under input cut anywhere, hooks of any speed, and clients that send anything.

Any segmentation gives the same replies; every command gets one reply, in order, in every state, however slow
what it waits for; nothing raises, and nothing is held that grows with the input.
"""

from collections.abc import Awaitable, Iterator
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailserver.smtp.reception import Reception
from tests.support.dialogue import Dialogue, MemoryWire, check_stored, load, play, whole
from tests.support.reception import Premises

COMMANDS = [
    b"EHLO client.example",
    b"HELO client.example",
    b"MAIL FROM:<a@elsewhere.example>",
    b"MAIL FROM:<a@elsewhere.example> SIZE=99999",
    b"MAIL FROM:<>",
    b"MAIL FROM:<\xc3\xa9@elsewhere.example>",
    b"RCPT TO:<alice@example.lan>",
    b"RCPT TO:<staff@example.lan>",
    b"RCPT TO:<nobody@example.lan>",
    b"RCPT TO:<x@elsewhere.example>",
    b"RSET",
    b"NOOP",
    b"VRFY alice",
    b"HELP",
    b"MAIL",
    b"RCPT TO:",
    b"",
    b"FOO \xff",
    b"x" * 3000,
    b"NOOP a\0b",
    b"NOOP a\nb",
    b"MAIL FROM:<a@elsewhere.example> RET=HDRS ENVID=x",
    b"RCPT TO:<alice@example.lan> NOTIFY=NEVER ORCPT=rfc822;a",
    b"BDAT 0",
    b"BDAT 0 LAST",
    b"BDAT 0 FIRST",
]
CONTENTS = [
    b"",
    b"text\r\n",
    b"..\r\n",
    b"a\nb\r\n",
    b".\n\r\n",
    b"x" * 5000 + b"\r\n",
    b"\0\r\n",
    b"Received: x\r\n" * 51,
]


def cuts(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut into pieces of these sizes, over and over."""
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position += size
        turn += 1


def conversation(premises: Premises, data: bytes, sizes: list[int]) -> tuple[bytes, list[Any], bool]:
    wire = MemoryWire(premises.factory.buildProtocol(None), premises.client, lambda piece: cuts(piece, sizes))
    wire.send(data)
    replies, closed = wire.transport.value(), wire.is_closed()
    wire.drop()
    assert all(draft.ended for draft in premises.spool.drafts)
    return replies, premises.spool.messages, closed


CHUNKS = [
    b"",
    b"text\r\n",
    b"open",
    b"half\r",
    b"\nother half\r\n",
    b"\r\n.\r\n",
    b"QUIT\r\n",
    b"a\nb",
    b"x" * 5000,
    b"\0",
]


def bdat(text: bytes, word: bytes) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(text), word, text)


chunks = st.builds(bdat, st.sampled_from(CHUNKS), st.sampled_from([b"", b" LAST", b" x"]))
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=8)
scripts = st.lists(
    st.one_of(
        st.sampled_from(COMMANDS).map(lambda line: line + b"\r\n"),
        st.sampled_from(CONTENTS).map(lambda text: b"DATA\r\n" + text + b".\r\n"),
        st.just(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.lan>\r\nDATA\r\ntext\r\n.\r\n"),
        chunks,
        chunks.map(lambda chunk: b"MAIL FROM:<>\r\nRCPT TO:<alice@example.lan>\r\n" + chunk),
        st.just(b"QUIT\r\n"),
    ),
    max_size=25,
).map(b"".join)


@given(scripts, sizes)
@settings(max_examples=300)
def test_any_segmentation_gives_the_same_replies(script: bytes, sizes: list[int]) -> None:
    assert conversation(Premises(), script, sizes) == conversation(Premises(), script, [len(script) or 1])


@given(st.sampled_from(load("smtp")), sizes)
@settings(max_examples=150)
def test_any_segmentation_of_the_dialogues(dialogue: Dialogue, sizes: list[int]) -> None:
    premises = Premises(dialogue.settings)
    if any(len(step.data) > 20_000 for step in dialogue.steps):
        sizes = [size * 1000 for size in sizes]
    cut = (lambda piece: cuts(piece, sizes)) if sizes else whole
    wire = MemoryWire(premises.factory.buildProtocol(None), premises.client, cut)
    play(dialogue, wire)
    wire.drop()
    check_stored(
        dialogue,
        [
            (str(envelope.sender), [str(one.address) for one in envelope.recipients], content)
            for envelope, content in premises.spool.messages
        ],
    )


@given(st.binary(max_size=3000), sizes)
@settings(max_examples=200)
def test_no_input_raises(data: bytes, sizes: list[int]) -> None:
    prefix = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.lan>\r\n"
    for before in (b"", prefix, prefix + b"DATA\r\n", prefix + b"BDAT 1000\r\n", prefix + b"BDAT 0\r\n"):
        conversation(Premises(), before + data, sizes)


def codes(data: bytes) -> list[int]:
    return [int(line[:3]) for line in data.split(b"\r\n") if line[3:4] == b" "]


commands = st.sampled_from([line + b"\r\n" for line in COMMANDS if line])


@given(st.lists(st.one_of(commands, chunks), max_size=40), sizes)
@settings(max_examples=150)
def test_one_reply_for_each_command(lines: list[bytes], sizes: list[int]) -> None:
    replies, _, closed = conversation(Premises(), b"".join(lines), sizes)
    found = codes(replies)[1:]
    if closed:
        assert found.pop() == 421
        assert len(found) <= len(lines)
    else:
        assert len(found) == len(lines)


class Slowness:
    """Makes hooks wait, or not, as drawn; lets them go on in the order in which they began to wait."""

    def __init__(self, draws: list[bool]) -> None:
        self._draws = draws
        self._turn = 0
        self.waiting: list[Deferred[None]] = []

    def wrap(self, name: str) -> Any:
        hook = getattr(Reception, name)

        def slow(reception: Reception, *arguments: Any) -> Awaitable[None] | None:
            self._turn += 1
            if not self._draws[self._turn % len(self._draws)]:
                return hook(reception, *arguments)
            waiter: Deferred[None] = Deferred()
            self.waiting.append(waiter)
            return waiter.addCallback(lambda _: hook(reception, *arguments))

        return patch.object(Reception, name, slow)

    def go_on(self, premises: Premises) -> None:
        while self.waiting or premises.spool.committing.waiting or premises.spool.writing.waiting:
            assert len(self.waiting) + len(premises.spool.committing.waiting) <= 1, "two commands at once"
            if self.waiting:
                self.waiting.pop().callback(None)
            premises.spool.committing.let()
            premises.spool.writing.let()


@given(scripts, sizes, st.lists(st.booleans(), min_size=1, max_size=6), st.booleans())
@settings(max_examples=200)
def test_slow_hooks_change_nothing(script: bytes, sizes: list[int], draws: list[bool], lazy: bool) -> None:
    expected = conversation(Premises(), script, [len(script) or 1])
    premises, slowness = Premises(), Slowness(draws)
    if draws[0]:
        premises.spool.committing.shut()
    if draws[-1]:
        premises.spool.writing.shut()
    with slowness.wrap("validateFrom"), slowness.wrap("validateTo"):
        wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
        for piece in cuts(script, sizes):
            wire.send(piece)
            if not lazy:
                slowness.go_on(premises)
        slowness.go_on(premises)
    replies, closed = wire.transport.value(), wire.is_closed()
    wire.drop()
    assert (replies, premises.spool.messages, closed) == expected


@given(sizes)
@settings(max_examples=10)
def test_two_hundred_messages_pipelined(sizes: list[int]) -> None:
    one = b"MAIL FROM:<s%d@x.example>\r\nRCPT TO:<alice@example.lan>\r\nDATA\r\ntext %d\r\n.\r\n"
    script = b"EHLO c\r\n" + b"".join(one % (number, number) for number in range(200)) + b"QUIT\r\n"
    replies, messages, closed = conversation(Premises(), script, sizes)
    assert codes(replies) == [220, 250, *[250, 250, 354, 250] * 200, 221]
    assert [str(envelope.sender) for envelope, _ in messages] == [
        f"s{number}@x.example" for number in range(200)
    ]
    assert closed

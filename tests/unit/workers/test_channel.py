"""Messages between processes: in order, many to a frame, and bounded."""

import marshal
import struct

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailserver.workers import channel as channel_module
from mailserver.workers.channel import Channel


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def connected() -> tuple[Clock, Channel, Transport]:
    clock, transport = Clock(), Transport()
    channel = Channel(clock)
    channel.makeConnection(transport)
    return clock, channel, transport


def frame(*messages: object) -> bytes:
    said = marshal.dumps(list(map(list, messages)))
    return struct.pack("!I", len(said)) + said


def frames(octets: bytes) -> list[object]:
    """What stands in frames."""
    found = []
    while octets:
        (length,) = struct.unpack("!I", octets[:4])
        found.append(marshal.loads(octets[4 : 4 + length]))
        octets = octets[4 + length :]
    return found


def test_what_is_said_in_one_turn_is_one_frame() -> None:
    clock, channel, transport = connected()
    channel.say("pulse")
    channel.say("news", "rates", [1, "ü", b"\0"])
    assert transport.value() == b""
    clock.advance(0)
    assert frames(transport.value()) == frames(frame(["pulse"], ["news", "rates", [1, "ü", b"\0"]]))
    assert not clock.getDelayedCalls()


def test_a_mention_waits_for_what_is_said_next_or_for_a_moment() -> None:
    clock, channel, transport = connected()
    channel.mention("log", 1)
    channel.mention("log", 2)
    clock.advance(0)
    assert transport.value() == b""
    channel.say("news", 3)
    clock.advance(0)
    assert frames(transport.value()) == frames(frame(["log", 1], ["log", 2], ["news", 3]))
    clock.advance(0.01)
    transport.clear()
    channel.mention("log", 4)
    clock.advance(0.009)
    assert transport.value() == b""
    clock.advance(0.001)
    assert frames(transport.value()) == frames(frame(["log", 4]))
    assert not clock.getDelayedCalls()


def test_a_mention_waits_for_a_side_that_reads_again() -> None:
    clock, channel, transport = connected()
    channel.mention("log", 1)
    channel.pauseProducing()
    channel.mention("log", 2)
    clock.advance(1)
    assert transport.value() == b""
    channel.resumeProducing()
    assert frames(transport.value()) == frames(frame(["log", 1], ["log", 2]))
    assert not clock.getDelayedCalls()


def test_what_was_mentioned_is_said_before_the_end() -> None:
    clock, channel, transport = connected()
    channel.mention("log", 1)
    channel.finish()
    assert frames(transport.value()) == frames(frame(["log", 1]))
    assert not clock.getDelayedCalls()


def test_nothing_is_left_to_be_said_when_the_other_side_is_gone() -> None:
    clock, channel, _ = connected()
    channel.mention("log", 1)
    channel.connectionLost()
    channel.mention("log", 2)
    assert not clock.getDelayedCalls()


def test_what_is_said_before_there_is_a_connection_waits_for_it() -> None:
    clock, transport = Clock(), Transport()
    channel = Channel(clock)
    channel.say("begin", {})
    channel.makeConnection(transport)
    assert frames(transport.value()) == frames(frame(["begin", {}]))


def test_what_is_heard_is_done_in_order_however_it_is_cut() -> None:
    _, channel, _ = connected()
    heard = []
    channel.heard = {"one": lambda n: heard.append(n), "none": lambda: heard.append(None)}
    for octet in frame(["one", 1], ["none"]) + frame(["one", 2]):
        channel.dataReceived(bytes([octet]))
    assert heard == [1, None, 2]


@pytest.mark.parametrize(
    "said",
    [
        frame(["unheard of"]),
        frame(["one", 1, 2]),
        struct.pack("!I", 5) + marshal.dumps(3),
        b"\0\0\0\1{",
        b"\xff\xff\xff\xff",
    ],
)
def test_nonsense_ends_it(said: bytes, request: pytest.FixtureRequest) -> None:
    from twisted.logger import globalLogPublisher

    events: list[object] = []
    globalLogPublisher.addObserver(events.append)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(events.append))
    _, channel, transport = connected()
    heard: list[int] = []
    channel.heard = {"one": heard.append}
    channel.dataReceived(said + frame(["one", 1]))
    assert transport.aborted
    assert heard == []


def test_what_cannot_be_said_ends_it(request: pytest.FixtureRequest) -> None:
    from twisted.logger import globalLogPublisher

    events: list[object] = []
    globalLogPublisher.addObserver(events.append)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(events.append))
    clock, channel, transport = connected()
    channel.say("news", object())
    clock.advance(0)
    assert transport.aborted
    assert transport.value() == b""
    assert events


def test_a_side_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MOST_WAITING", 10)
    monkeypatch.setattr(channel_module, "_SLOW", 5)
    clock, channel, transport = connected()
    channel.pauseProducing()
    for n in range(5):
        assert not channel.is_slow
        channel.say("news", n)
    assert channel.is_slow
    assert not transport.aborted
    for n in range(5):
        channel.say("news", n)
    assert transport.aborted
    assert transport.value() == b""
    assert not clock.getDelayedCalls()


def test_much_in_one_turn_is_no_side_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MOST_WAITING", 10)
    clock, channel, transport = connected()
    for n in range(25):
        channel.mention("news", n)
    clock.advance(0.01)
    assert not transport.aborted
    assert frames(transport.value()) == frames(frame(*(["news", n] for n in range(25))))


def test_a_side_that_reads_again_gets_all_in_order() -> None:
    clock, channel, transport = connected()
    channel.pauseProducing()
    channel.say("a")
    clock.advance(1)
    channel.say("b")
    assert transport.value() == b""
    channel.resumeProducing()
    assert frames(transport.value()) == frames(frame(["a"], ["b"]))


def test_finish_says_what_waits_then_closes() -> None:
    _, channel, transport = connected()
    channel.say("last")
    channel.finish()
    assert frames(transport.value()) == frames(frame(["last"]))
    assert transport.disconnecting


def test_finish_waits_for_a_slow_side() -> None:
    _, channel, transport = connected()
    channel.pauseProducing()
    channel.say("last")
    channel.finish()
    assert not transport.disconnecting
    channel.resumeProducing()
    assert frames(transport.value()) == frames(frame(["last"]))
    assert transport.disconnecting


def test_the_end_is_told_and_nothing_is_said_any_more() -> None:
    from twisted.internet.protocol import connectionDone

    clock, channel, transport = connected()
    ended = []
    channel.closed = lambda: ended.append(True)
    channel.say("lost")
    channel.connectionLost(connectionDone)
    channel.say("lost")
    clock.advance(1)
    assert ended == [True]
    assert channel.is_gone
    assert transport.value() == b""

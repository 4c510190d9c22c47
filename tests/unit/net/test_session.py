"""The session mixin: order, bounds and deadlines, on a protocol small enough to see through."""

import contextlib
import socket
import struct
from collections.abc import Awaitable
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from mailserver.net.direct import Direct
from mailserver.net.session import Bounds, Peer, Session, SessionFactory, peer_of
from mailserver.wire.lines import Flaw


class Transport(StringTransport):
    """Counts writes, and can pretend to do TLS."""

    writes = 0
    context: object = None
    aborted = False

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def startTLS(self, context: object) -> None:
        self.context = context
        alsoProvides(self, ISSLTransport)

    def abortConnection(self) -> None:
        self.aborted = True

    def getHandle(self) -> "Transport":
        return self

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"


@implementer(IHalfCloseableProtocol)
class Parrot(Session, Protocol):
    """Repeats each line; knows a few commands that wait, fail, send, close and take raw input."""

    def connectionMade(self) -> None:
        self.slow: list[Deferred[None]] = []
        self.lost: list[Failure] = []
        self.cancelled = self.failed = 0
        self.raw = b""
        self.beginSession()

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        method = getattr(self, "on_" + line.decode("ascii").partition(" ")[0], None)
        if method is not None:
            return method()
        self.reply(line + b"\r\n")
        return None

    def flawReceived(self, flaw: Flaw) -> None:
        self.reply(b"flaw: " + flaw.name.encode() + b"\r\n")

    def rawReceived(self, data: bytes) -> Awaitable[None] | None:
        content, dot, rest = data.partition(b".")
        self.raw += content
        if dot:
            return self.on_slow_end(rest)
        return None

    def commandFailed(self) -> None:
        self.failed += 1
        self.reply(b"failed\r\n")

    def sessionTimedOut(self, why: str) -> None:
        self.reply(why.encode() + b"\r\n")

    def sessionStopping(self) -> None:
        self.reply(b"stopping\r\n")

    def sessionLost(self, reason: Failure) -> None:
        self.lost.append(reason)

    async def on_slow(self) -> None:
        waiter: Deferred[None] = Deferred()
        self.slow.append(waiter)
        try:
            await waiter
        except CancelledError:
            self.cancelled += 1
            raise
        self.reply(b"done\r\n")

    async def on_async(self) -> None:
        self.reply(b"at once\r\n")

    def on_lasting(self) -> Awaitable[None]:
        self.outlastPeer()
        return self.on_slow()

    def on_deferred(self) -> "Deferred[None]":
        waiter: Deferred[None] = Deferred()
        self.slow.append(waiter)
        return waiter

    async def on_slow_end(self, rest: bytes) -> None:
        await self.on_deferred()
        self.endRaw(rest)

    def on_raw(self) -> None:
        self.beginRaw()

    def on_bug(self) -> None:
        raise ZeroDivisionError

    async def on_slowbug(self) -> None:
        await self.on_deferred()
        raise ZeroDivisionError

    def on_close(self) -> None:
        self.reply(b"bye\r\n")
        self.closeSession()

    def on_tls(self) -> None:
        self.startSessionTLS("context", b"go\r\n")

    async def on_bulk(self) -> None:
        await self.send(b"a" * 10)
        await self.send(b"b" * 10)


class ParrotFactory(SessionFactory):
    protocol = Parrot


class SessionCase(SynchronousTestCase):
    bounds = Bounds(line=64, pending=100, dropped=1000, idle=10, handshake=5, session=100, grace=3)

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = ParrotFactory(self.bounds, self.clock)
        self.session, self.transport = self.connect()

    def connect(self) -> tuple[Parrot, Transport]:
        session = Parrot()
        session.factory = self.factory
        transport = Transport()
        session.makeConnection(transport)
        return session, transport

    def say(self, data: bytes) -> bytes:
        self.transport.clear()
        self.session.dataReceived(data)
        return self.transport.value()

    def lose(self, reason: type[Exception] = ConnectionDone) -> None:
        self.session.connectionLost(Failure(reason()))


class OrderTests(SessionCase):
    def test_interfaces(self) -> None:
        assert verifyObject(IPushProducer, self.session)
        assert verifyObject(IHandshakeListener, self.session)
        assert verifyObject(IHalfCloseableProtocol, self.session)

    def test_replies_of_a_batch_leave_in_one_write(self) -> None:
        assert self.say(b"a\r\nb\r\nc\r\n") == b"a\r\nb\r\nc\r\n"
        assert self.transport.writes == 1

    def test_a_command_is_finished_before_the_next(self) -> None:
        assert self.say(b"a\r\nslow\r\nb\r\nslow\r\nc\r\n") == b"a\r\n"
        assert len(self.session.slow) == 1
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"a\r\ndone\r\nb\r\n"
        self.session.slow[1].callback(None)
        assert self.transport.value() == b"a\r\ndone\r\nb\r\ndone\r\nc\r\n"

    def test_the_replies_behind_a_slow_command_leave_with_its_own(self) -> None:
        self.say(b"slow\r\na\r\nb\r\n")
        before = self.transport.writes
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"done\r\na\r\nb\r\n"
        assert self.transport.writes == before + 1

    def test_a_deferred_is_waited_for_too(self) -> None:
        assert self.say(b"deferred\r\nb\r\n") == b""
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"b\r\n"

    def test_a_bug_is_logged_and_answered(self) -> None:
        assert self.say(b"bug\r\nb\r\n") == b"failed\r\nb\r\n"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_a_bug_behind_an_await_is_logged_and_answered(self) -> None:
        assert self.say(b"slowbug\r\nb\r\n") == b""
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"failed\r\nb\r\n"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_a_command_that_need_not_wait_leaves_nothing_to_cancel(self) -> None:
        assert self.say(b"async\r\n") == b"at once\r\n"
        assert self.session._running is None

    def test_flaws_keep_their_place(self) -> None:
        assert self.say(b"a\r\n" + b"x" * 100 + b"\r\nb\nc\r\nd\r\n") == (
            b"a\r\nflaw: TOO_LONG\r\nflaw: BAD_OCTET\r\nd\r\n"
        )

    def test_nothing_behind_a_close_is_looked_at(self) -> None:
        assert self.say(b"close\r\na\r\n") == b"bye\r\n"
        assert self.transport.disconnecting
        assert self.say(b"b\r\n") == b""
        assert not self.session.isOpen

    def test_raw_input_and_what_comes_behind_it(self) -> None:
        assert self.say(b"raw\r\nab") == b""
        self.session.dataReceived(b"c\r\nd")
        assert self.session.raw == b"abc\r\nd"

    def test_what_came_while_raw_input_was_waited_for_stands_behind_its_rest(self) -> None:
        self.say(b"raw\r\nabc.fir")
        self.session.dataReceived(b"st\r\nsecond\r\n")
        assert self.transport.value() == b""
        self.session.slow[0].callback(None)
        assert self.session.raw == b"abc"
        assert self.transport.value() == b"first\r\nsecond\r\n"


class MemoryTests(SessionCase):
    def test_reading_pauses_while_too_much_waits_for_a_slow_command(self) -> None:
        self.say(b"slow\r\n" + b"a\r\n" * 30)
        assert self.transport.producerState == "producing"
        self.session.dataReceived(b"a\r\n" * 10)
        assert self.transport.producerState == "paused"
        self.session.slow[0].callback(None)
        assert self.transport.producerState == "producing"
        assert self.transport.value().count(b"a\r\n") == 40

    def test_commands_stop_while_the_peer_does_not_read(self) -> None:
        self.session.pauseProducing()
        assert self.say(b"a\r\nb\r\n") == b""
        assert self.transport.producerState == "paused"
        self.session.resumeProducing()
        assert self.transport.value() == b"a\r\nb\r\n"
        assert self.transport.producerState == "producing"

    def test_a_flood_of_small_commands_blocks_after_few_replies(self) -> None:
        # What a TCP transport does when its buffer is full.
        def write(data: bytes) -> None:
            written.append(data)
            self.session.pauseProducing()

        written: list[bytes] = []
        self.transport.write = write  # type: ignore[method-assign]
        self.session.dataReceived(b"0123456789\r\n" * 100_000)
        assert len(written) == 1
        assert len(written[0]) < 20_000

    def test_an_endless_line_ends_the_session(self) -> None:
        for _ in range(20):
            self.session.dataReceived(b"x" * 100)
        assert self.transport.value() == b"flaw: TOO_LONG\r\nflood\r\n"
        assert self.transport.disconnecting
        assert len(self.session._lines) == 0

    def test_bad_lines_end_the_session_whatever_their_flaw(self) -> None:
        self.say(b"a\0b\r\n" * 300)
        assert self.transport.disconnecting
        assert self.transport.value().endswith(b"flood\r\n")

    def test_bulk_waits_for_the_peer(self) -> None:
        self.session.pauseProducing()
        self.session._blocked = False
        self.say(b"bulk\r\na\r\n")
        assert self.transport.value() == b"a" * 10 + b"b" * 10 + b"a\r\n"

    def test_bulk_waits_while_blocked(self) -> None:
        transport_write = self.transport.write

        def write(data: bytes) -> None:
            transport_write(data)
            self.session.pauseProducing()

        self.transport.write = write  # type: ignore[method-assign]
        self.say(b"bulk\r\n")
        assert self.transport.value() == b"a" * 10
        self.session.resumeProducing()
        assert self.transport.value() == b"a" * 10 + b"b" * 10

    def test_bulk_ends_with_the_connection(self) -> None:
        transport_write = self.transport.write

        def write(data: bytes) -> None:
            transport_write(data)
            self.session.pauseProducing()

        self.transport.write = write  # type: ignore[method-assign]
        self.say(b"bulk\r\n")
        self.lose(ConnectionLost)
        # A connection that is lost is nobody's bug.
        assert not self.flushLoggedErrors()


class DeadlineTests(SessionCase):
    def test_idle(self) -> None:
        self.clock.advance(9)
        self.say(b"a\r\n")
        self.clock.advance(9)
        assert not self.transport.disconnecting
        self.transport.clear()
        self.clock.advance(2)
        assert self.transport.value() == b"idle\r\n"
        assert self.transport.disconnecting

    def test_a_slow_command_of_ours_is_not_the_peers_idleness(self) -> None:
        self.say(b"slow\r\n")
        self.clock.pump([5] * 10)
        assert not self.transport.disconnecting
        self.session.slow[0].callback(None)
        self.clock.advance(9)
        assert not self.transport.disconnecting
        self.clock.advance(2)
        assert self.transport.disconnecting

    def test_a_peer_that_does_not_read_is_aborted(self) -> None:
        self.session.pauseProducing()
        self.clock.pump([1] * 11)
        assert self.transport.aborted
        assert self.transport.value() == b""

    def test_a_lively_session_ends_all_the_same(self) -> None:
        for _ in range(12):
            self.session.dataReceived(b"a\r\n")
            self.clock.advance(9)
        assert self.transport.disconnecting
        assert self.transport.value().endswith(b"idle\r\n")

    def test_a_phase_has_a_deadline_of_its_own(self) -> None:
        self.session.setPhase(20)
        self.clock.pump([5, 0])
        self.say(b"a\r\n")
        self.clock.pump([5, 0])
        self.say(b"a\r\n")
        self.clock.pump([9])
        assert not self.transport.disconnecting
        self.say(b"a\r\n")
        self.clock.pump([1.5])
        assert self.transport.disconnecting

    def test_a_phase_that_ended_does_not_matter(self) -> None:
        self.session.setPhase(2)
        self.session.setPhase(None)
        self.clock.advance(5)
        assert not self.transport.disconnecting

    def test_a_short_phase_is_seen_in_time(self) -> None:
        self.session.setPhase(2)
        self.clock.advance(2.5)
        assert self.transport.disconnecting

    def test_a_close_that_is_not_answered_becomes_an_abort(self) -> None:
        self.say(b"close\r\n")
        self.clock.advance(2)
        assert not self.transport.aborted
        self.clock.advance(1.5)
        assert self.transport.aborted

    def test_no_timer_outlives_the_session(self) -> None:
        self.say(b"close\r\n")
        self.lose()
        assert self.clock.getDelayedCalls() == []

    def test_a_transport_that_closes_at_once_leaves_no_timer(self) -> None:
        self.transport.loseConnection = self.lose  # type: ignore[method-assign]
        self.say(b"close\r\n")
        assert self.clock.getDelayedCalls() == []

    def test_commands_do_not_touch_timers(self) -> None:
        before = self.clock.getDelayedCalls()
        self.say(b"a\r\n" * 10)
        assert self.clock.getDelayedCalls() == before


class TLSTests(SessionCase):
    def test_upgrade(self) -> None:
        assert self.say(b"tls\r\n") == b"go\r\n"
        assert self.transport.context == "context"
        self.session.handshakeCompleted()
        assert self.session.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384"
        assert self.say(b"a\r\n") == b"a\r\n"

    def test_anything_behind_the_command_closes(self) -> None:
        for behind in (b"RSET\r\n", b"RSE", b"\n"):
            self.session, self.transport = self.connect()
            assert self.say(b"tls\r\n" + behind) == b""
            assert self.transport.context is None
            assert self.transport.disconnecting

    def test_a_stalled_handshake_is_aborted_without_words(self) -> None:
        self.say(b"tls\r\n")
        self.clock.advance(5.5)
        assert self.transport.aborted
        assert self.transport.value() == b"go\r\n"

    def test_a_finished_handshake_has_the_usual_time(self) -> None:
        self.say(b"tls\r\n")
        self.session.handshakeCompleted()
        self.clock.advance(6)
        assert not self.transport.aborted

    def test_implicit_tls_has_the_deadline_from_the_first_moment(self) -> None:
        session = Parrot()
        session.factory = self.factory
        transport = Transport()
        alsoProvides(transport, ISSLTransport)
        session.makeConnection(transport)
        self.clock.advance(5.5)
        assert transport.aborted


class EndTests(SessionCase):
    def test_a_command_under_way_is_cancelled(self) -> None:
        self.say(b"slow\r\nb\r\n")
        self.lose()
        assert self.session.cancelled == 1
        assert self.transport.value() == b""
        assert len(self.session.lost) == 1
        assert self.session not in self.factory.sessions

    def test_one_that_is_to_outlast_the_peer_is_not(self) -> None:
        self.say(b"lasting\r\n")
        self.lose()
        assert self.session.cancelled == 0
        self.session.slow[0].callback(None)
        assert self.transport.value() == b""

    def test_the_one_after_it_is(self) -> None:
        self.say(b"lasting\r\nslow\r\n")
        self.session.slow[0].callback(None)
        self.lose()
        assert self.session.cancelled == 1

    def test_half_close_gets_all_replies(self) -> None:
        self.say(b"slow\r\nb\r\n")
        self.session.readConnectionLost()
        assert not self.transport.disconnecting
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"done\r\nb\r\n"
        assert self.transport.disconnecting

    def test_half_close_of_an_idle_session_closes(self) -> None:
        self.session.readConnectionLost()
        assert self.transport.disconnecting

    def test_a_peer_that_stops_reading_for_good_is_gone(self) -> None:
        self.session.writeConnectionLost()
        assert self.transport.aborted

    def test_drain_ends_an_idle_session_at_once(self) -> None:
        self.session.drainSession()
        assert self.transport.value() == b"stopping\r\n"
        assert self.transport.disconnecting

    def test_drain_lets_the_command_under_way_finish(self) -> None:
        self.say(b"slow\r\nb\r\n")
        self.session.drainSession()
        assert not self.transport.disconnecting
        self.session.slow[0].callback(None)
        assert self.transport.value() == b"done\r\nstopping\r\n"
        assert self.transport.disconnecting

    def test_the_factory_drains_all(self) -> None:
        other, _ = self.connect()
        drained = Deferred.fromCoroutine(self.factory.drain())
        self.lose()
        self.assertNoResult(drained)
        other.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(drained)

    def test_draining_nobody_is_immediate(self) -> None:
        self.lose()
        self.successResultOf(Deferred.fromCoroutine(self.factory.drain()))


class LimitedRawTests(SessionCase):
    def begin(self, octets: int) -> None:
        self.pieces: list[bytes] = []
        self.session.rawReceived = self.pieces.append  # type: ignore[method-assign, assignment]
        self.session.on_raw = lambda: self.session.beginRaw(octets)  # type: ignore[method-assign]

    def test_lines_begin_again_by_themselves(self) -> None:
        self.begin(5)
        assert self.say(b"a\r\nraw\r\nab") == b"a\r\n"
        assert self.session.isRaw
        assert self.say(b"cdeb\r\nraw\r\n12345c\r\n") == b"b\r\nc\r\n"
        assert not self.session.isRaw
        assert self.pieces == [b"ab", b"cde", b"12345"]

    def test_many_small_pieces_are_linear(self) -> None:
        # Quadratic, this would not end.
        self.begin(1)
        self.say(b"raw\r\nx" * 100_000)
        assert len(self.pieces) == 100_000


class OnSockets(TestCase):
    """Sessions on real sockets."""

    timeout = 30

    def setUp(self) -> None:
        bounds = Bounds(line=64, pending=100, dropped=100_000, idle=10, handshake=5, session=100, grace=3)
        self.factory = ParrotFactory(bounds, reactor)
        self.port: Any = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)


class LingeringTests(OnSockets):
    """A close while the client sends must not become a reset that eats the last reply."""

    async def converse(self, *segments: bytes) -> bytes:
        def story() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port.getHost().port), 10) as client:
                for segment in segments:
                    client.sendall(segment)
                received = b""
                while data := client.recv(65536):
                    received += data
            return received

        received = await deferToThread(story)
        while self.factory.sessions:
            await deferLater(reactor, 0.001)
        return received

    def test_the_last_reply_arrives(self) -> "Deferred[None]":
        async def play() -> None:
            for _ in range(20):
                assert await self.converse(b"close\r\n", *[b"x" * 65536] * 50) == b"bye\r\n"
            # A flood is one, too.
            assert await self.converse(b"a\r\n", *[b"x" * 65536] * 50) == b"a\r\nflaw: TOO_LONG\r\nflood\r\n"

        return Deferred.fromCoroutine(play())

    def test_a_client_that_goes_on_is_cut_off(self) -> "Deferred[None]":
        self.factory.bounds = evolve(self.factory.bounds, grace=0.2)

        def story() -> None:
            with socket.create_connection(("127.0.0.1", self.port.getHost().port), 10) as client:
                client.sendall(b"close\r\n")
                with contextlib.suppress(ConnectionError):
                    while True:
                        client.sendall(b"x" * 1000)

        async def play() -> None:
            await deferToThread(story)
            while self.factory.sessions:
                await deferLater(reactor, 0.001)

        return Deferred.fromCoroutine(play())


class AtOnceTests(OnSockets):
    """Replies go to the socket itself, and behind what the transport still has."""

    async def meet(self) -> tuple[socket.socket, Parrot, list[int]]:
        """A client, its session, and the sizes of what the session gives to the transport."""
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port.getHost().port))
        while not self.factory.sessions:
            await deferLater(reactor, 0.001)
        (session,) = self.factory.sessions
        written: list[int] = []
        write = session.transport.write
        session.transport.write = lambda data: (written.append(len(data)), write(data))
        return client, session, written

    async def leave(self, client: socket.socket) -> None:
        client.close()
        while self.factory.sessions:
            await deferLater(reactor, 0.001)

    def test_a_reply_takes_no_turn_of_the_reactor(self) -> "Deferred[None]":
        async def play() -> None:
            client, session, written = await self.meet()
            session.dataReceived(b"a\r\n")
            assert client.recv(100) == b"a\r\n"
            assert written == []
            assert session.transport not in reactor.getWriters()
            await self.leave(client)

        return Deferred.fromCoroutine(play())

    def test_order_when_the_socket_is_full_and_again_when_it_is_not(self) -> "Deferred[None]":
        async def play() -> None:
            client, session, written = await self.meet()
            session.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            lines = [b"%058d\r\n" % number for number in range(2000)]
            for start in range(0, len(lines), 500):
                session.dataReceived(b"".join(lines[start : start + 500]))
            assert written, "the socket took everything"
            expected, received = b"".join(lines), b""
            while len(received) < len(expected):
                received += await deferToThread(client.recv, 65536)
            assert received == expected
            written.clear()
            await deferLater(reactor, 0)
            session.dataReceived(b"again\r\n")
            assert await deferToThread(client.recv, 100) == b"again\r\n"
            assert written == []
            await self.leave(client)

        return Deferred.fromCoroutine(play())

    def test_one_peer_does_not_keep_the_reactor(self) -> "Deferred[None]":
        async def play() -> None:
            client, session, written = await self.meet()
            sent: list[int] = []

            class Bottomless(socket.socket):
                def send(self, data: bytes) -> int:
                    sent.append(len(data))
                    return len(data)

            bottomless = Bottomless()
            self.addCleanup(bottomless.close)
            session._direct = Direct(session.transport, bottomless)
            session.dataReceived(b"x" * 60 + b"\r\n" + (b"y" * 60 + b"\r\n") * 4000)
            assert sum(sent) <= 64 * 1024 < sum(sent) + sum(written)
            await self.leave(client)

        return Deferred.fromCoroutine(play())

    def test_the_answer_to_each_piece_of_input_goes_to_the_socket(self) -> "Deferred[None]":
        async def play() -> None:
            client, session, written = await self.meet()
            for number in range(5):
                line = b"%032d\r\n" % number * 1200
                received = deferToThread(receive, client, len(line))
                session.dataReceived(line)
                assert await received == line
            assert written == []
            await self.leave(client)

        def receive(client: socket.socket, octets: int) -> bytes:
            received = b""
            while len(received) < octets:
                received += client.recv(65536)
            return received

        return Deferred.fromCoroutine(play())

    def test_a_broken_socket_is_the_transports_to_notice(self) -> "Deferred[None]":
        async def play() -> None:
            client, session, _ = await self.meet()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            session.dataReceived(b"a\r\n")
            while self.factory.sessions:
                await deferLater(reactor, 0.001)
            assert session.lost

        return Deferred.fromCoroutine(play())


class PeerTests(SynchronousTestCase):
    def test_peers(self) -> None:
        for address, peer in (
            (IPv4Address("TCP", "192.0.2.1", 25), Peer("192.0.2.1", 25)),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 25), Peer("192.0.2.1", 25)),
            (IPv6Address("TCP", "fe80::1%eth0", 25), Peer("fe80::1", 25)),
            (IPv6Address("TCP", "2001:db8::1", 25), Peer("2001:db8::1", 25)),
            (UNIXAddress(b"/run/x"), Peer("", 0)),
        ):
            assert peer_of(address) == peer


class Beneath:
    """What is left of a transport when one asks what is on its way."""

    def __init__(self, sending: socket.socket) -> None:
        self.fileno = sending.fileno


class Reactor(Clock):
    """A clock that knows who waits to write."""

    writers: tuple[object, ...] = ()

    def getWriters(self) -> list[object]:
        return list(self.writers)


class OnTheirWayTests(SessionCase):
    """Octets that were said and may still get lost."""

    def test_where_nothing_can_be_told(self) -> None:
        assert not self.session.isBehind(0)

    def test_in_the_kernel_and_here(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        sending = socket.create_connection(listener.getsockname())
        receiving, _ = listener.accept()
        for end in (listener, sending, receiving):
            self.addCleanup(end.close)
        beneath, clock = Beneath(sending), Reactor()
        self.session.clock = clock
        self.session.transport = type("TLS", (), {"transport": beneath})()
        assert not self.session.isBehind(0)
        # More than the peer's kernel takes while nobody reads.
        sending.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sending.send(b"x" * 65536)
        assert self.session.isBehind(1000)
        assert not self.session.isBehind(1 << 30)
        clock.writers = (beneath,)
        assert self.session.isBehind(1 << 30)

"""The whole SMTP client against scripted hosts over real sockets on loopback."""

import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import trustme
from attrs import evolve
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.interfaces import IContent, ITransmitter
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Login, Security
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.model.tlsa import TLSA, Anchors
from mailserver.net.certificates import Credentials, ensure_self_signed, read_pair
from mailserver.net.tls import Certificates, ClientTLS, Trust
from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage
from mailserver.smtp.client import Deadlines
from mailserver.smtp.outbound import Outbound
from mailserver.smtp.standby import Standby
from mailserver.smtp.transmitter import Transmitter

T = TypeVar("T")
reactor: Any = default_reactor

A, B, C = (Recipient(Address(name, "example.org")) for name in "abc")
ENVELOPE = Envelope(QueueID("Q"), Address("s", "example.lan"), (A, B, C), Origin(), 0.0)
BODY = b"Subject: x\r\n\r\n.hi\r\n.\r\n..\r\n"


@implementer(IContent)
class Held:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def whole(self) -> bytes | None:
        return self._data

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


@implementer(IContent)
class Endless:
    """Much content, made while it is read."""

    _line = b"0123456789" * 7 + b"\r\n"

    def __init__(self, size: int) -> None:
        self.size = size - size % len(self._line)

    def whole(self) -> bytes | None:
        return None

    async def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        start = offset % len(self._line)
        return (self._line * (length // len(self._line) + 2))[start : start + length]


class Raw(ServerFactory):
    """A host of which every octet is told: ``talk`` gets the transport, and what it reads comes to ``hear``."""

    noisy = False

    def __init__(self, greet: Callable[[Any], None], hear: Callable[[Any, bytes], None]) -> None:
        self.greet, self.hear = greet, hear
        self.lost = 0
        self.connected: list[Any] = []

    def buildProtocol(self, addr: object) -> Protocol:
        factory = self

        class Ear(Protocol):
            def connectionMade(self) -> None:
                factory.connected.append(self.transport)
                factory.greet(self.transport)

            def dataReceived(self, data: bytes) -> None:
                factory.hear(self.transport, data)

            def connectionLost(self, reason: Failure | None = None) -> None:
                factory.lost += 1

        return Ear()


def deferred(test: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., "Deferred[T]"]:
    def run(self: Any) -> "Deferred[T]":
        return Deferred.fromCoroutine(test(self))

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def turn(count: int = 1) -> None:
    """Let the reactor go round."""
    for _ in range(count):
        round_: Deferred[None] = Deferred()
        reactor.callLater(0, round_.callback, None)
        await round_


def loaded(credentials: Credentials) -> Certificates:
    certificates = Certificates()
    certificates.load(credentials)
    return certificates


class Loopback(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.directory = TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def host(self, behaviour: Behaviour | None = None) -> MailHost:
        host = MailHost(reactor, "127.0.0.1", 0, behaviour, "mx.example.org")
        host.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(host.stop()))
        return host

    def raw(self, greet: Callable[[Any], None], hear: Callable[[Any, bytes], None] = lambda *_: None) -> Any:
        factory = Raw(greet, hear)
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        factory.port = listening.getHost().port  # type: ignore[attr-defined]
        return factory

    def transmitter(self, tls: ClientTLS | None = None) -> Transmitter:
        transmitter = Transmitter(reactor, self.clock, "mail.example.lan", tls, strict=tls)
        self.addCleanup(lambda: Deferred.fromCoroutine(transmitter.stop()))
        return transmitter

    async def sent_to(
        self,
        port: int,
        *recipients: Recipient,
        tls: ClientTLS | None = None,
        content: Any = None,
        security: Security = Security.MAY,
        login: Login | None = None,
    ) -> dict[Recipient, Outcome]:
        return await Outbound(self.transmitter(tls), self.clock).transmit(
            Exchanger("mx.example.org", "127.0.0.1", port, 10, security, login),
            ENVELOPE,
            content or Held(BODY),
            recipients or (A,),
        )

    def told(self, event: str) -> list[dict[str, Any]]:
        return [told["mail_fields"] for told in self.events if told.get("mail_event") == event]

    def waits(self) -> float:
        """The seconds of the deadline that runs now."""
        calls = self.clock.getDelayedCalls()
        return min((call.getTime() - self.clock.seconds() for call in calls), default=0)

    def attempts(self) -> list[dict[str, Any]]:
        return [event["mail_fields"] for event in self.events if event.get("mail_event") == "attempted"]

    def server_context(self) -> Any:
        return loaded(ensure_self_signed(Path(self.directory.name), "mx.example.org")).current()


class PlainTests(Loopback):
    def test_interface(self) -> None:
        assert verifyObject(ITransmitter, Outbound(self.transmitter(), self.clock))

    @deferred
    async def test_delivered(self) -> None:
        host = self.host()
        outcomes = await self.sent_to(host.port, A, B)
        taken = Delivered("250 2.0.0 taken", "2.0.0", "mx.example.org")
        assert outcomes == {A: taken, B: taken}
        (mail,) = host.messages
        assert mail.content == BODY
        assert mail.helo == "mail.example.lan"
        assert mail.recipients == ("a@example.org", "b@example.org")
        (attempt,) = self.attempts()
        assert attempt["result"] == "2 delivered: 250 2.0.0 taken"
        assert (attempt["host"], attempt["address"], attempt["preference"]) == (
            "mx.example.org",
            "127.0.0.1",
            10,
        )

    @deferred
    async def test_takes_its_leave(self) -> None:
        host = self.host()
        await self.sent_to(host.port)
        while host.visits:
            await turn()
        assert host.commands[-1] == "QUIT"

    @deferred
    async def test_without_pipelining(self) -> None:
        host = self.host(Behaviour(extensions=()))
        assert isinstance((await self.sent_to(host.port))[A], Delivered)
        assert host.commands[:4] == [
            "EHLO mail.example.lan",
            "MAIL FROM:<s@example.lan>",
            "RCPT TO:<a@example.org>",
            "DATA",
        ]

    @deferred
    async def test_a_host_that_knows_only_helo(self) -> None:
        host = self.host(Behaviour(answers={Stage.EHLO: "502 what?"}))
        assert isinstance((await self.sent_to(host.port))[A], Delivered)
        assert host.commands[:3] == [
            "EHLO mail.example.lan",
            "HELO mail.example.lan",
            "MAIL FROM:<s@example.lan>",
        ]

    @deferred
    async def test_partial_acceptance(self) -> None:
        host = self.host(
            Behaviour(recipients={"b@example.org": "450 4.2.1 later", "c@example.org": "550 5.1.1 nobody"})
        )
        outcomes = await self.sent_to(host.port, A, B, C)
        assert isinstance(outcomes[A], Delivered)
        assert outcomes[B] == Delayed(Scope.RECIPIENT, "450 4.2.1 later", "4.2.1", "mx.example.org", 450)
        assert outcomes[C] == Failed(Scope.RECIPIENT, "550 5.1.1 nobody", "5.1.1", "mx.example.org", 550)
        assert self.attempts()[0]["result"].startswith("1 delayed, 1 delivered, 1 failed: ")

    @deferred
    async def test_a_host_that_takes_one_recipient_at_a_time(self) -> None:
        host = self.host()

        def next_one(*_: object) -> str | None:
            return "452 4.5.3 one at a time" if host.commands[-2].startswith("RCPT") else None

        class OneAtATime(dict[str, Any]):
            get = next_one

        host.behaviour = Behaviour(recipients=OneAtATime())
        outcomes = await self.sent_to(host.port, A, B, C)
        assert all(isinstance(outcome, Delivered) for outcome in outcomes.values())
        assert [mail.recipients for mail in host.messages] == [(f"{name}@example.org",) for name in "abc"]
        assert host.connections == 1

    @deferred
    async def test_refusals_of_the_host(self) -> None:
        for stage, answer, kind, code in [
            (Stage.GREETING, "554 5.7.1 not you", Failed, 554),
            (Stage.GREETING, "451 4.3.2 not now", Delayed, 451),
            (Stage.GREETING, "421 4.3.2 closing", Delayed, 421),
            (Stage.GREETING, "354 wrong", Delayed, 354),
            (Stage.EHLO, "450 4.3.2 not now", Delayed, 450),
            (Stage.EHLO, "421 4.3.2 closing", Delayed, 421),
            (Stage.MAIL, "421 4.3.2 closing", Delayed, 421),
            (Stage.RCPT, "421 4.3.2 closing", Delayed, 421),
            (Stage.DATA, "421 4.3.2 closing", Delayed, 421),
        ]:
            host = self.host(Behaviour(answers={stage: answer}))
            outcome: Any = (await self.sent_to(host.port))[A]
            assert (type(outcome), outcome.scope, outcome.code) == (kind, Scope.HOST, code), stage
            assert outcome.reply == answer

    @deferred
    async def test_ehlo_and_helo_refused(self) -> None:
        host = self.host(Behaviour(answers={Stage.EHLO: "500 no", Stage.HELO: "504 5.5.4 bad name"}))
        assert (await self.sent_to(host.port))[A] == Failed(
            Scope.HOST, "504 5.5.4 bad name", "5.5.4", "mx.example.org", 504
        )
        assert host.commands.count("HELO mail.example.lan") == 1

    @deferred
    async def test_dropped_at_every_stage(self) -> None:
        for deed in (Deed.DROP, Deed.RESET):
            for extensions in ((), ("PIPELINING",)):
                for stage in Stage:
                    if stage in (Stage.HELO, Stage.STARTTLS, Stage.RSET, Stage.QUIT, Stage.OTHER):
                        continue
                    host = self.host(Behaviour(answers={stage: deed}, extensions=extensions))
                    outcome: Any = (await self.sent_to(host.port))[A]
                    assert isinstance(outcome, Delayed)
                    # A message as small as this one is on its way with its dot before the host cuts.
                    doubt = stage in (Stage.CONTENT, Stage.DOT)
                    assert outcome.scope is (Scope.DOUBT if doubt else Scope.HOST), (deed, stage, outcome)
                    assert outcome.code == 0
                    assert host.connections == 1

    @deferred
    async def test_dropped_behind_the_answer_to_the_dot(self) -> None:
        host = self.host(Behaviour(answers={Stage.QUIT: Deed.RESET}))
        assert isinstance((await self.sent_to(host.port))[A], Delivered)

    @deferred
    async def test_dropped_in_the_midst_of_much_content(self) -> None:
        for deed in (Deed.DROP, Deed.RESET):
            host = self.host(Behaviour(answers={Stage.CONTENT: deed}))
            outcome: Any = (await self.sent_to(host.port, content=Endless(30_000_000)))[A]
            assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)

    @deferred
    async def test_stalls_at_every_stage(self) -> None:
        stages = [
            (Stage.GREETING, "", 300),
            (Stage.EHLO, "EHLO", 300),
            (Stage.MAIL, "MAIL", 300),
            (Stage.RCPT, "RCPT", 300),
            (Stage.DATA, "DATA", 120),
            (Stage.DOT, "DATA", 600),
        ]
        for stage, last, seconds in stages:
            host = self.host(Behaviour(answers={stage: Deed.SILENCE}, extensions=()))
            result: list[Any] = []
            _ = Deferred.fromCoroutine(self.sent_to(host.port)).addBoth(result.append)
            while not (host.commands or [""])[-1].startswith(last) or not 0 < self.waits() <= seconds:
                await turn()
            await turn(50)  # an earlier, shorter wait may have left its timer: it tells nothing of this one
            self.clock.advance(seconds - 1)
            await turn(2)
            assert not result, stage
            self.clock.advance(2)
            outcome = result[0][A]
            scope = Scope.DOUBT if stage is Stage.DOT else Scope.HOST
            assert (type(outcome), outcome.scope, outcome.status) == (Delayed, scope, "4.4.2"), stage

    @deferred
    async def test_a_host_that_stops_reading(self) -> None:
        host = self.host(Behaviour(answers={Stage.CONTENT: Deed.SILENCE}))
        result: list[Any] = []
        _ = Deferred.fromCoroutine(self.sent_to(host.port, content=Endless(30_000_000))).addBoth(
            result.append
        )
        while "DATA" not in host.commands:
            await turn()
        await turn(200)
        self.clock.advance(181)
        assert result[0][A].scope is Scope.HOST
        assert "no content taken" in result[0][A].reply

    @deferred
    async def test_a_silent_farewell_holds_nobody(self) -> None:
        host = self.host(Behaviour(answers={Stage.QUIT: Deed.SILENCE}))
        assert isinstance((await self.sent_to(host.port))[A], Delivered)
        while "QUIT" not in host.commands:
            await turn()
        assert host.visits
        self.clock.advance(5)
        while host.visits:
            await turn()

    @deferred
    async def test_connection_refused(self) -> None:
        host = self.host()
        await host.stop()
        outcome: Any = (await self.sent_to(host.port, A, B))[B]
        assert (type(outcome), outcome.scope, outcome.status, outcome.code) == (
            Delayed,
            Scope.HOST,
            "4.4.1",
            0,
        )
        assert f"mx.example.org[127.0.0.1]:{host.port}" in outcome.reply

    @deferred
    async def test_replies_octet_by_octet(self) -> None:
        def hear(transport: Any, data: bytes) -> None:
            for _ in range(data.count(b"\r\n") if not data.endswith(b"\r\n.\r\n") else 1):
                reply = b"354-go\r\n354 on\r\n" if data.startswith(b"DATA") else b"250-so\r\n250 be it\r\n"
                for octet in reply:
                    transport.write(bytes([octet]))

        peer = self.raw(lambda transport: transport.write(b"220 x\r\n"), hear)
        assert (await self.sent_to(peer.port))[A] == Delivered("250 so be it", "2.0.0", "mx.example.org")

    @deferred
    async def test_two_megabytes_of_greeting(self) -> None:
        for greeting in (b"220-" + b"x" * 2_000_000, b"220-blah blah\r\n" * 150_000):
            peer = self.raw(lambda transport, data=greeting: transport.write(data))
            outcome: Any = (await self.sent_to(peer.port))[A]
            assert (type(outcome), outcome.scope, outcome.code) == (Delayed, Scope.HOST, 0)
            assert len(outcome.reply) < 200
            while not peer.lost:
                await turn()

    @deferred
    async def test_refused_in_the_midst_of_the_content(self) -> None:
        heard = bytearray()

        def hear(transport: Any, data: bytes) -> None:
            heard.extend(data)
            if data.startswith(b"DATA"):
                transport.write(b"354 go\r\n")
            elif len(heard) > 1_000_000 and transport.connected:
                transport.write(b"552 5.3.4 enough of this\r\n")
                transport.pauseProducing()
            elif len(heard) < 1000:
                transport.write(b"250 ok\r\n")

        peer = self.raw(lambda transport: transport.write(b"220 x\r\n"), hear)
        outcomes = await self.sent_to(peer.port, content=Endless(30_000_000))
        assert outcomes[A] == Failed(
            Scope.MESSAGE, "552 5.3.4 enough of this", "5.3.4", "mx.example.org", 552
        )
        peer.connected[0].abortConnection()
        await turn(2)
        assert b"RSET" not in heard
        assert b"QUIT" not in heard

    @deferred
    async def test_thirty_megabytes_in_little_memory(self) -> None:
        taken = 0

        def hear(transport: Any, data: bytes) -> None:
            nonlocal taken
            if data.startswith((b"EHLO", b"MAIL", b"RCPT")):
                transport.write(b"250 ok\r\n")
            elif data.startswith(b"DATA"):
                transport.write(b"354 go\r\n")
            else:
                taken += len(data)
                if data.endswith(b"\r\n.\r\n"):
                    transport.write(b"250 ok\r\n")

        peer = self.raw(lambda transport: transport.write(b"220 x\r\n"), hear)
        content = Endless(30_000_000)
        tracemalloc.start()
        try:
            outcomes = await self.sent_to(peer.port, content=content)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(outcomes[A], Delivered)
        assert taken == content.size + 3
        assert peak < 4_000_000

    @deferred
    async def test_cancelling_cuts_the_connection(self) -> None:
        for stage in (Stage.GREETING, Stage.MAIL, Stage.DATA):
            host = self.host(Behaviour(answers={stage: Deed.SILENCE}))
            sending = Deferred.fromCoroutine(self.sent_to(host.port))
            while not host.connections:
                await turn()
            await turn(20)
            sending.cancel()
            await self.assertFailure(sending, CancelledError)
            while host.visits:
                await turn()
            assert not self.clock.getDelayedCalls()
        assert not self.attempts()

    @deferred
    async def test_cancelled_behind_the_final_dot_is_doubt(self) -> None:
        for lmtp in (False, True):
            host = self.host(Behaviour(answers={Stage.DOT: Deed.SILENCE}, lmtp=lmtp))
            exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port, lmtp=lmtp)
            outbound = Outbound(self.transmitter(), self.clock)
            sending = Deferred.fromCoroutine(outbound.transmit(exchanger, ENVELOPE, Held(BODY), (A, B)))
            while "DATA" not in host.commands:
                await turn()
            await turn(20)
            sending.cancel()
            outcomes = await sending
            assert {(it.scope, it.status) for it in outcomes.values()} == {(Scope.DOUBT, "4.3.2")}
            assert set(outcomes) == {A, B}
            while host.visits:
                await turn()
            assert not self.clock.getDelayedCalls()

    @deferred
    async def test_cancelled_while_a_connection_is_reset(self) -> None:
        """All is known of the message then."""
        refuses = {"a@example.org": "550 5.1.1 nobody"}
        host = self.host(Behaviour(recipients=refuses, answers={Stage.RSET: Deed.SILENCE}))
        transmitter = Transmitter(reactor, self.clock, "mail.example.lan", standby=Standby(self.clock, 5.0))
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port)
        sending = Deferred.fromCoroutine(
            Outbound(transmitter, self.clock).transmit(exchanger, ENVELOPE, Held(BODY), (A,))
        )
        while "RSET" not in host.commands:
            await turn()
        sending.cancel()
        assert isinstance((await sending)[A], Failed)
        while host.visits:
            await turn()

    @deferred
    async def test_cancelling_while_connecting(self) -> None:
        host = self.host()
        sending = Deferred.fromCoroutine(self.sent_to(host.port))
        sending.cancel()
        await self.assertFailure(sending, CancelledError)

    @deferred
    async def test_stop_cuts_what_stands(self) -> None:
        host = self.host(Behaviour(answers={Stage.QUIT: Deed.SILENCE}))
        transmitter = self.transmitter()
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port)
        await Outbound(transmitter, self.clock).transmit(exchanger, ENVELOPE, Held(BODY), (A,))
        await transmitter.stop()
        while host.visits:
            await turn()
        assert not self.clock.getDelayedCalls()

    def test_no_descriptor_left(self) -> None:
        """Our own poverty is a delay, not an exception."""
        for address in ("192.0.2.1", "2001:db8::1"):
            memory = MemoryReactorClock()
            transmitter = Transmitter(memory, memory, "mail.example.lan", None, Deadlines(connect=7))
            sending = Deferred.fromCoroutine(
                Outbound(transmitter, memory).transmit(
                    Exchanger("mx", address, 25), ENVELOPE, Held(BODY), (A,)
                )
            )
            ((host, port, factory, seconds, _),) = memory.tcpClients
            assert (host, port, seconds) == (address, 25, 7)
            factory.clientConnectionFailed(None, Failure(ConnectBindError(24, "Too many open files")))
            outcome: Any = self.successResultOf(sending)[A]
            assert (type(outcome), outcome.scope, outcome.status) == (Delayed, Scope.HOST, "4.4.1")


class TLSTests(Loopback):
    @deferred
    async def test_used_where_offered(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        assert isinstance((await self.sent_to(host.port, tls=ClientTLS()))[A], Delivered)
        (mail,) = host.messages
        assert (mail.tls, mail.server_name) == ("TLSv1.3", "mx.example.org")
        assert host.commands[:3] == ["EHLO mail.example.lan", "STARTTLS", "EHLO mail.example.lan"]
        assert self.attempts()[0]["tls"].startswith("TLSv1.3 ")
        while host.visits:
            await turn()
        assert host.commands[-1] == "QUIT"

    @deferred
    async def test_thirty_megabytes_inside(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        content = Endless(30_000_000)
        assert isinstance((await self.sent_to(host.port, tls=ClientTLS(), content=content))[A], Delivered)
        assert len(host.messages[0].content) == content.size

    @deferred
    async def test_not_said_where_not_wanted(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        await self.sent_to(host.port)
        assert host.messages[0].tls == ""

    @deferred
    async def test_refused_means_in_clear(self) -> None:
        for answer in ("454 4.7.0 not now", "502 no"):
            host = self.host(Behaviour(tls=self.server_context(), answers={Stage.STARTTLS: answer}))
            assert isinstance((await self.sent_to(host.port, tls=ClientTLS()))[A], Delivered)
            assert (host.connections, host.messages[0].tls) == (1, "")

    @deferred
    async def test_refused_under_pkix_means_delayed(self) -> None:
        for behaviour in (
            Behaviour(tls=self.server_context(), answers={Stage.STARTTLS: "454 4.7.0 not now"}),
            Behaviour(),
        ):
            host = self.host(behaviour)
            outcome: Any = (
                await self.sent_to(host.port, tls=ClientTLS(Trust.PKIX), security=Security.VERIFY)
            )[A]
            assert (type(outcome), outcome.scope, outcome.status) == (Delayed, Scope.HOST, "4.7.4")
            assert "MAIL" not in " ".join(host.commands)

    @deferred
    async def test_broken_handshake_means_once_more_in_clear(self) -> None:
        said: list[bytes] = []

        def hear(transport: Any, data: bytes) -> None:
            said.append(data)
            if data.startswith(b"EHLO"):
                transport.write(b"250-x\r\n250 STARTTLS\r\n")
            elif data.startswith(b"STARTTLS"):
                transport.write(b"220 go\r\n")
            elif data.startswith(b"MAIL"):
                transport.write(b"550 5.7.1 seen in clear\r\n")
            else:
                transport.write(b"500 what is this?\r\n")

        peer = self.raw(lambda transport: transport.write(b"220 x\r\n"), hear)
        outcome: Any = (await self.sent_to(peer.port, tls=ClientTLS()))[A]
        assert outcome.reply == "550 5.7.1 seen in clear"
        assert len(peer.connected) == 2
        assert self.attempts()[0]["tls"] == ""
        (told,) = self.told("unprotected")
        assert (told["host"], told["address"]) == ("mx.example.org", "127.0.0.1")
        assert told["reason"].startswith("TLS handshake failed: ")

    @deferred
    async def test_stalled_handshake_means_once_more_in_clear(self) -> None:
        said: list[bytes] = []

        def hear(transport: Any, data: bytes) -> None:
            said.append(data)
            if data.startswith(b"EHLO"):
                transport.write(b"250-x\r\n250 STARTTLS\r\n")
            elif data.startswith(b"STARTTLS"):
                transport.write(b"220 go\r\n")
            elif data.startswith(b"MAIL"):
                transport.write(b"550 5.7.1 seen in clear\r\n")

        peer = self.raw(lambda transport: transport.write(b"220 x\r\n"), hear)
        sending = Deferred.fromCoroutine(self.sent_to(peer.port, tls=ClientTLS()))
        while len(said) < 3:
            await turn()
        self.clock.advance(61)
        outcome: Any = (await sending)[A]
        assert outcome.reply == "550 5.7.1 seen in clear"
        assert len(peer.connected) == 2

    @deferred
    async def test_cut_behind_the_handshake_means_once_more_in_clear(self) -> None:
        """With TLS 1.3 the host's refusal of the handshake shows no sooner than at the next command."""
        host = self.host(Behaviour(tls=self.server_context()))
        greeted: list[str] = []

        class CutsInside(dict[Any, Any]):
            def get(self, stage: Any, usual: Any = None) -> Any:
                greeted.append(stage)
                return Deed.RESET if greeted.count(Stage.EHLO) == 2 and stage is Stage.EHLO else usual

        host.behaviour = Behaviour(tls=self.server_context(), answers=CutsInside())
        assert isinstance((await self.sent_to(host.port, tls=ClientTLS()))[A], Delivered)
        assert (host.connections, host.messages[0].tls) == (2, "")

    @deferred
    async def test_injected_replies_end_it(self) -> None:
        host = self.host(
            Behaviour(
                tls=self.server_context(),
                answers={Stage.STARTTLS: "220 go\r\n250-PIPELINING\r\n250 AUTH PLAIN"},
            )
        )
        outcome: Any = (await self.sent_to(host.port, tls=ClientTLS()))[A]
        assert (type(outcome), outcome.scope, outcome.code) == (Delayed, Scope.HOST, 0)
        assert host.connections == 1
        assert "MAIL" not in " ".join(host.commands)

    @deferred
    async def test_what_was_offered_in_clear_is_forgotten(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))

        class Fewer(dict[Any, Any]):
            def get(self, stage: Any, usual: Any = None) -> Any:
                inside = stage is Stage.EHLO and "STARTTLS" in host.commands
                return "250-mx.example.org\r\n250 HELP" if inside else usual

        host.behaviour = Behaviour(tls=self.server_context(), answers=Fewer())
        assert isinstance((await self.sent_to(host.port, tls=ClientTLS()))[A], Delivered)
        assert "MAIL FROM:<s@example.lan>" in host.commands

    @deferred
    async def test_pkix(self) -> None:
        ca = trustme.CA()
        directory = Path(self.directory.name)
        ca.cert_pem.write_to_path(str(directory / "roots.pem"))
        tls = ClientTLS(Trust.PKIX, directory / "roots.pem")
        for name, delivered in [("mx.example.org", True), ("wrong.example.org", False)]:
            leaf = ca.issue_cert(name)
            (directory / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
            (directory / "key.pem").write_bytes(leaf.private_key_pem.bytes())
            contexts = loaded(read_pair(directory / "chain.pem", directory / "key.pem"))
            host = self.host(Behaviour(tls=contexts.current()))
            outcome: Any = (await self.sent_to(host.port, tls=tls, security=Security.VERIFY))[A]
            assert isinstance(outcome, Delivered) is delivered
            assert host.connections == 1
            if not delivered:
                assert (type(outcome), outcome.scope, outcome.status) == (Delayed, Scope.HOST, "4.7.5")
                assert not host.messages


class DeadlineTests(Loopback):
    def test_the_defaults_are_those_of_the_rfc(self) -> None:
        """RFC 5321 §4.5.3.2: at least so many minutes."""
        deadlines = Deadlines()
        assert deadlines.greeting >= 300
        assert deadlines.mail >= 300
        assert deadlines.rcpt >= 300
        assert deadlines.data >= 120
        assert deadlines.block >= 180
        assert deadlines.dot >= 600


class ReuseTests(Loopback):
    """A connection waits for the next message to the same address on the same terms."""

    def keeping(self, **options: Any) -> Transmitter:
        standby = Standby(self.clock, 5.0, **options)
        transmitter = Transmitter(reactor, self.clock, "mail.example.lan", ClientTLS(), standby=standby)
        self.addCleanup(lambda: Deferred.fromCoroutine(transmitter.stop()))
        return transmitter

    async def send(self, transmitter: Transmitter, host: MailHost, **more: Any) -> Any:
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port, 10, **more)
        return (await Outbound(transmitter, self.clock).transmit(exchanger, ENVELOPE, Held(BODY), (A,)))[A]

    @deferred
    async def test_reused(self) -> None:
        host, transmitter = self.host(), self.keeping()
        for _ in range(3):
            assert isinstance(await self.send(transmitter, host), Delivered)
        assert (host.connections, len(host.messages)) == (1, 3)
        assert "RSET" not in host.commands
        assert len(self.attempts()) == 3

    @deferred
    async def test_left_when_nothing_comes(self) -> None:
        host, transmitter = self.host(), self.keeping()
        await self.send(transmitter, host)
        self.clock.advance(5.0)
        while host.visits:
            await turn()
        assert host.commands[-1] == "QUIT"
        await self.send(transmitter, host)
        assert host.connections == 2

    @deferred
    async def test_reset_where_the_last_was_not_taken(self) -> None:
        host, transmitter = self.host(Behaviour(answers={Stage.RCPT: "550 5.1.1 no"})), self.keeping()
        assert isinstance(await self.send(transmitter, host), Failed)
        host.behaviour = Behaviour()
        assert isinstance(await self.send(transmitter, host), Delivered)
        assert host.connections == 1
        assert "RSET" in host.commands

    @deferred
    async def test_a_host_that_does_not_reset_is_left(self) -> None:
        refusing = Behaviour(answers={Stage.RCPT: "550 5.1.1 no", Stage.RSET: "502 what"})
        host, transmitter = self.host(refusing), self.keeping()
        await self.send(transmitter, host)
        host.behaviour = Behaviour()
        assert isinstance(await self.send(transmitter, host), Delivered)
        assert host.connections == 2

    @deferred
    async def test_other_terms_are_another_connection(self) -> None:
        host, transmitter = self.host(), self.keeping()
        await self.send(transmitter, host)
        await self.send(transmitter, host, security=Security.NONE)
        assert host.connections == 2

    @deferred
    async def test_closed_meanwhile(self) -> None:
        host, transmitter = self.host(), self.keeping()
        await self.send(transmitter, host)
        for visit in list(host.visits):
            visit.transport.abortConnection()
        while host.visits:
            await turn()
        assert isinstance(await self.send(transmitter, host), Delivered)
        assert host.connections == 2

    @deferred
    async def test_dead_before_it_has_said_anything_is_as_if_it_had_not_been(self) -> None:
        host, transmitter = self.host(), self.keeping()
        await self.send(transmitter, host)

        class Once(dict[Any, Any]):
            def get(self, key: Any, default: Any = None) -> Any:
                return self.pop(key, default)

        host.behaviour = Behaviour(answers=Once({Stage.MAIL: Deed.DROP}))
        assert isinstance(await self.send(transmitter, host), Delivered)
        assert host.connections == 2
        assert len(self.attempts()) == 2

    @deferred
    async def test_not_for_ever_and_not_too_many(self) -> None:
        host, transmitter = self.host(), self.keeping(uses=2)
        for _ in range(4):
            await self.send(transmitter, host)
        assert host.connections == 2
        first, second, transmitter = self.host(), self.host(), self.keeping(most=1)
        for host in (first, second, first):
            await self.send(transmitter, host)
        assert (first.connections, second.connections) == (2, 1)


class SecurityTests(Loopback):
    @deferred
    async def test_none(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        await self.sent_to(host.port, tls=ClientTLS(), security=Security.NONE)
        assert host.messages[0].tls == ""

    @deferred
    async def test_encrypt_with_whomever(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        await self.sent_to(host.port, security=Security.ENCRYPT)
        assert (host.messages[0].tls, host.messages[0].server_name) == ("TLSv1.3", "mx.example.org")

    @deferred
    async def test_encrypt_and_never_in_clear(self) -> None:
        refusing = Behaviour(tls=self.server_context(), answers={Stage.STARTTLS: "454 4.7.0 not now"})
        for behaviour in (Behaviour(), refusing):
            host = self.host(behaviour)
            outcome: Any = (await self.sent_to(host.port, security=Security.ENCRYPT))[A]
            assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
            assert not host.messages

    @deferred
    async def test_a_downgrade_is_noticed(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        outbound = Outbound(self.transmitter(ClientTLS()), self.clock)
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port, 10)
        await outbound.transmit(exchanger, ENVELOPE, Held(BODY), (A,))
        assert not self.told("downgraded")
        host.behaviour = Behaviour()
        for _ in range(2):
            await outbound.transmit(exchanger, ENVELOPE, Held(BODY), (A,))
        (fall,) = self.told("downgraded")
        assert (fall["domain"], fall["host"]) == ("example.org", "mx.example.org")
        assert (fall["before"], fall["now"]) == ("encrypted", "clear")
        assert len(host.messages) == 3

    @deferred
    async def test_no_password_in_clear_or_to_strangers(self) -> None:
        login = Login("relay", "s3cret")
        for behaviour in (Behaviour(), Behaviour(tls=self.server_context())):
            host = self.host(behaviour)
            outcome: Any = (await self.sent_to(host.port, login=login))[A]
            assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
            assert not any(command.startswith("AUTH") for command in host.commands)
        assert "s3cret" not in repr(login)


class DemandTests(Loopback):
    """What a domain publishes, at the host: every situation, under each demand."""

    def anchored(self, certificate: Any) -> Demand:
        record = TLSA(3, 0, 1, certificate.fingerprint(SHA256()))
        return Demand(Security.DANE, "DANE", Anchors((record,), "base.example.org", ()))

    async def sent(self, host: MailHost, demand: Demand, **more: Any) -> Any:
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port, demand=demand, **more)
        outcomes = await Outbound(self.transmitter(ClientTLS()), self.clock).transmit(
            exchanger, ENVELOPE, Held(BODY), (A,)
        )
        return outcomes[A]

    @deferred
    async def test_dane(self) -> None:
        shown = ensure_self_signed(Path(self.directory.name), "whatever.example")
        other = ensure_self_signed(Path(self.directory.name) / "other", "mx.example.org")
        host = self.host(Behaviour(tls=loaded(shown).current()))
        assert isinstance(await self.sent(host, self.anchored(shown.chain[0])), Delivered)
        assert host.messages[0].server_name == "base.example.org"
        (attempt,) = self.attempts()
        assert attempt["tls"].endswith(" DANE")
        assert str(attempt["policy"]) == "dane (DANE)"
        host.commands.clear()
        outcome = await self.sent(host, self.anchored(other.chain[0]))
        assert (type(outcome), outcome.scope, outcome.status) == (Delayed, Scope.HOST, "4.7.5")
        assert "no TLSA record fits" in outcome.reply
        assert host.connections == 2, "not once more in clear"
        said = [command for command in host.commands if command != "QUIT"]
        assert said == ["EHLO mail.example.lan", "STARTTLS"], "to a stranger nothing, not even EHLO"

    @deferred
    async def test_dane_and_no_tls(self) -> None:
        shown = ensure_self_signed(Path(self.directory.name), "mx.example.org")
        refusing = Behaviour(tls=self.server_context(), answers={Stage.STARTTLS: "454 4.7.0 not now"})
        for behaviour in (Behaviour(), refusing, Behaviour(tls=self.server_context(), babbles=True)):
            host = self.host(behaviour)
            outcome = await self.sent(host, self.anchored(shown.chain[0]))
            assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
            assert (host.connections, host.messages) == (1, [])

    @deferred
    async def test_dane_without_records_is_never_spoken_to(self) -> None:
        host = self.host(Behaviour(tls=self.server_context()))
        outcome = await self.sent(host, Demand(Security.DANE))
        assert (type(outcome), outcome.scope, host.connections) == (Delayed, Scope.HOST, 0)

    @deferred
    async def test_requiretls_and_passwords_are_content_with_dane(self) -> None:
        shown = ensure_self_signed(Path(self.directory.name), "whatever.example")
        host = self.host(Behaviour(tls=loaded(shown).current(), extensions=("REQUIRETLS",)))
        exchanger = Exchanger("mx.example.org", "127.0.0.1", host.port, demand=self.anchored(shown.chain[0]))
        strict = evolve(ENVELOPE, requiretls=True)
        transmitter = self.transmitter(ClientTLS())
        assert isinstance(
            (await Outbound(transmitter, self.clock).transmit(exchanger, strict, Held(BODY), (A,)))[A],
            Delivered,
        )
        unproven = evolve(exchanger, demand=Demand(Security.ENCRYPT))
        transmitter = Transmitter(reactor, self.clock, "mail.example.lan", ClientTLS())
        assert isinstance(
            (await Outbound(transmitter, self.clock).transmit(unproven, strict, Held(BODY), (A,)))[A], Delayed
        )
        assert len(host.messages) == 1

    @deferred
    async def test_a_policy_that_is_only_tried(self) -> None:
        trial = Demand(Security.MAY, "MTA-STS testing", is_trial=True)
        for behaviour, why in [
            (Behaviour(), "no TLS"),
            (Behaviour(tls=self.server_context()), "the certificate is self-signed"),
        ]:
            assert isinstance(await self.sent(self.host(behaviour), trial), Delivered)
            assert why in str(self.told("warned")[-1]["what"])
        assert len(self.told("warned")) == 2

"""The SMTP server: what a dialogue cannot say: slow hooks, lost clients, deadlines, TLS on real sockets."""

import inspect
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

import trustme
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.mail.smtp import ESMTP, SMTP
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailserver.model.reply import RELAYING_DENIED_550
from mailserver.net.session import Bounds
from mailserver.smtp.reception import Reception, Refused
from mailserver.smtp.server import SMTPServer
from tests.support.dialogue import MemoryWire, load, parse, play, play_socket
from tests.support.reception import Premises

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<s@elsewhere.example>\r\nRCPT TO:<alice@example.lan>\r\nDATA\r\n"
MESSAGE = ENVELOPE + b"text\r\n.\r\n"


class ServerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.open()

    def open(self, settings: dict[str, str] | None = None, bounds: Bounds | None = None) -> None:
        self.premises = Premises(settings, bounds)
        self.spool, self.clock = self.premises.spool, self.premises.clock
        self.server = self.premises.factory.buildProtocol(None)
        self.wire = MemoryWire(self.server, self.premises.client)
        self.codes()

    def say(self, data: bytes) -> list[int]:
        """Send and give the codes of the replies."""
        self.wire.send(data)
        return self.codes()

    def codes(self) -> list[int]:
        lines = self.wire.lines(10_000)
        return [int(line[:3]) for line in lines if line[3:4] == b" "]

    def stored(self) -> list[str]:
        return [str(envelope.sender) for envelope, _ in self.spool.messages]


class BaseTests(SynchronousTestCase):
    """What we take from Twisted, and what we must not touch."""

    DEAD = (
        "lineReceived",
        "state_COMMAND",
        "state_DATA",
        "dataLineReceived",
        "state_AUTH",
        "_cbAuthenticated",
        "_ebAuthenticated",
        "lineLengthExceeded",
        "timeoutConnection",
        "_messageHandled",
        "receivedHeader",
        "sendLine",
        "setTimeout",
        "resetTimeout",
        "sendSyntaxError",
    )

    def test_interfaces(self) -> None:
        server = MemoryWire(Premises().factory.buildProtocol(None)).protocol
        assert verifyObject(IHalfCloseableProtocol, server)
        assert isinstance(server, ESMTP)

    def test_dead_methods_are_the_bases_and_never_called(self) -> None:
        def dead(*_: object) -> None:
            raise AssertionError("a method of the base that must be dead was called")

        for name in self.DEAD:
            assert callable(getattr(ESMTP, name)), name
            assert name not in SMTPServer.__dict__, name
            self.patch(SMTPServer, name, dead)
        for dialogue in load("smtp"):
            premises = Premises(dialogue.settings)
            wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
            play(dialogue, wire)
            wire.drop()

    def test_the_base_is_the_one_we_know(self) -> None:
        """A new Twisted that changes any of this has to be looked at (TWISTED section 10)."""
        methods = {name for name in dir(ESMTP) if name.startswith(("do_", "ext_", "state_"))}
        assert methods == {
            *("do_DATA", "do_EHLO", "do_HELO", "do_MAIL", "do_QUIT", "do_RCPT", "do_RSET", "do_UNKNOWN"),
            *("ext_AUTH", "ext_STARTTLS", "state_AUTH", "state_COMMAND", "state_DATA"),
        }
        parameters: dict[Callable[..., object], list[str]] = {
            ESMTP.__init__: ["self", "chal", "contextFactory"],
            ESMTP.lookupMethod: ["self", "command"],
            ESMTP.extensions: ["self"],
            ESMTP.listExtensions: ["self"],
            ESMTP.greeting: ["self"],
            SMTP.sendCode: ["self", "code", "message"],
            SMTP.validateFrom: ["self", "helo", "origin"],
            SMTP.validateTo: ["self", "user"],
            SMTP.connectionLost: ["self", "reason"],
        }
        for method, names in parameters.items():
            assert list(inspect.signature(method).parameters) == names, method
        for name in ("delivery", "deliveryFactory", "host", "startedTLS", "portal"):
            assert hasattr(ESMTP(), name), name
        ours = {name for name in vars(SMTPServer(Premises().factory)) if name.startswith("_")}
        bases = {name for name in vars(ESMTP()) if name.startswith("_")}
        both = {name for name in (ours - bases) if hasattr(ESMTP, name)}
        assert not both, "an attribute of ours has the name of one of the base's"

    def test_nothing_from_the_wire_becomes_a_name(self) -> None:
        server = Premises().factory.buildProtocol(None)
        for verb in (b"UNKNOWN", b"HTTP", b"__CLASS__", b"do_QUIT", b"AUTH "):
            assert server.lookupMethod(verb) is None, verb

    def test_what_a_mixin_says_with_sendCode_is_a_reply(self) -> None:
        wire = MemoryWire(Premises().factory.buildProtocol(None))
        wire.protocol.sendCode(250, b"one\ntwo")
        assert wire.lines(9)[1:] == [b"250-one", b"250 two"]


class SlowTests(ServerCase):
    """Hooks and a spool that take their time."""

    def slowly(self, name: str) -> list[Deferred[None]]:
        waiting: list[Deferred[None]] = []
        hook = getattr(Reception, name)

        def slow(reception: Reception, *arguments: Any) -> Awaitable[None]:
            waiter: Deferred[None] = Deferred()
            waiting.append(waiter)
            return waiter.addCallback(lambda _: hook(reception, *arguments))

        self.patch(Reception, name, slow)
        return waiting

    def test_replies_keep_their_order(self) -> None:
        senders, recipients = self.slowly("validateFrom"), self.slowly("validateTo")
        assert self.say(HELLO + MESSAGE + b"NOOP\r\n") == [250]
        senders[0].callback(None)
        assert self.codes() == [250]
        recipients[0].callback(None)
        assert self.codes() == [250, 354, 250, 250]
        assert len(self.stored()) == 1

    def test_a_slow_refusal_belongs_to_its_command(self) -> None:
        recipients = self.slowly("validateTo")
        assert self.say(HELLO + ENVELOPE[:-6] + b"RCPT TO:<bob@example.lan>\r\nDATA\r\n") == [250, 250]
        recipients[0].errback(Refused(RELAYING_DENIED_550))
        assert self.codes() == [550]
        recipients[1].callback(None)
        assert self.codes() == [250, 354]

    def test_reset_waits_for_the_command_before_it(self) -> None:
        senders = self.slowly("validateFrom")
        self.say(HELLO + b"MAIL FROM:<a@elsewhere.example>\r\nRSET\r\nRCPT TO:<alice@example.lan>\r\n")
        senders[0].callback(None)
        assert self.codes() == [250, 250, 503]

    def test_a_slow_sender_that_is_refused_begins_nothing(self) -> None:
        senders = self.slowly("validateFrom")
        self.say(HELLO + b"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<alice@example.lan>\r\n")
        senders[0].errback(Refused(RELAYING_DENIED_550))
        assert self.codes() == [550, 503]

    def test_the_next_message_waits_for_the_commit(self) -> None:
        self.spool.committing.shut()
        assert self.say(HELLO + MESSAGE + MESSAGE + b"QUIT\r\n") == [250, 250, 250, 354]
        self.spool.committing.let()
        assert self.codes() == [250, 250, 250, 354]
        assert not self.wire.is_closed()
        self.spool.committing.let()
        assert self.codes() == [250, 221]
        assert self.wire.is_closed()
        assert len(self.stored()) == 2

    def test_reading_stops_while_the_disk_does_not_keep_up(self) -> None:
        self.open({"size": "10000000"})
        self.say(HELLO + ENVELOPE)
        self.spool.writing.shut()
        self.wire.send(b"Subject: x\r\n\r\n")
        for _ in range(10):
            self.wire.send(b"x" * 998 + b"\r\n")
        assert len(self.spool.writing.waiting) == 1
        for _ in range(100):
            self.wire.send(b"x" * 998 + b"\r\n")
        assert self.wire.transport.producerState == "paused"
        self.spool.writing.open()
        assert self.wire.transport.producerState == "producing"
        assert self.say(b".\r\n") == [250]
        assert len(self.spool.messages[0][1]) > 110_000

    def test_a_deadline_does_not_run_while_we_are_slow(self) -> None:
        self.spool.committing.shut()
        self.say(HELLO + MESSAGE)
        self.clock.pump([600.0] * 5)
        assert not self.wire.is_closed()
        self.spool.committing.open()
        assert self.codes() == [250]


class LostTests(ServerCase):
    """The client goes away."""

    def test_in_the_middle_of_the_data(self) -> None:
        self.say(HELLO + ENVELOPE + b"half")
        self.wire.drop()
        assert self.spool.drafts[0].abandoned
        assert self.stored() == []

    def test_while_the_commit_is_under_way(self) -> None:
        self.spool.committing.shut()
        self.say(HELLO + MESSAGE)
        self.wire.drop()
        assert not self.spool.drafts[0].abandoned
        self.spool.committing.open()
        assert self.stored() == ["s@elsewhere.example"]

    def test_while_a_commit_is_under_way_that_fails(self) -> None:
        self.spool.committing.shut()
        self.say(HELLO + MESSAGE)
        self.wire.drop()
        self.spool.trouble = ZeroDivisionError("a bug")
        self.spool.committing.open()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_while_the_disk_does_not_keep_up_with_the_end(self) -> None:
        self.spool.writing.shut()
        self.say(HELLO + ENVELOPE + b"Subject: x\r\n\r\ntext\r\n.\r\n")
        self.wire.drop()
        assert self.spool.drafts[0].abandoned
        assert self.stored() == []

    def test_while_a_hook_is_slow(self) -> None:
        waiter: Deferred[None] = Deferred()
        self.patch(Reception, "validateTo", lambda *_: waiter)
        self.say(HELLO + ENVELOPE)
        self.wire.drop()
        assert waiter.called
        assert self.spool.drafts == []


class FaultTests(ServerCase):
    """Bugs are logged and answered, and the session goes on."""

    def test_in_a_hook(self) -> None:
        def bug(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(Reception, "validateTo", bug)
        assert self.say(HELLO + ENVELOPE + b"NOOP\r\n") == [250, 250, 451, 503, 250]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_in_the_middle_of_the_data_nothing_is_said_before_its_end(self) -> None:
        self.say(HELLO + ENVELOPE)
        self.patch(self.spool.drafts[0], "write", lambda _: 1 / 0)
        assert self.say(b"some\r\n") == []
        assert self.say(b"MAIL FROM:<x@y.example>\r\n") == []
        assert self.say(b".\r\nNOOP\r\n") == [451, 250]
        assert self.spool.drafts[0].abandoned
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_at_the_end_of_the_data(self) -> None:
        self.say(HELLO + ENVELOPE)
        self.patch(self.spool.drafts[0], "write", lambda _: 1 / 0)
        assert self.say(b"some\r\n.\r\nNOOP\r\n") == [451, 250]
        assert self.spool.drafts[0].abandoned
        assert self.say(MESSAGE) == [250, 250, 354, 250]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_in_beginning_a_draft(self) -> None:
        self.patch(self.spool, "draft", lambda *_: 1 / 0)
        assert self.say(HELLO + ENVELOPE + b"text\r\n") == [250, 250, 250, 451, 500]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_in_beginning_a_draft_with_a_chunk(self) -> None:
        """What follows is no command, whatever went wrong."""
        with patch.object(self.spool, "draft", lambda *_: 1 / 0):
            self.say(HELLO + ENVELOPE[:-6])
            assert self.say(b"BDAT 6\r\nNOOP\r\nBDAT 0\r\nNOOP\r\n") == [451, 451, 250]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 2
        assert self.say(b"BDAT 6 LAST\r\nQUIT\r\n") == [503]
        assert self.stored() == []

    def test_in_the_middle_of_a_chunk(self) -> None:
        self.say(HELLO + ENVELOPE[:-6] + b"BDAT 12\r\n\r\n")
        self.patch(self.spool.drafts[0], "write", lambda _: 1 / 0)
        assert self.say(b"some") == []
        assert self.say(b"NOOP\r\nNOOP\r\n") == [451, 250]
        assert self.say(b"BDAT 6 LAST\r\nQUIT\r\n") == [503]
        assert self.spool.drafts[0].abandoned
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_at_the_end_of_a_chunk(self) -> None:
        self.say(HELLO + ENVELOPE[:-6] + b"BDAT 2\r\n\r\n")
        self.patch(self.spool.drafts[0], "write", lambda _: 1 / 0)
        assert self.say(b"BDAT 4\r\nsomeNOOP\r\n") == [451, 250]
        assert self.say(MESSAGE) == [250, 250, 354, 250]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_chunks_wait_for_the_disk(self) -> None:
        self.spool.writing.shut()
        self.say(HELLO + ENVELOPE[:-6])
        assert self.say(b"BDAT 6\r\n\r\nsomeBDAT 4 LAST\r\nmoreNOOP\r\n") == []
        self.spool.writing.let()
        assert self.codes() == [250]
        self.spool.writing.let()
        assert self.codes() == [250, 250]
        assert self.spool.messages[0][1].endswith(b"\r\n\r\nsomemore\r\n")


class DeadlineTests(ServerCase):
    def test_idle(self) -> None:
        self.clock.advance(299)
        assert self.codes() == []
        self.clock.advance(2)
        assert self.codes() == [421]
        assert self.wire.is_closed()

    def test_data_has_half_an_hour_however_lively(self) -> None:
        self.say(HELLO + ENVELOPE)
        for _ in range(10):
            self.clock.advance(175)
            self.wire.send(b"drip\r\n")
        assert not self.wire.is_closed()
        self.clock.advance(60)
        assert self.codes() == [421]
        self.wire.drop()
        assert self.spool.drafts[0].abandoned

    def test_the_half_hour_ends_with_the_data(self) -> None:
        self.say(HELLO + MESSAGE)
        for _ in range(20):
            self.clock.advance(200)
            assert self.say(b"NOOP\r\n") == [250]

    def test_shutdown(self) -> None:
        self.spool.committing.shut()
        self.say(HELLO + MESSAGE)
        drained = Deferred.fromCoroutine(self.premises.factory.drain())
        assert self.codes() == []
        self.spool.committing.open()
        assert self.codes() == [250, 421]
        self.wire.drop()
        self.successResultOf(drained)


class FactTests(ServerCase):
    """What is written down about where a message came from."""

    def word(self, commands: bytes) -> str:
        self.say(commands + b"RCPT TO:<alice@example.lan>\r\nDATA\r\n.\r\n")
        return self.spool.messages[-1][0].origin.protocol

    def test_with_keyword(self) -> None:
        mail, utf8 = b"MAIL FROM:<>\r\n", b"MAIL FROM:<> SMTPUTF8\r\n"
        assert self.word(b"HELO x\r\n" + mail) == "SMTP"
        assert self.word(b"EHLO x\r\n" + mail) == "ESMTP"
        assert self.word(utf8) == "UTF8SMTP"
        self.say(b"STARTTLS\r\n")
        self.wire.tls()
        assert self.word(b"EHLO x\r\n" + mail) == "ESMTPS"
        assert self.word(utf8) == "UTF8SMTPS"

    def test_origin(self) -> None:
        self.say(b"EHLO client.example\r\nSTARTTLS\r\n")
        self.wire.tls()
        self.say(b"EHLO other.example\r\n" + MESSAGE)
        origin = self.spool.messages[0][0].origin
        assert (origin.address, origin.port, origin.helo) == ("192.0.2.99", 40000, "other.example")
        assert origin.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384"

    def test_a_client_behind_a_proxy_is_the_one_the_proxy_names(self) -> None:
        # The factory is told whom the proxy speaks for; the transport's peer is the proxy.
        self.wire = MemoryWire(self.premises.factory.buildProtocol(IPv4Address("TCP", "192.168.1.9", 1234)))
        assert self.say(HELLO + b"MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n.\r\n")[-1] == 250
        origin = self.spool.messages[0][0].origin
        assert (origin.address, origin.port) == ("192.168.1.9", 1234)

    def test_implicit_tls_offers_no_starttls(self) -> None:
        wire = MemoryWire(self.premises.factory.buildProtocol(None), secure=True)
        wire.send(HELLO)
        assert b"250-STARTTLS" not in wire.lines(20)

    def test_a_certificate_that_comes_later_is_offered(self) -> None:
        self.premises.context = None
        self.wire.send(HELLO)
        assert b"250-STARTTLS" not in self.wire.lines(20)
        self.premises.context = object()
        self.wire.send(HELLO)
        assert b"250-STARTTLS" in self.wire.lines(20)

    def test_the_size_offered_is_the_current_limit(self) -> None:
        self.open({"size": "77"})
        self.wire.send(HELLO)
        assert b"250-SIZE 77" in self.wire.lines(20)


class SocketTests(TestCase):
    """Over TCP, with real TLS."""

    timeout = 60

    def setUp(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("mail.example.lan")
        pem = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
        certificate = PrivateCertificate.loadPEM(pem)
        self.context = CertificateOptions(
            privateKey=certificate.privateKey.original, certificate=certificate.original
        )

    def listen(self, factory: Factory) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def premises(self, settings: dict[str, str]) -> Premises:
        lan = "127.0.0.1/32" if settings.get("relay") == "yes" else "192.0.2.0/24"
        premises = Premises(settings, Bounds(grace=0.5), lan, reactor)
        if settings.get("tls") != "no":
            premises.context = self.context
        self.addCleanup(lambda: Deferred.fromCoroutine(premises.factory.drain()))
        return premises

    async def test_starttls_injection(self) -> None:
        """Nothing that was sent before the handshake is done in it, be it a line or the beginning of one."""
        for injected in (b"MAIL FROM:<injected@elsewhere.example>\r\n", b"RSET "):
            premises = self.premises({})
            port = self.listen(premises.factory)
            received = await deferToThread(_converse, port, HELLO, b"STARTTLS\r\n" + injected)
            assert not received.endswith(b"TLS\r\n"), received
            assert b"220 2.0.0" not in received
            await premises.factory.drain()
            assert premises.spool.drafts == []

    async def test_implicit_tls(self) -> None:
        premises = self.premises({})
        tls = TLSMemoryBIOFactory(self.context, False, premises.factory)
        dialogue = parse(
            "implicit-tls",
            "# TLS from the first octet\nC! tls\nS: 220 *\nC: HELO x\nS: 250 *\nC: STARTTLS\nS: 503 *\n"
            "C: MAIL FROM:<>\nS: 250 *\nC: RCPT TO:<alice@example.lan>\nS: 250 *\nC: DATA\nS: 354 *\n"
            "C: .\nS: 250 *\nC: QUIT\nS: 221 *\nS! closed\n",
        )
        await deferToThread(play_socket, dialogue, "127.0.0.1", self.listen(tls))
        await premises.factory.drain()
        assert premises.spool.messages[0][0].origin.tls.startswith("TLSv1.")

    async def test_garbage_instead_of_a_handshake(self) -> None:
        premises = self.premises({})
        port = self.listen(premises.factory)
        received = await deferToThread(_converse, port, HELLO, b"STARTTLS\r\n", b"EHLO again\r\n")
        assert b"220 2.0.0 Ready" in received
        await premises.factory.drain()


def _converse(port: int, *pieces: bytes) -> bytes:
    """Send each piece and read until a reply is whole; then read to the end."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        received += connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
            while not (data := connection.recv(65536)).endswith(b"\r\n") and data:
                received += data
            received += data
        try:
            while data := connection.recv(65536):
                received += data
        except (ConnectionError, ssl.SSLError):
            pass
    return received

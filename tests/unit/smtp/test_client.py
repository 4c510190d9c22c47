"""One connection to a mail host: order, bounds, deadlines, TLS upgrade; and what we rely on from Twisted."""

import inspect
from collections.abc import Coroutine
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.mail.smtp import ESMTPClient
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.model.reply import Reply
from mailserver.net.tls import ClientTLS
from mailserver.smtp.client import Conversation, Deadlines
from mailserver.smtp.trouble import HostTrouble, TLSTrouble, in_one_line, judge


class Line(StringTransport):
    """A transport that tells of aborts and of startTLS."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = 0
        self.context: object = None
        self.handle: Any = None

    def abortConnection(self) -> None:
        self.aborted += 1

    def startTLS(self, context: object) -> None:
        self.context = context

    def getHandle(self) -> Any:
        return self.handle


class Handle:
    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"


class Peer:
    """A conversation on a transport that the test holds the other end of."""

    def __init__(self, deadlines: Deadlines | None = None, until: float = 1e9) -> None:
        self.clock = Clock()
        self.line = Line()
        creator: Any = ClientTLS().creator("mx.example.org")
        self.conversation = Conversation(
            b"mail.example.lan", creator, deadlines or Deadlines(), self.clock, until
        )
        self.conversation.makeConnection(self.line)
        self.says = self.conversation.dataReceived

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> "Outcome":
        return Outcome(coroutine)

    def heard(self) -> bytes:
        data: bytes = self.line.value()
        self.line.clear()
        return data

    def hangs_up(self, reason: Exception | None = None) -> None:
        self.conversation.connectionLost(Failure(reason or ConnectionDone()))

    def greeted(self) -> "Peer":
        self.says(b"220 mx\r\n")
        self.begin(self.conversation.answer("the connection", 1)).result()
        return self


class Outcome:
    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.results: list[Any] = []
        self.deferred = Deferred.fromCoroutine(coroutine)
        _ = self.deferred.addBoth(self.results.append)

    @property
    def waits(self) -> bool:
        return not self.results

    def result(self) -> Any:
        (result,) = self.results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def trouble(self) -> HostTrouble:
        with pytest.raises(HostTrouble) as caught:
            self.result()
        return caught.value


def test_what_we_rely_on_from_twisted() -> None:
    """If one of these fails, a new Twisted has changed under us: read its smtp.py again."""
    assert list(inspect.signature(ESMTPClient.__init__).parameters)[:3] == [
        "self",
        "secret",
        "contextFactory",
    ]
    assert inspect.signature(ESMTPClient.sendLine).parameters.keys() == {"self", "line"}
    peer = Peer()
    assert peer.conversation.identity == b"mail.example.lan"
    assert peer.conversation.context is not None
    # The line writer adds CRLF and writes once.
    peer.greeted().conversation.sendLine(b"NOOP")
    assert peer.heard() == b"NOOP\r\n"
    # Everything else of the base hangs on lineReceived, which only its dataReceived calls, and its
    # connectionMade, connectionLost: all three are ours.
    for name in ("dataReceived", "connectionMade", "connectionLost", "sendLine"):
        assert name in vars(Conversation)


def test_interfaces() -> None:
    conversation = Peer().conversation
    assert verifyObject(IPushProducer, conversation)
    assert verifyObject(IHandshakeListener, conversation)


class TestReplies:
    def test_byte_by_byte_and_of_many_lines(self) -> None:
        peer = Peer()
        answer = peer.begin(peer.conversation.answer("the connection", 60))
        for octet in b"220-mx.example.org\r\n220-be nice\r\n220 please\r\n":
            assert answer.waits
            peer.says(bytes([octet]))
        assert answer.result() == Reply(220, "", "mx.example.org\nbe nice\nplease")

    def test_one_write_for_many_commands_and_answers_in_order(self) -> None:
        peer = Peer().greeted()
        peer.conversation.say(b"MAIL", b"RCPT", b"DATA")
        assert peer.heard() == b"MAIL\r\nRCPT\r\nDATA\r\n"
        peer.says(b"250 a\r\n550 b\r\n354 c\r\n")
        codes = [peer.begin(peer.conversation.answer("x", 1)).result().code for _ in range(3)]
        assert codes == [250, 550, 354]
        assert peer.conversation.is_idle

    @pytest.mark.parametrize("line", [b"RCPT TO:<a\r\nDATA>", b"a\nb", b"a\rb", b"a\0b"])
    def test_no_line_goes_out_that_is_two(self, line: bytes) -> None:
        peer = Peer().greeted()
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            peer.conversation.say(b"NOOP", line)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            peer.conversation.sendLine(line)
        assert peer.heard() == b""

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"hello\r\n",
            b"2500 x\r\n",
            b"25 x\r\n",
            b"+25 x\r\n",
            b"\r\n",
            b"250-a\r\n251 b\r\n",
            b"220 x\n\n\r\n",
        ],
    )
    def test_nonsense_ends_it(self, nonsense: bytes) -> None:
        peer = Peer()
        answer = peer.begin(peer.conversation.answer("the connection", 60))
        peer.says(nonsense)
        trouble = answer.trouble()
        assert trouble.reply is None
        assert peer.line.aborted

    def test_endless_greeting_is_cut(self) -> None:
        for piece in (b"x" * 4096, b"220-" + b"x" * 100 + b"\r\n"):
            peer = Peer()
            answer = peer.begin(peer.conversation.answer("the connection", 60))
            fed = 0
            while answer.waits:
                peer.says(piece)
                fed += len(piece)
                assert fed < 100_000
            assert answer.trouble().status == "4.5.0"
            assert peer.line.aborted

    def test_what_was_answered_before_nonsense_counts(self) -> None:
        peer = Peer().greeted()
        answer = peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 60))
        peer.says(b"250 taken\r\nnonsense\r\n")
        assert answer.result().code == 250
        assert not peer.conversation.is_idle
        assert peer.line.aborted

    def test_what_was_answered_before_the_end_counts(self) -> None:
        peer = Peer().greeted()
        peer.conversation.say(b"NOOP")
        peer.says(b"250 taken\r\n")
        peer.hangs_up()
        assert peer.begin(peer.conversation.answer("NOOP", 60)).result().code == 250
        assert "connection lost" in peer.begin(peer.conversation.answer("NOOP", 60)).trouble().text

    def test_a_reply_nobody_asked_for_ends_it(self) -> None:
        peer = Peer().greeted()
        peer.says(b"250 and another thing\r\n")
        assert peer.line.aborted
        trouble = peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 60)).trouble()
        assert "out of turn: 250 and another thing" in trouble.text
        assert trouble.reply is None

    def test_421_is_trouble_wherever_it_comes(self) -> None:
        peer = Peer().greeted()
        answer = peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 60))
        peer.says(b"421 4.3.2 closing\r\n")
        assert answer.trouble().outcome(Scope.HOST, "mx") == Delayed(
            Scope.HOST, "421 4.3.2 closing", "4.3.2", "mx", 421
        )
        assert peer.line.aborted

    def test_421_that_came_before_our_command(self) -> None:
        peer = Peer().greeted()
        peer.says(b"421 idle too long\r\n")
        peer.hangs_up()
        assert peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 60)).trouble().reply == Reply(
            421, "", "idle too long"
        )


class TestDeadlines:
    def test_no_answer(self) -> None:
        peer = Peer()
        answer = peer.begin(peer.conversation.answer("the connection", 300))
        peer.clock.advance(299)
        assert answer.waits
        peer.clock.advance(2)
        assert answer.trouble().text == "no answer to the connection within 301 s"
        assert peer.line.aborted
        assert not peer.clock.getDelayedCalls()

    def test_dripping_bytes_do_not_move_it(self) -> None:
        peer = Peer()
        answer = peer.begin(peer.conversation.answer("the connection", 300))
        for octet in b"220-" + b"x" * 95:
            peer.says(bytes([octet]))
            peer.clock.advance(3)
        assert answer.waits
        peer.clock.advance(4)
        assert answer.trouble().status == "4.4.2"

    def test_the_whole_attempt(self) -> None:
        peer = Peer(until=1000)
        peer.greeted()
        for _ in range(4):
            answer = peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 300))
            peer.clock.advance(240)
            peer.says(b"250 ok\r\n")
            answer.result()
        answer = peer.begin(peer.conversation.ask(b"NOOP", "NOOP", 300))
        peer.clock.advance(41)
        assert answer.trouble().status == "4.4.2"

    def test_answered_in_time_leaves_no_timer(self) -> None:
        peer = Peer()
        peer.greeted()
        assert not peer.clock.getDelayedCalls()

    def test_cancelled_leaves_no_timer(self) -> None:
        peer = Peer()
        answer = peer.begin(peer.conversation.answer("the connection", 300))
        answer.deferred.cancel()
        with pytest.raises(CancelledError):
            answer.result()
        peer.says(b"220 late\r\n")
        peer.clock.advance(301)
        assert not peer.line.aborted  # nobody waited any more
        peer.hangs_up()
        assert not peer.clock.getDelayedCalls()


class Pipe(Connection):
    """A connection whose kernel takes so many octets at a time."""

    def __init__(self) -> None:
        FileDescriptor.__init__(self, reactor=MemoryReactor())
        self.connected = True
        self.taken = b""
        self.room: list[Any] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to set."""

    def writeSomeData(self, data: bytes) -> Any:
        room = self.room.pop(0) if self.room else len(data)
        if isinstance(room, int):
            self.taken += bytes(data[:room])
            return min(room, len(data))
        return room


class TestAtOnce:
    """What is said goes to the kernel at once; nothing ever overtakes what the kernel did not take."""

    def conversation(self) -> tuple[Conversation, Pipe]:
        pipe = Pipe()
        conversation = Conversation(b"mail.example.lan", None, Deadlines(), Clock(), 1e9)
        conversation.makeConnection(pipe)
        conversation.dataReceived(b"220 mx\r\n")
        assert Outcome(conversation.answer("the connection", 1)).result().code == 220
        return conversation, pipe

    def test_no_turn_of_the_reactor_is_waited_for(self) -> None:
        conversation, pipe = self.conversation()
        conversation.say(b"NOOP", b"NOOP")
        assert pipe.taken == b"NOOP\r\nNOOP\r\n"
        assert not pipe.reactor.getWriters()

    def test_what_the_kernel_does_not_take_goes_first_when_it_does(self) -> None:
        conversation, pipe = self.conversation()
        pipe.room = [3, 0]
        conversation.say(b"MAIL FROM:<>")
        conversation.say(b"RCPT TO:<a@example.org>")
        conversation.finish(b".\r\n")
        assert pipe.taken == b"MAI"
        assert pipe.reactor.getWriters() == [pipe]
        while pipe.reactor.getWriters():
            pipe.room = [5]
            assert pipe.doWrite() is None
        assert pipe.taken == b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n.\r\n"
        conversation.say(b"NOOP")
        assert pipe.taken.endswith(b".\r\nNOOP\r\n")

    def test_an_early_answer_lets_nothing_overtake(self) -> None:
        """A host that answers the final dot before it has it may be asked on; the rest goes out before."""
        conversation, pipe = self.conversation()
        pipe.room = [2, 0]
        conversation.finish(b"0123456789\r\n.\r\n")
        conversation.dataReceived(b"552 too much\r\n")
        conversation.say(b"RSET")
        assert pipe.taken == b"01"
        while pipe.reactor.getWriters():
            assert pipe.doWrite() is None
        assert pipe.taken == b"0123456789\r\n.\r\nRSET\r\n"

    def test_a_connection_that_is_gone_is_left_to_the_reactor(self) -> None:
        conversation, pipe = self.conversation()
        pipe.room = [ConnectionLost(), ConnectionLost()]
        conversation.say(b"NOOP")
        assert pipe.reactor.getWriters() == [pipe]
        conversation.connectionLost(Failure(ConnectionLost()))
        with pytest.raises(HostTrouble):
            conversation.say(b"NOOP")

    def test_what_surrounds_a_connection_is_not_passed_by(self) -> None:
        """A wrapper, as of TLS, shows all that the connection in it has, and must see what is said."""

        class Wrapper(Line):
            def writeSomeData(self, data: bytes) -> int:
                raise AssertionError("past the wrapper")

        conversation = Conversation(b"mail.example.lan", None, Deadlines(), Clock(), 1e9)
        line = Wrapper()
        conversation.makeConnection(line)
        conversation.say(b"NOOP")
        assert line.value() == b"NOOP\r\n"


class TestContent:
    def test_waits_while_the_host_does_not_read(self) -> None:
        peer = Peer().greeted()
        assert peer.begin(peer.conversation.stream(b"a" * 10)).result() is None
        peer.conversation.pauseProducing()
        second = peer.begin(peer.conversation.stream(b"b" * 10))
        assert second.waits
        peer.conversation.resumeProducing()
        assert second.result() is None

    def test_a_host_that_never_reads(self) -> None:
        peer = Peer().greeted()
        peer.conversation.pauseProducing()
        stream = peer.begin(peer.conversation.stream(b"x"))
        peer.clock.advance(181)
        assert "no content taken" in stream.trouble().text
        assert peer.line.aborted

    def test_a_reply_stops_it(self) -> None:
        peer = Peer().greeted()
        peer.conversation.pauseProducing()
        stream = peer.begin(peer.conversation.stream(b"x"))
        peer.says(b"552 5.3.4 enough\r\n")
        assert stream.trouble().reply == Reply(552, "5.3.4", "enough")
        assert peer.line.aborted
        with pytest.raises(HostTrouble):
            peer.conversation.finish(b".\r\n")

    def test_lost_meanwhile(self) -> None:
        peer = Peer().greeted()
        peer.conversation.pauseProducing()
        stream = peer.begin(peer.conversation.stream(b"x"))
        peer.hangs_up(ConnectionLost())
        assert "connection lost" in stream.trouble().text


class TestTLS:
    def said_starttls(self, replies: bytes) -> Peer:
        peer = Peer().greeted()
        peer.conversation.extensions = {"STARTTLS": "", "PIPELINING": ""}
        answer = peer.begin(peer.conversation.ask(b"STARTTLS", "STARTTLS", 60))
        peer.says(replies)
        assert answer.result().code == 220
        return peer

    def test_handshake(self) -> None:
        peer = self.said_starttls(b"220 go\r\n")
        secure = peer.begin(peer.conversation.secure())
        assert peer.line.context is peer.conversation.context
        assert peer.conversation.extensions == {}
        assert secure.waits
        peer.line.handle = Handle()
        peer.conversation.handshakeCompleted()
        assert secure.result() is None
        assert peer.conversation.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"
        peer.hangs_up()
        assert not peer.clock.getDelayedCalls()

    @pytest.mark.parametrize(
        "injected", [b"250-PIPELINING\r\n250 AUTH PLAIN\r\n", b"2", b"250-", b"250-half\r\n", b"\x16\x03\x01"]
    )
    def test_anything_behind_the_220_is_an_attack(self, injected: bytes) -> None:
        peer = self.said_starttls(b"220 go\r\n" + injected)
        trouble = peer.begin(peer.conversation.secure()).trouble()
        assert not isinstance(trouble, TLSTrouble)  # which would be tried again in clear
        assert trouble.outcome(Scope.HOST, "mx").code == 0
        assert peer.line.context is None
        assert peer.line.aborted

    def test_handshake_that_breaks(self) -> None:
        peer = self.said_starttls(b"220 go\r\n")
        secure = peer.begin(peer.conversation.secure())
        peer.hangs_up(SSL.Error([("ssl", "", "wrong version number")]))
        trouble = secure.trouble()
        assert isinstance(trouble, TLSTrouble)
        assert "wrong version number" in trouble.text

    def test_handshake_that_stalls(self) -> None:
        peer = self.said_starttls(b"220 go\r\n")
        secure = peer.begin(peer.conversation.secure())
        peer.clock.advance(61)
        assert isinstance(secure.trouble(), TLSTrouble)
        assert peer.line.aborted


class TestLeaving:
    def test_quit_is_answered(self) -> None:
        peer = Peer().greeted()
        peer.conversation.leave()
        assert peer.heard() == b"QUIT\r\n"
        peer.says(b"221 bye\r\n")
        assert peer.line.disconnecting
        peer.hangs_up()
        assert not peer.clock.getDelayedCalls()
        assert peer.conversation.gone.called

    def test_quit_is_not_answered(self) -> None:
        peer = Peer().greeted()
        peer.conversation.leave()
        peer.clock.advance(4.9)
        assert not peer.line.aborted
        peer.clock.advance(0.2)
        assert peer.line.aborted

    def test_close_that_is_not_answered(self) -> None:
        peer = Peer().greeted()
        peer.conversation.leave()
        peer.says(b"221 bye\r\n")
        peer.clock.advance(5)
        assert peer.line.aborted

    def test_after_trouble_nothing_is_said(self) -> None:
        peer = Peer().greeted()
        peer.says(b"421 no\r\n")
        peer.conversation.leave()
        assert peer.heard() == b""
        assert peer.line.aborted


class TestWords:
    @pytest.mark.parametrize(
        ("reply", "outcome"),
        [
            (
                Reply(550, "5.1.1", "no such user"),
                Failed(Scope.MESSAGE, "550 5.1.1 no such user", "5.1.1", "mx", 550),
            ),
            (Reply(450, "", "later"), Delayed(Scope.MESSAGE, "450 later", "4.0.0", "mx", 450)),
            (Reply(554, "", ""), Failed(Scope.MESSAGE, "554", "5.0.0", "mx", 554)),
            (Reply(354, "", "what"), Delayed(Scope.MESSAGE, "354 what", "4.0.0", "mx", 354)),
        ],
    )
    def test_judge(self, reply: Reply, outcome: object) -> None:
        assert judge(reply, Scope.MESSAGE, "mx") == outcome

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("a\r\nb\tc", "a b c"),
            ("\x1b[31mred\x07", "[31mred"),
            ("a\u2028b\u202ec\x85d", "a b c d"),
            ("  much   space ", "much space"),
            ("x" * 600, "x" * 499 + "…"),
        ],
    )
    def test_in_one_line(self, text: str, line: str) -> None:
        assert in_one_line(text) == line

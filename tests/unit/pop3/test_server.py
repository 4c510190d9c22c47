"""POP3 sessions, in memory and over loopback: order, limits, and every way in which one can break off."""

import os
import poplib
import shutil
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.threads import deferToThread
from twisted.mail import pop3
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailserver.domains.realm import LockedOut
from mailserver.interfaces import Account, MaildropInUse, StorageTrouble
from mailserver.mailboxes.store import MailStore
from mailserver.net.session import Bounds, Session
from mailserver.pop3 import commands
from mailserver.pop3.authorization import Authorization
from mailserver.pop3.server import BOUNDS, POP3Server
from mailserver.pop3.transaction import Transaction
from mailserver.threads import Busy
from tests.support.dialogue import MemoryWire
from tests.support.fakes import FakeContent
from tests.support.postoffice import PostOffice, at_once, fill, left_in

GREETING = b"+OK mail.example.lan POP3 server ready\r\n"
LOGIN = b"USER alice\r\nPASS secret\r\n"


class Case(TestCase):
    def setUp(self) -> None:
        self.box = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.box, ignore_errors=True)
        fill(self.box)
        self.office = PostOffice(self.box)

    def connect(self) -> MemoryWire:
        wire = MemoryWire(self.office.factory.buildProtocol(None), "192.0.2.7")
        assert wire.rest(False) == GREETING
        return wire

    def log_in(self) -> MemoryWire:
        wire = self.connect()
        assert self.say(wire, LOGIN) == b"+OK Send PASS\r\n+OK 4 messages\r\n"
        return wire

    def say(self, wire: MemoryWire, data: bytes) -> bytes:
        wire.send(data)
        return wire.rest(False)

    def big(self, octets: int = 1_000_000) -> bytes:
        """Put one big message in the box; what RETR sends of it, unstuffed."""
        text = b"Subject: big\n\n" + b"".join(b".%d\n" % n for n in range(octets // 7))
        (self.box / "new" / "5.big").write_bytes(text)
        return text.replace(b"\n", b"\r\n")


class Base(Case):
    """What we rely on in twisted.mail, and what must stay dead."""

    def test_the_base_has_no_command_that_we_do_not_know(self) -> None:
        theirs = {name for name in vars(pop3.POP3) if name.startswith("do_")}
        parts = (POP3Server, Authorization, Transaction)
        ours = {name for part in parts for name in vars(part) if name.startswith("do_")}
        assert theirs - ours == {"do_APOP", "do_LAST", "do_RPOP"}
        assert ours - theirs == {"do_LANG", "do_STLS", "do_UTF8"}
        assert {command.method for command in commands._COMMANDS.values()} == ours

    def test_the_session_stands_in_front_of_the_base(self) -> None:
        for name in ("dataReceived", "connectionLost", "makeConnection", "pauseProducing"):
            owner = next(base for base in POP3Server.__mro__ if name in vars(base))
            assert owner is Session or not hasattr(pop3.POP3, name) or name == "makeConnection", (name, owner)
        assert POP3Server.connectionLost is Session.connectionLost
        assert POP3Server.dataReceived is Session.dataReceived
        assert not IHalfCloseableProtocol.implementedBy(POP3Server)

    def test_nothing_of_the_base_runs_in_a_session(self) -> None:
        def dead(*_: Any, **__: Any) -> None:
            raise AssertionError("the base class ran")

        for name, value in vars(pop3.POP3).items():
            if callable(value) and not isinstance(value, type) and not name.startswith("__"):
                self.patch(pop3.POP3, name, dead)
        wire = self.log_in()
        for verb in (
            b"CAPA",
            b"STAT",
            b"LIST",
            b"LIST 1",
            b"UIDL",
            b"UIDL 1",
            b"RETR 1",
            b"TOP 1 1",
            b"DELE 1",
        ):
            assert self.say(wire, verb + b"\r\n").startswith(b"+OK"), verb
        for verb in (b"APOP a b", b"AUTH PLAIN", b"LAST", b"RPOP a", b"state_COMMAND", b"__class__"):
            assert self.say(wire, verb + b"\r\n").startswith(b"-ERR"), verb
        assert self.say(wire, b"RSET\r\nNOOP\r\nDELE 2\r\nQUIT\r\n").count(b"+OK") == 4
        wire.drop()


class Logins(Case):
    def test_a_slow_login_holds_what_is_pipelined_behind_it(self) -> None:
        self.office.gate = defer.Deferred()
        wire = self.connect()
        assert self.say(wire, LOGIN + b"STAT\r\nQUIT\r\n") == b"+OK Send PASS\r\n"
        self.office.gate.callback(None)
        assert wire.rest(True) == b"+OK 4 messages\r\n+OK 4 104\r\n+OK Bye\r\n"

    def test_the_connection_goes_before_the_login_is_done(self) -> None:
        self.office.gate = defer.Deferred()
        wire = self.connect()
        self.say(wire, LOGIN)
        wire.drop()
        assert self.office.logouts == 0
        self.office.gate.callback(None)
        assert (len(self.office.drops), self.office.logouts) == (1, 1)
        self.office.gate = None
        self.log_in().drop()
        assert (len(self.office.drops), self.office.logouts) == (2, 2)

    def test_the_connection_goes_and_then_the_login_fails(self) -> None:
        for trouble in (StorageTrouble("disk"), RuntimeError("bug")):
            self.office.gate, self.office.trouble = defer.Deferred(), trouble
            wire = self.connect()
            self.say(wire, LOGIN)
            wire.drop()
            self.office.gate.callback(None)

    def test_troubles(self) -> None:
        wire = self.connect()
        for trouble, code in (
            (MaildropInUse(), b"[IN-USE]"),
            (StorageTrouble("/var/secret/path"), b"[SYS/TEMP]"),
            (Busy(), b"[SYS/TEMP]"),
            (RuntimeError("db password=hunter2"), b"[SYS/TEMP]"),
            (NotImplementedError("no avatar"), b"[SYS/PERM]"),
        ):
            self.office.trouble = trouble
            reply = self.say(wire, LOGIN).partition(b"\r\n")[2]
            assert reply.startswith(b"-ERR " + code), reply
            assert b"secret" not in reply
            assert b"hunter2" not in reply
        self.flushLoggedErrors(RuntimeError)
        self.office.trouble = None
        assert self.say(wire, LOGIN).endswith(b"+OK 4 messages\r\n")

    def test_the_third_wrong_password_closes(self) -> None:
        wire = self.connect()
        for number, user in enumerate((b"alice", b"nobody", b"alice")):
            reply = self.say(wire, b"USER %b\r\nPASS wrong\r\nNOOP\r\n" % user)
            assert reply.startswith(b"+OK Send PASS\r\n-ERR [AUTH] Wrong name or password\r\n")
            assert reply.endswith(b"-ERR Log in first\r\n") is (number < 2)
        assert wire.is_closed()
        wire.drop()

    def test_locked_out(self) -> None:
        """RFC 3206 §4: not [AUTH], for the password may be right."""
        self.office.trouble = LockedOut()
        wire = self.connect()
        assert self.say(wire, LOGIN).endswith(b"-ERR [SYS/TEMP] Too many failed logins, try again later\r\n")
        assert wire.is_closed()
        wire.drop()

    def test_what_the_checker_is_told(self) -> None:
        wire = self.connect()
        self.say(wire, b"USER alice\r\n")
        assert b"NUL" in self.say(wire, b"PASS secret\0\r\n")
        assert not self.office.asked
        self.say(wire, b"AUTH PLAIN AHNwYWNlcwAgdHdvIHdvcmRzIA==\r\n")
        (login,) = self.office.asked
        assert (login.service, login.client, login.tls) == ("pop3", "192.0.2.7", False)
        assert (login.username, login.password) == (b"spaces", b" two words ")
        assert "two words" not in repr(login)
        wire.drop()

    def test_a_login_too_early(self) -> None:
        """RFC 2449 §6.5: looked at after the password and before the lock; a refusal starts no clock."""
        self.office.delay.seconds = 90
        self.log_in().drop()
        wire = self.connect()
        for _ in range(3):
            self.office.clock.advance(29)
            early = self.say(wire, LOGIN)
            assert early.endswith(b"-ERR [LOGIN-DELAY] The last login was less than 90 seconds ago\r\n")
        assert len(self.office.drops) == 1
        self.office.clock.advance(4)
        assert self.say(wire, LOGIN).endswith(b"+OK 4 messages\r\n")
        assert b"LOGIN-DELAY 90\r\n" in self.say(wire, b"CAPA\r\n")
        wire.drop()

    def test_a_session_that_was_cut_off_holds_the_lock_no_longer_than_the_deadline(self) -> None:
        """No FIN, no RST: the peer is just gone."""
        first = self.log_in()
        self.say(first, b"DELE 1\r\n")
        self.office.clock.advance(599)
        other = self.connect()
        assert b"-ERR [IN-USE]" in self.say(other, LOGIN)
        self.office.clock.advance(2)
        self.office.clock.advance(BOUNDS.grace)
        assert first.transport.disconnected
        first.drop()
        assert self.say(other, LOGIN).endswith(b"+OK 4 messages\r\n")
        other.drop()
        assert left_in(self.box) == "1,2,3,4"

    def test_two_sessions_on_one_drop(self) -> None:
        first, second = self.log_in(), self.connect()
        assert b"-ERR [IN-USE]" in self.say(second, LOGIN)
        self.say(first, b"DELE 1\r\n")
        first.drop()
        assert self.say(second, LOGIN + b"STAT\r\n").endswith(b"+OK 4 104\r\n")

    def test_logout_that_fails_is_logged_and_done_once(self) -> None:
        wire = self.log_in()
        self.patch(self.office, "_logout", lambda drop: 1 / 0)
        wire.send(b"QUIT\r\n")
        wire.drop()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


def fail(trouble: Exception) -> Any:
    raise trouble


class Transactions(Case):
    def test_sizes_are_exactly_what_is_sent(self) -> None:
        wanted = self.big()
        wire = self.connect()
        assert self.say(wire, LOGIN).endswith(b"+OK 5 messages\r\n")
        rows = self.say(wire, b"LIST\r\n").split(b"\r\n")[1:-2]
        for row in rows:
            number, size = row.split()
            head, _, rest = self.say(wire, b"RETR %b\r\n" % number).partition(b"\r\n")
            assert head == b"+OK %b octets" % size
            assert rest == b".\r\n" or rest.endswith(b"\r\n.\r\n")
            text = (b"\r\n" + rest[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
            assert len(text) == int(size)
        assert text == wanted

    def test_a_small_message_is_one_write(self) -> None:
        wire = self.log_in()
        writes: list[bytes] = []
        self.patch(wire.transport, "write", writes.append)
        wire.send(b"RETR 2\r\n")
        assert writes == [b"+OK 41 octets\r\nSubject: dots\r\n\r\n..\r\n...two\r\n..three\r\n.....\r\n.\r\n"]

    def test_a_big_message_waits_for_a_reader_and_holds_one_piece(self) -> None:
        wanted = self.big(3_000_000)
        wire = self.connect()
        self.say(wire, LOGIN)
        wire.transport.producer.pauseProducing()
        wire.transport.producer.resumeProducing()
        pieces: list[int] = []

        def write(data: bytes) -> None:
            pieces.append(len(data))
            wire.transport.io.write(data)
            wire.protocol.pauseProducing()

        self.patch(wire.transport, "write", write)
        wire.send(b"RETR 5\r\n")
        for _ in range(200):
            wire.protocol.resumeProducing()
        assert max(pieces) < 200_000
        assert len(wire.rest(False).replace(b"\r\n..", b"\r\n.")) == len(wanted) + len(
            b"+OK %d octets\r\n.\r\n" % len(wanted)
        )

    def test_a_reader_that_stops_reading_loses_the_session_and_the_lock(self) -> None:
        self.big()
        wire = self.connect()
        self.say(wire, LOGIN)
        self.patch(wire.transport, "write", lambda data: wire.protocol.pauseProducing())
        wire.send(b"RETR 5\r\nDELE 5\r\nQUIT\r\n")
        self.office.clock.advance(599)
        assert not wire.transport.disconnected
        self.office.clock.advance(2)
        assert wire.transport.disconnected
        wire.drop()
        assert self.office.logouts == 1
        assert left_in(self.box) == "1,2,3,4,5"

    def test_lost_in_a_message_with_dele_and_quit_behind_it(self) -> None:
        self.big()
        wire = self.connect()
        self.say(wire, LOGIN)
        self.patch(wire.transport, "write", lambda data: wire.protocol.pauseProducing())
        wire.send(b"DELE 1\r\nRETR 5\r\nDELE 5\r\nQUIT\r\n")
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        assert self.office.logouts == 1
        assert left_in(self.box) == "1,2,3,4,5"
        assert not [fd for fd in os.listdir("/proc/self/fd") if "5.big" in link(fd)]

    def test_a_message_that_has_vanished(self) -> None:
        wire = self.log_in()
        for path in (self.box / "cur").iterdir():
            path.unlink()
        assert b"-ERR [SYS/TEMP]" in self.say(wire, b"RETR 1\r\n")
        assert b"-ERR [SYS/TEMP]" in self.say(wire, b"TOP 2 0\r\n")
        assert self.say(wire, b"DELE 1\r\nDELE 2\r\nQUIT\r\n").endswith(b"+OK Bye, 2 removed\r\n")

    def test_a_message_that_breaks_off_is_never_taken_for_whole(self) -> None:
        self.big()
        for broken in (StorageTrouble("I/O error"), RuntimeError("bug")):
            wire = self.connect()
            self.say(wire, LOGIN)
            calls = 0

            async def after_three(*arguments: Any, broken: Exception = broken) -> Any:
                nonlocal calls
                calls += 1
                if calls > 3:
                    raise broken
                return await at_once(*arguments)

            self.patch(self.office.drops[-1]._reading, "in_thread", after_three)
            assert not self.say(wire, b"RETR 5\r\nNOOP\r\n").endswith(b"+OK\r\n")
            assert wire.transport.disconnected
            wire.drop()
        self.flushLoggedErrors(RuntimeError)

    def test_what_cannot_be_removed_is_said_and_the_lock_is_let_go(self) -> None:
        for trouble in (StorageTrouble("1 of 2"), RuntimeError("bug")):
            wire = self.log_in()
            self.patch(self.office.drops[-1], "sync", lambda trouble=trouble: defer.fail(trouble))
            reply = self.say(wire, b"DELE 1\r\nQUIT\r\n")
            assert reply.endswith(b"-ERR [SYS/TEMP] Some deleted messages could not be removed\r\n")
            assert wire.is_closed()
            wire.drop()
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        assert self.office.logouts == 2

    def test_quit_waits_for_the_disk(self) -> None:
        removing: defer.Deferred[None] = defer.Deferred()
        wire = self.log_in()
        self.patch(self.office.drops[-1], "sync", lambda: removing)
        assert self.say(wire, b"DELE 1\r\nQUIT\r\n") == b"+OK Deleted\r\n"
        removing.callback(None)
        assert wire.rest(True) == b"+OK Bye, 1 removed\r\n"
        wire.drop()
        assert self.office.logouts == 1

    def test_an_idle_session_ends_without_a_word_and_deletes_nothing(self) -> None:
        wire = self.log_in()
        self.say(wire, b"DELE 1\r\n")
        self.office.clock.advance(601)
        assert wire.rest(True) == b""
        assert wire.is_closed()
        wire.drop()
        assert left_in(self.box) == "1,2,3,4"

    def test_a_long_listing_goes_in_pieces(self) -> None:
        for number in range(10, 30010):
            (self.box / "new" / f"{number}.x,S=1,W=2").touch()
        wire = self.connect()
        self.say(wire, LOGIN)
        pieces: list[int] = []
        self.patch(
            wire.transport, "write", lambda data: (pieces.append(len(data)), wire.transport.io.write(data))
        )
        rows = self.say(wire, b"DELE 7\r\nUIDL\r\n").split(b"\r\n")
        assert len(rows) == 1 + 1 + 30003 + 1 + 1
        assert rows[2:4] == [b"1 1.one", b"2 2.dots"]
        assert rows[-3] == b"30004 30009.x"
        assert len(pieces) >= 4

    def test_the_server_stops(self) -> None:
        wire = self.log_in()
        self.say(wire, b"DELE 1\r\n")
        drained = defer.ensureDeferred(self.office.factory.drain())
        assert wire.rest(True).startswith(b"-ERR [SYS/TEMP]")
        wire.drop()
        assert drained.called
        assert left_in(self.box) == "1,2,3,4"

    def test_a_client_that_never_logs_in(self) -> None:
        wire = self.connect()
        for _ in range(15):
            self.office.clock.advance(40)
            wire.send(b"CAPA\r\n")
        assert wire.is_closed()
        wire.drop()

    def test_a_session_that_is_lively_goes_on(self) -> None:
        wire = self.log_in()
        for _ in range(15):
            self.office.clock.advance(599)
            wire.send(b"NOOP\r\n")
        assert not wire.is_closed()
        wire.drop()

    def test_a_flood_of_junk_without_an_end(self) -> None:
        wire = self.connect()
        for _ in range(40):
            wire.send(b"x" * 65536)
        assert wire.is_closed()
        wire.drop()


def link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


class Sockets(Case):
    """Over loopback, where TCP cuts off what it likes."""

    def setUp(self) -> None:
        super().setUp()
        self.office = PostOffice(self.box, reactor, bounds=Bounds(idle=600))
        port = reactor.listenTCP(0, self.office.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def end(self) -> None:
        await self.office.factory.drain()

    async def test_reset_in_mid_message_with_dele_and_quit_behind_it(self) -> None:
        self.big(20_000_000)

        def client() -> None:
            peer = socket.create_connection(("127.0.0.1", self.port), 10)
            peer.sendall(LOGIN + b"DELE 1\r\nRETR 5\r\nDELE 5\r\nQUIT\r\n")
            got = 0
            while got < 100_000:  # so that the login is done and the message on its way
                got += len(peer.recv(65536))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

        await deferToThread(client)
        await self.end()
        assert left_in(self.box) == "1,2,3,4,5"
        assert self.office.logouts == 1

    async def test_vanished_without_a_word_with_megabytes_in_the_kernel(self) -> None:
        """All that fits the kernel's buffers is as good as sent; the peer has read next to nothing."""
        self.big(1_500_000)

        def client() -> None:
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.connect(("127.0.0.1", self.port))
                peer.sendall(LOGIN + b"RETR 5\r\nDELE 5\r\nQUIT\r\n")
                assert peer.recv(1000)
                time.sleep(0.2)  # the server writes what it can

        await deferToThread(client)
        await self.end()
        assert left_in(self.box) == "1,2,3,4,5"

    async def test_fetched_and_deleted_in_one_go(self) -> None:
        self.big(1_500_000)

        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), 10) as peer:
                peer.sendall(LOGIN + b"RETR 5\r\nDELE 5\r\nQUIT\r\n")
                data = bytearray()
                while piece := peer.recv(1 << 20):
                    data += piece
                return bytes(data)

        data = await deferToThread(client)
        assert data.endswith(b".\r\n+OK Deleted\r\n+OK Bye, 1 removed\r\n")
        await self.end()
        assert left_in(self.box) == "1,2,3,4"

    async def test_thirty_megabytes_byte_for_byte(self) -> None:
        wanted = self.big(30_000_000)

        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), 10) as peer:
                peer.sendall(LOGIN + b"RETR 5\r\nQUIT\r\n")
                data = bytearray()
                while piece := peer.recv(1 << 20):
                    data += piece
                return bytes(data)

        data = await deferToThread(client)
        text = data.partition(b"octets\r\n")[2].removesuffix(b".\r\n+OK Bye\r\n").replace(b"\r\n..", b"\r\n.")
        assert text == wanted
        await self.end()


class Received(Case):
    """QUIT deletes nothing that may still get lost on its way to the peer (RFC 1939 §6)."""

    def log_in_behind(self, behind: list[bool]) -> MemoryWire:
        """A session whose peer's kernel acknowledges as the list says: popped at each look, its last stays."""
        wire = self.log_in()
        self.looks: list[int] = []

        def is_behind(octets: int) -> bool:
            self.looks.append(octets)
            return behind.pop(0) if len(behind) > 1 else behind[0]

        self.patch(wire.protocol, "isBehind", is_behind)
        return wire

    def test_without_a_message_nobody_waits(self) -> None:
        wire = self.log_in_behind([True])
        assert self.say(wire, b"DELE 1\r\nQUIT\r\n").endswith(b"+OK Bye, 1 removed\r\n")
        assert not self.looks

    def test_received_already(self) -> None:
        wire = self.log_in_behind([False])
        assert self.say(wire, b"RETR 1\r\nDELE 1\r\nNOOP\r\nQUIT\r\n").endswith(b"+OK Bye, 1 removed\r\n")
        assert self.looks == [len(b"+OK Deleted\r\n+OK\r\n")]

    def test_received_after_a_while(self) -> None:
        wire = self.log_in_behind([True] * 5 + [False])
        assert self.say(wire, b"TOP 1 0\r\nDELE 1\r\nQUIT\r\n").endswith(b"+OK Deleted\r\n")
        assert left_in(self.box) == "1,2,3,4"
        self.office.clock.pump([0.01] * 50)
        assert wire.rest(True).endswith(b"+OK Bye, 1 removed\r\n")
        assert left_in(self.box) == "2,3,4"
        wire.drop()

    def test_lost_meanwhile(self) -> None:
        wire = self.log_in_behind([True])
        self.say(wire, b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        self.office.clock.pump([0.5] * 10)
        wire.drop()
        self.office.clock.pump([0.5] * 10)
        assert left_in(self.box) == "1,2,3,4"
        assert self.office.logouts == 1
        assert not self.office.clock.getDelayedCalls()

    def test_never_received(self) -> None:
        wire = self.log_in_behind([True])
        self.say(wire, b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        self.office.clock.pump([1.0] * 602)
        assert wire.transport.disconnected
        wire.drop()
        assert left_in(self.box) == "1,2,3,4"
        assert self.office.logouts == 1


class WithThreads(TestCase):
    """The mail store itself behind the server, its threads and all, and poplib before it."""

    async def test_deliver_fetch_and_delete(self) -> None:
        root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, root, ignore_errors=True)
        call: Any = reactor.callFromThread  # type: ignore[attr-defined]
        store = MailStore(root, "mail.example.lan", time.time, call)
        store.start()
        account = Account("alice@example.lan")
        texts = [b"Subject: %d\r\n\r\n.%d\r\n" % (n, n) for n in range(40)] + [b"x\r\n" * 100_000]
        await defer.gatherResults(
            [defer.ensureDeferred(store.deliver(account, FakeContent(text), b"")) for text in texts]
        )
        office = PostOffice(root, reactor)

        async def avatar() -> Any:
            drop = await store.maildrop(account)
            return IMailboxPOP3, drop, drop.logout

        office._avatar = avatar  # type: ignore[method-assign]
        port = reactor.listenTCP(0, office.factory, interface="127.0.0.1")  # type: ignore[attr-defined]

        def client(delete: bool) -> list[bytes]:
            pop = poplib.POP3("127.0.0.1", port.getHost().port, 10)
            pop.user("alice")
            pop.pass_("secret")
            count, octets = pop.stat()
            got = [b"\r\n".join([*pop.retr(number + 1)[1], b""]) for number in range(count)]
            assert octets == sum(map(len, got))
            for number in range(count) if delete else ():
                pop.dele(number + 1)
            pop.quit()
            return got

        first = await deferToThread(client, False)
        assert sorted(first) == sorted(texts)
        assert await deferToThread(client, True) == first
        assert await deferToThread(client, False) == []
        await port.stopListening()
        await office.factory.drain()
        await store.stop()

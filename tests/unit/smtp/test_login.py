"""AUTH in a session: what dialogues cannot show. Time, threads, floods, TLS."""

import base64
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMessageDeliveryFactory
from twisted.trial.unittest import SynchronousTestCase

from mailserver.access.lockout import Lockout, LockoutRules
from mailserver.domains.directory import Directory
from mailserver.domains.domain import Domain, Tree
from mailserver.domains.realm import Checker, Realm
from mailserver.domains.users import parse_users
from mailserver.interfaces import SenderRights
from mailserver.model.source import Source
from mailserver.smtp.authentication import Logins
from mailserver.smtp.reception import Sender
from mailserver.wire.sasl import Mechanisms
from tests.support.dialogue import MemoryWire
from tests.support.reception import Premises

USERS = "alice:{PLAIN}secret\nbob:{PLAIN}secret\n"


def plain(name: str, password: str) -> bytes:
    return b"AUTH PLAIN %b\r\n" % base64.b64encode(f"\0{name}\0{password}".encode())


class Waiting:
    """A pool whose work is done when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []
        self.hashed = 0

    async def run(self, function: Any, *arguments: Any) -> Any:
        done: Deferred[Any] = Deferred()
        self.jobs.append((done, function, arguments))
        return await done

    def work(self) -> None:
        jobs, self.jobs = self.jobs, []
        for done, function, arguments in jobs:
            self.hashed += 1
            done.callback(function(*arguments))


class LoginTests(SynchronousTestCase):
    """The real checker and the real lock-out, on a clock."""

    def setUp(self) -> None:
        self.premises = Premises({"login": "plain", "service": "submission"})
        self.clock: Clock = self.premises.clock
        users, _ = parse_users(USERS, "users", "example.lan")
        directory = Directory(Tree({"example.lan": Domain("example.lan", Source("users"), users, {})}))
        self.pool = Waiting()
        self.lockout = Lockout(LockoutRules(3, 900.0), self.clock.seconds)
        pool: Any = self.pool
        checker = Checker(directory, pool, self.lockout, self.clock)

        async def make_sender(account: Any) -> tuple[object, Any]:
            return Sender(self.premises.office, account), lambda: None

        portal = Portal(Realm({IMessageDeliveryFactory: make_sender}), [checker])
        self.premises.factory.logins = Logins(portal, mechanisms_of, lambda client: True)

    def wire(self, client: str = "192.0.2.1") -> MemoryWire:
        wire = MemoryWire(self.premises.factory.buildProtocol(None), client)
        wire.send(b"EHLO client.example\r\n")
        wire.lines(100)
        return wire

    def codes(self, wire: MemoryWire) -> list[int]:
        return [int(line[:3]) for line in wire.lines(100)]

    def try_once(self, client: str, name: str, password: str) -> int:
        """The code a login in a session of its own gets, after whatever delay."""
        wire = self.wire(client)
        wire.send(plain(name, password))
        self.pool.work()
        codes = self.codes(wire)
        if not codes:
            self.clock.advance(8.0)
            codes = self.codes(wire)
        wire.drop()
        (code,) = codes
        return code

    def test_what_is_pipelined_behind_a_login_waits_for_it(self) -> None:
        wire = self.wire()
        wire.send(plain("alice", "secret") + b"MAIL FROM:<alice@example.lan>\r\n" * 2)
        assert self.codes(wire) == []
        self.pool.work()
        assert self.codes(wire) == [235, 250, 503]

    def test_one_session_hashes_one_password_at_a_time(self) -> None:
        wire = self.wire()
        wire.send(b"".join(plain("alice", f"guess {n}") for n in range(500)))
        assert len(self.pool.jobs) == 1

    def test_the_answer_to_a_wrong_password_comes_later_and_later(self) -> None:
        wire = self.wire()
        for seconds in (1.0, 2.0):
            wire.send(plain("alice", f"guess {seconds}"))
            self.pool.work()
            self.clock.advance(seconds - 0.1)
            assert self.codes(wire) == []
            self.clock.advance(0.2)
            assert self.codes(wire) == [535]

    def test_ten_thousand_wrong_passwords(self) -> None:
        codes = [self.try_once("192.0.2.1", f"user{n % 50}", f"guess {n}") for n in range(10_000)]
        wrong = codes.index(421)
        assert wrong <= 10, "locked out early"
        assert set(codes[wrong:]) == {421}
        assert self.try_once("192.0.2.1", "alice", "secret") == 421
        assert self.pool.hashed == wrong, "nothing is hashed for who is locked out"
        assert len(self.lockout._counts) <= wrong + 1
        # Others are served, and so is the owner of the account, from elsewhere.
        assert self.try_once("192.0.2.2", "alice", "secret") == 235
        assert self.try_once("2001:db8::1", "bob", "secret") == 235

    def test_who_is_locked_out_is_told_at_once(self) -> None:
        for n in range(3):
            self.try_once("192.0.2.1", "alice", f"guess {n}")
        wire = self.wire()
        wire.send(plain("alice", "secret") + b"NOOP\r\n")
        assert self.codes(wire) == [421]
        assert wire.is_closed()

    def test_a_guess_counts_though_nobody_waits_for_the_answer(self) -> None:
        for n in range(3):
            wire = self.wire()
            wire.send(plain("alice", f"guess {n}"))
            wire.drop()
            self.pool.work()
        self.clock.advance(8.0)
        assert not self.lockout.judge("192.0.2.1", "alice@example.lan").allowed

    def test_a_login_that_breaks_is_not_one(self) -> None:
        wire = self.wire()
        wire.send(plain("alice", "secret"))
        ((done, _, _),) = self.pool.jobs
        done.errback(ZeroDivisionError())
        assert self.codes(wire) == [451]
        assert self.flushLoggedErrors(ZeroDivisionError)
        wire.send(b"MAIL FROM:<alice@example.lan>\r\n")
        assert self.codes(wire) == [530]

    def test_an_endless_response_holds_no_more_than_a_line(self) -> None:
        wire = self.wire()
        wire.send(b"AUTH PLAIN\r\n")
        for _ in range(100):
            wire.send(b"A" * 10_000)
        assert len(wire.protocol._lines) <= 12_288
        assert self.codes(wire) == [334, 500]


def mechanisms_of(bindings: Any) -> Mechanisms:
    return Mechanisms(None, bindings)


class FromTests(SynchronousTestCase):
    """The switch of a domain, and what is not objected to."""

    def send(self, premises: Premises, header: bytes, sender: bytes = b"alice@example.lan") -> int:
        wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
        wire.send(b"HELO client.example\r\n" + plain("alice@example.lan", "secret"))
        wire.send(b"MAIL FROM:<%b>\r\nRCPT TO:<bob@example.lan>\r\nDATA\r\n" % sender)
        wire.lines(100)
        wire.send(header + b"\r\n.\r\n")
        (line,) = wire.lines(100)
        wire.drop()
        return int(line[:3])

    def test_the_switch(self) -> None:
        premises = Premises({"login": "plain"})
        assert self.send(premises, b"From: boss@bank.example\r\n") == 550
        premises.directory.rights["alice@example.lan"] = SenderRights(check_from=False)
        assert self.send(premises, b"From: boss@bank.example\r\n") == 250
        assert self.send(premises, b"From: not an address\r\n") == 250

    def test_the_null_sender_does_not_hide_who_wrote_it(self) -> None:
        premises = Premises({"login": "plain"})
        assert self.send(premises, b"From: alice@example.lan\r\n", b"") == 250
        assert self.send(premises, b"From: bob@example.lan\r\n", b"") == 550

    def test_a_client_without_a_login_is_not_asked(self) -> None:
        premises = Premises({"relay": "yes"})
        wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
        wire.send(b"HELO client.example\r\nMAIL FROM:<boss@bank.example>\r\nRCPT TO:<bob@example.lan>\r\n")
        wire.send(b"DATA\r\n")
        wire.lines(100)
        wire.send(b"From: anybody@bank.example\r\n\r\n.\r\n")
        assert [line[:3] for line in wire.lines(100)] == [b"250"]

    def test_listed_senders(self) -> None:
        premises = Premises({"login": "plain"})
        rights = SenderRights(frozenset({"@bank.example"}))
        premises.directory.rights["alice@example.lan"] = rights
        assert self.send(premises, b"From: boss@bank.example\r\n", b"boss@bank.example") == 250

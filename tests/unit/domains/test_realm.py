"""Logins through twisted.cred."""

import pytest
from attrs import evolve
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from mailserver.domains import realm as realm_module
from mailserver.domains.credentials import IProof, Proven
from mailserver.domains.directory import Directory
from mailserver.domains.domain import Domain, Tree
from mailserver.domains.passwords import DECOY
from mailserver.domains.realm import Checker, LockedOut, Login, Realm, login_pool
from mailserver.domains.users import parse_users
from mailserver.interfaces import ILockout, MaildropInUse, Verdict
from mailserver.model.source import Source
from mailserver.threads import Busy


def tree(text):
    users, _ = parse_users(text, "users", "a.example")
    return Tree({"a.example": Domain("a.example", Source("users"), users, {}, decoy="{PLAIN}decoy")})


class Inline:
    """A pool that does its work at once, and remembers it."""

    def __init__(self):
        self.calls = []
        self.busy = False
        self.meanwhile = lambda: None

    async def run(self, function, *arguments):
        if self.busy:
            raise Busy
        self.calls.append(arguments)
        result = function(*arguments)
        self.meanwhile()
        return result


@implementer(ILockout)
class FakeLockout:
    """Remembers what it is told; nothing is delayed unless ``delay`` says so."""

    def __init__(self):
        self.told = []
        self.verdict = Verdict(True, "")
        self.delay = 0.0

    def judge(self, client, account):
        self.told.append(("judge", client, account))
        return self.verdict

    def failed(self, client, account, guess):
        self.told.append(("failed", client, account, guess))
        return self.delay

    def succeeded(self, client, account):
        self.told.append(("succeeded", client, account))

    def locks(self):
        return ()

    def lift(self, client):
        return 0


class IThing(Interface):
    """What can be asked for."""


class CheckerTests(TestCase):
    def setUp(self):
        self.directory = Directory(tree("alice:{PLAIN}secret\nbob:{PLAIN}other\n"))
        self.pool = Inline()
        self.clock = Clock()
        self.lockout = FakeLockout()
        self.checker = Checker(self.directory, self.pool, self.lockout, self.clock)
        self.events = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event):
        if event.get("mail_event") == "login":
            self.events.append(event["mail_fields"])

    def ask(self, name, password):
        asked = self.checker.requestAvatarId(UsernamePassword(name, password))
        self.clock.advance(0)  # a delay of nothing is one
        return asked

    def prove(self, name, right):
        asked = self.checker.requestAvatarId(Proven(name, right, "submission", "192.0.2.1", True))
        self.clock.advance(0)
        return asked

    def test_the_contract(self):
        verifyObject(ICredentialsChecker, self.checker)
        verifyObject(IUsernamePassword, Login(b"a", b"b"))
        verifyObject(IProof, Proven(b"a", True))
        verifyObject(ILockout, self.lockout)
        verifyObject(IRealm, Realm({}))
        assert Login(b"a", b"b").checkPassword(b"b")
        assert "secret" not in repr(Login(b"a", b"secret"))

    def test_right(self):
        for name in (b"alice@a.example", b"ALICE@A.EXAMPLE", b"alice"):
            assert self.successResultOf(self.ask(name, b"secret")).name == "alice@a.example"

    def test_wrong(self):
        for name, password in [
            (b"alice@a.example", b"Secret"),
            (b"nobody@a.example", b"secret"),
            (b"nobody@b.example", b"secret"),
            (b"\xff\xfe", b"secret"),
            (b"", b"secret"),
            (b"alice\0@a.example", b"secret"),
            (b"alice@a.example\r\n", b"secret"),
            (b"nobody@a.example", b"decoy"),
        ]:
            self.failureResultOf(self.ask(name, password), UnauthorizedLogin)
            # Whoever it is that is asked for, it costs one hashing.
            assert len(self.pool.calls) == 1, name
            self.pool.calls.clear()

    def test_impossible_passwords_are_never_hashed(self):
        for password in (b"", b"a\0b", b"x" * 1025, b"x" * 1_000_000):
            self.failureResultOf(self.ask(b"alice", password), UnauthorizedLogin)
        assert self.pool.calls == []

    def test_unknown_names_cost_the_domains_decoy(self):
        self.failureResultOf(self.ask(b"nobody@a.example", b"x"), UnauthorizedLogin)
        assert self.pool.calls == [("{PLAIN}decoy", b"x")]

    def test_a_right_password_is_hashed_once(self):
        for _ in range(3):
            self.successResultOf(self.ask(b"alice", b"secret"))
        assert len(self.pool.calls) == 1
        self.failureResultOf(self.ask(b"alice", b"wrong"), UnauthorizedLogin)
        self.failureResultOf(self.ask(b"bob", b"secret"), UnauthorizedLogin)
        assert len(self.pool.calls) == 3
        self.successResultOf(self.ask(b"alice", b"secret"))
        assert len(self.pool.calls) == 3

    def test_what_is_remembered_holds_no_password_and_is_bounded(self):
        self.patch(realm_module, "_REMEMBERED", 1)
        self.successResultOf(self.ask(b"alice", b"secret"))
        self.successResultOf(self.ask(b"bob", b"other"))
        assert list(self.checker._known) == ["bob@a.example"]
        assert b"other" not in self.checker._known["bob@a.example"][0]

    def test_a_right_password_is_known_for_as_long_as_it_may(self):
        self.checker.remember = 60.0
        self.successResultOf(self.ask(b"alice", b"secret"))
        self.clock.advance(59.9)
        self.successResultOf(self.ask(b"alice", b"secret"))
        assert len(self.pool.calls) == 1
        self.clock.advance(0.1)  # since it was hashed, not since it was known
        self.successResultOf(self.ask(b"alice", b"secret"))
        assert len(self.pool.calls) == 2

    def test_nothing_is_remembered_where_that_is_off(self):
        self.successResultOf(self.ask(b"alice", b"secret"))
        self.checker.remember = 0.0
        for _ in range(2):
            self.successResultOf(self.ask(b"alice", b"secret"))
        assert len(self.pool.calls) == 3
        assert not self.checker._known

    def test_a_wrong_password_is_never_remembered(self):
        for _ in range(2):
            self.failureResultOf(self.ask(b"alice", b"wrong"), UnauthorizedLogin)
        assert len(self.pool.calls) == 2
        assert not self.checker._known

    def test_a_known_password_does_not_let_the_disabled_in(self):
        self.successResultOf(self.ask(b"alice", b"secret"))
        self.directory.replace(tree("alice:{PLAIN}secret:disabled\n"))
        self.failureResultOf(self.ask(b"alice", b"secret"), UnauthorizedLogin)
        self.directory.replace(tree("bob:{PLAIN}other\n"))
        self.failureResultOf(self.ask(b"alice", b"secret"), UnauthorizedLogin)

    def test_a_password_is_known_for_its_own_account_alone(self):
        self.directory.replace(tree("alice:{PLAIN}secret\nbob:{PLAIN}secret\n"))
        for name in (b"alice", b"bob"):
            self.successResultOf(self.ask(name, b"secret"))
        assert len(self.pool.calls) == 2

    def test_a_changed_hash_is_asked_again(self):
        self.successResultOf(self.ask(b"alice", b"secret"))
        self.directory.replace(tree("alice:{PLAIN}changed\n"))
        self.failureResultOf(self.ask(b"alice", b"secret"), UnauthorizedLogin)
        self.successResultOf(self.ask(b"alice", b"changed"))

    def test_a_user_removed_while_hashing_does_not_get_in(self):
        self.pool.meanwhile = lambda: self.directory.replace(tree("bob:{PLAIN}other\n"))
        self.failureResultOf(self.ask(b"alice", b"secret"), UnauthorizedLogin)

    def test_a_malformed_hash_is_no_login(self):
        users, _ = parse_users("alice:{PLAIN}x\n", "users", "a.example")
        broken = {"alice": type(users["alice"])(users["alice"].account, "{ARGON2ID}broken")}
        self.directory.replace(Tree({"a.example": Domain("a.example", Source("users"), broken, {})}))
        self.failureResultOf(self.ask(b"alice", b"x"), UnauthorizedLogin)

    def test_too_many_logins_are_told_to_come_again(self):
        self.pool.busy = True
        self.failureResultOf(self.ask(b"alice", b"secret"), Busy)
        self.failureResultOf(self.ask(b"nobody", b"secret"), Busy)

    def test_the_journal_is_told_what_the_client_is_not(self):
        def ask(name, password):
            asked = self.checker.requestAvatarId(Login(name, password, "pop3", "192.0.2.1", False))
            self.clock.advance(0)
            return asked

        self.successResultOf(ask(b"alice", b"secret"))
        self.failureResultOf(ask(b"alice@a.example", b"wrong"), UnauthorizedLogin)
        self.failureResultOf(ask(b"evil\r\n\xff", b"x"), UnauthorizedLogin)
        told = [(it["client"], it["account"], it["result"], it["reason"]) for it in self.events]
        assert told == [
            ("192.0.2.1", "alice@a.example", "ok", ""),
            ("192.0.2.1", "alice@a.example", "failed", "wrong password"),
            ("192.0.2.1", "evil\r\n\\xff", "failed", "no such user"),
        ]

    def test_a_right_proof(self):
        assert self.successResultOf(self.prove(b"ALICE", True)).name == "alice@a.example"
        assert self.pool.calls == []

    def test_a_wrong_proof_and_nobodys_proof(self):
        self.failureResultOf(self.prove(b"alice", False), UnauthorizedLogin)
        self.failureResultOf(self.prove(b"nobody", True), UnauthorizedLogin)
        assert [it["reason"] for it in self.events] == ["wrong proof", "no such user"]
        assert [it[:3] for it in self.lockout.told if it[0] == "failed"] == [
            ("failed", "192.0.2.1", "alice@a.example"),
            ("failed", "192.0.2.1", "nobody@a.example"),
        ]

    def test_a_disabled_account_is_as_wrong_as_a_wrong_password(self):
        users = self.directory.user("alice")
        off = evolve(users, account=evolve(users.account, disabled=True))
        domain = Domain("a.example", Source("users"), {"alice": off}, {})
        self.directory.replace(Tree({"a.example": domain}))
        self.failureResultOf(self.ask(b"alice", b"secret"), UnauthorizedLogin)
        self.failureResultOf(self.prove(b"alice", True), UnauthorizedLogin)

    def test_who_is_locked_out_is_not_listened_to(self):
        self.lockout.verdict = Verdict(False, "locked out for 5 s")
        for asked in (self.ask(b"alice", b"secret"), self.prove(b"alice", True)):
            assert isinstance(self.failureResultOf(asked).value, LockedOut)
        assert self.pool.calls == []
        assert self.events[-1]["reason"] == "locked out for 5 s"
        assert [it[0] for it in self.lockout.told] == ["judge", "judge"]

    def test_guesses_on_their_way_are_no_way_around_the_lock(self):
        def lock():
            self.lockout.verdict = Verdict(False, "locked out for 5 s")

        self.pool.meanwhile = lock
        for password in (b"secret", b"wrong"):
            self.lockout.verdict = Verdict(True, "")
            assert isinstance(self.failureResultOf(self.ask(b"alice", password)).value, LockedOut)
        assert {it[0] for it in self.lockout.told} == {"judge"}

    def test_every_spelling_of_a_name_is_counted_as_one(self):
        for name in (b"alice", b"Alice@A.example", b"alice@a.example"):
            self.failureResultOf(self.ask(name, b"wrong"), UnauthorizedLogin)
        failed = [it for it in self.lockout.told if it[0] == "failed"]
        assert len(set(failed)) == 1
        # What tells guesses apart holds no password.
        assert b"wrong" not in failed[0][3]
        self.failureResultOf(self.ask(b"alice", b"other"), UnauthorizedLogin)
        assert self.lockout.told[-1][3] != failed[0][3]

    def test_a_wrong_password_is_told_after_the_delay(self):
        self.lockout.delay = 4.0
        asked = self.ask(b"alice", b"wrong")
        self.clock.advance(3.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.failureResultOf(asked, UnauthorizedLogin)
        assert self.successResultOf(self.ask(b"alice", b"secret"))
        assert self.lockout.told[-1] == ("succeeded", "", "alice@a.example")


class PortalTests(TestCase):
    async def test_a_login_in_threads_of_its_own(self):
        pool = login_pool(reactor.callFromThread)
        pool.start()
        self.addCleanup(pool.stop)
        directory = Directory(tree(f"alice:{{PLAIN}}secret\nbob:{DECOY}\n"))
        ended = []

        async def make(account):
            return f"mail of {account.name}", lambda: ended.append(account.name)

        portal = Portal(Realm({IThing: make}), [Checker(directory, pool, FakeLockout(), reactor)])
        interface, avatar, logout = await portal.login(Login(b"alice", b"secret"), None, IThing)
        assert (interface, avatar) == (IThing, "mail of alice@a.example")
        logout()
        assert ended == ["alice@a.example"]
        for name in (b"bob", b"nobody"):
            with pytest.raises(UnauthorizedLogin):
                await portal.login(Login(name, b"wrong"), None, IThing)

    def test_what_the_maker_raises_reaches_the_client(self):
        async def make(account):
            raise MaildropInUse

        checker = Checker(Directory(tree("alice:{PLAIN}s\n")), Inline(), FakeLockout(), Clock())
        portal = Portal(Realm({IThing: make}), [checker])
        self.failureResultOf(portal.login(Login(b"alice", b"s"), None, IThing), MaildropInUse)

    def test_the_first_interface_that_there_is_one_for(self):
        class IOther(Interface):
            pass

        waiting = Deferred()

        async def make(account):
            return await waiting, lambda: None

        realm = Realm({IThing: make})
        avatar = realm.requestAvatar(None, None, IOther, IThing)
        self.assertNoResult(avatar)
        waiting.callback("thing")
        assert self.successResultOf(avatar)[:2] == (IThing, "thing")
        self.failureResultOf(realm.requestAvatar(None, None, IOther), NotImplementedError)

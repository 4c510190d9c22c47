"""Faults that a mail server must survive, played on the real program."""

import contextlib
import os
import random
import smtplib
import subprocess
import threading
import time
from unittest import SkipTest

from twisted.internet.defer import Deferred

from mailserver.rehearsal.hosts import MailHost, common_port
from mailserver.rehearsal.nameserver import Fault, Nameserver
from mailserver.rehearsal.server import ServerProcess
from mailserver.state import await_orphans
from tests.support.rehearsal import ServerTestCase, body_of, count, fetch_all, smtp, until

_LINE = b"x" * 98 + b"\r\n"


class Load:
    """Clients that send numbered messages until told to stop, and remember what was acknowledged."""

    def __init__(self, server: ServerProcess, recipient: str, sessions: int = 4) -> None:
        self.acknowledged: set[bytes] = set()
        self._address = server.address("smtp")
        self._recipient = recipient
        self._stop = threading.Event()
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(sessions)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        rng = random.Random(1)
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            contextlib.closing(smtplib.SMTP(*self._address, "client.example.lan", timeout=30)) as session,
        ):
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                body = b"message %d\r\n" % number + _LINE * rng.choice((1, 40, 3000))
                session.sendmail("bob@example.lan", [self._recipient], b"Subject: load\r\n\r\n" + body)
                self.acknowledged.add(body)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


class CrashTests(ServerTestCase):
    """kill -9 at any moment: nothing that was answered 250 is missing after a restart."""

    def test_killed_under_load(self) -> object:
        return self.play(self._killed)

    def _killed(self) -> None:
        server = self.server()
        rng = random.Random(9)
        acknowledged: set[bytes] = set()
        for _ in range(4):
            server.start()
            load = Load(server, "alice@example.lan")
            time.sleep(rng.uniform(0.2, 1.2))
            server.kill()
            load.stop()
            acknowledged |= load.acknowledged
        assert acknowledged
        server.start()
        before = -1
        # Everything is in when the count no longer grows and the queue has had time for its first retry.
        while before != (now := count(server)):
            before = now
            time.sleep(2)
        bodies = [body_of(message) for message in fetch_all(server)]
        missing = acknowledged - set(bodies)
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged messages are lost"


class CorruptSpoolTests(ServerTestCase):
    """A spool file that is no database is set aside, said, and the server starts."""

    def test_garbage(self) -> object:
        return self.play(self._garbage)

    def _garbage(self) -> None:
        server = self.server()
        server.start()
        server.stop()
        databases = list(server.state.rglob("*.db"))
        assert databases
        for database in databases:
            database.write_bytes(os.urandom(20_000))
        server.start()
        with smtp(server) as session:
            session.sendmail("bob@example.lan", ["alice@example.lan"], b"Subject: x\r\n\r\nafter\r\n")
        until(lambda: count(server), "mail after the damage")
        aside = [path for path in server.state.rglob("*corrupt*")]
        assert aside, "the damaged file was set aside"
        assert "trouble" in server.log.read_text()


class FullDiskTests(ServerTestCase):
    """No space while receiving: 452, and the session goes on; what was accepted is delivered later."""

    def test_full(self) -> object:
        if os.geteuid() != 0:
            raise SkipTest("a small file system needs root")
        return self.play(self._full)

    def _full(self) -> None:
        server = self.server(tables={"delivery": 'retry = ["1s"]'})
        server.state.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(server.state)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            raise SkipTest(f"no mount here: {mounted.stderr!r}")
        try:
            self._fill(server)
        finally:
            server.kill()
            await_orphans(server.state)  # its workers end after it
            subprocess.run(["umount", str(server.state)], check=True)

    def _fill(self, server: ServerProcess) -> None:
        server.start()
        with smtp(server) as session:
            session.ehlo()
            ballast = server.state / "ballast"
            free = os.statvfs(server.state)
            ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 2_500_000))
            for _ in range(2):
                session.mail("bob@example.lan")
                session.rcpt("alice@example.lan")
                code, text = session.data(b"Subject: big\r\n\r\n" + (b"y" * 70 + b"\r\n") * 42_000)
                assert (code, text[:5]) == (452, b"4.3.1"), (code, text)
            # There is room for the spool, and none for the mailbox.
            session.mail("bob@example.lan")
            session.rcpt("alice@example.lan")
            later, text = session.data(b"Subject: later\r\n\r\n" + (b"z" * 70 + b"\r\n") * 18_000)
            assert later in (250, 452), (later, text)
            if later == 250:
                until(lambda: "status=4.3.1" in server.log.read_text(), "a delay for want of room")
            ballast.unlink()
            session.sendmail(
                "bob@example.lan", ["alice@example.lan"], b"Subject: after\r\n\r\nroom again\r\n"
            )
        expected = 2 if later == 250 else 1
        until(lambda: count(server) == expected, "what was accepted")


class NamesTests(ServerTestCase):
    """DNS is dead: mail waits; DNS is back: it goes."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.port = common_port(["127.0.0.51"])
        self.host = MailHost(reactor, "127.0.0.51", self.port)  # type: ignore[arg-type]
        self.names = Nameserver(
            reactor,
            {"outside.example": ["MX 10 mx.outside.example."], "mx.outside.example": ["A 127.0.0.51"]},
        )
        self.host.start()

    def test_dead_dns(self) -> object:
        async def play() -> None:
            address, port = await self.names.start()
            try:
                self.names.play("outside.example", Fault.SERVFAIL)
                await self.play(self._wait_for_dns, f"{address}:{port}")
            finally:
                await self.names.stop()
                await self.host.stop()

        return Deferred.fromCoroutine(play())

    def _wait_for_dns(self, dns: str) -> None:
        server = self.server(
            dns=dns,
            tables={
                "delivery": f'port = {self.port}\nloopback = true\nretry = ["1s"]',
                "dns": 'timeout = "2s"',
            },
        )
        server.start()
        with smtp(server) as session:
            session.sendmail("alice@example.lan", ["carol@outside.example"], b"Subject: x\r\n\r\nhello\r\n")
        until(lambda: server.log.read_text().count("delayed ") >= 2, "two attempts without DNS")
        assert count(server) == 0, "no report: nothing has failed"
        self.names.heal("outside.example")
        until(lambda: self.host.messages, "the mail, once DNS answers again")
        assert self.host.messages[0].recipients == ("carol@outside.example",)

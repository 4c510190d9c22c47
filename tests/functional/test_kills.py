"""kill -9 at any moment, while mail comes in, goes to mailboxes and goes out: what was acknowledged is there.

Ten kills in the suite; ``KILLS=200`` plays as many, ``KILLS_SEED`` the same moments again. What was acknowledged has to
arrive whole, each recipient's copy; a second copy has to have a kill between it and the first: the other side had
taken the mail, and this server died before it could write that down (RFC 5321 §6.1: better twice than never).
"""

import contextlib
import os
import random
import smtplib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.rehearsal.hosts import MailHost, ReceivedMail, common_port
from mailserver.rehearsal.nameserver import Nameserver
from mailserver.rehearsal.server import ServerProcess, StartFailed
from tests.support.rehearsal import ServerTestCase, body_of, until

reactor: Any = default_reactor
KILLS = int(os.environ.get("KILLS", "10"))
SEED = int(os.environ.get("KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SESSIONS = 4

ALICE, BOB, CAROL = "alice@example.lan", "bob@example.lan", "carol@outside.example"
KINDS = [(ALICE,), (CAROL,), (ALICE, BOB), (ALICE, CAROL)]
"""To mailboxes here, to a host outside, to both."""

Key = tuple[int, str]
"""One recipient's copy of one message."""


def recipients_of(number: int) -> tuple[str, ...]:
    return KINDS[number % len(KINDS)]


def body_for(number: int) -> bytes:
    lines = 1000 if number % 50 == 0 else 3
    return b"message %d\r\n" % number + b"%098d\r\n" % number * lines


class Witness(MailHost):
    """A mail host that remembers in which life of the server each message came, and not what is in it."""

    life = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.copies: list[tuple[Key, int]] = []
        self.damaged: list[int] = []

    def keep(self, mail: ReceivedMail) -> None:
        body = body_of(mail.content)
        number = int(body.split()[1])
        if body != body_for(number):
            self.damaged.append(number)
        self.copies += [((number, recipient), self.life) for recipient in mail.recipients]


class Load:
    """Clients that send numbered messages, from one life of the server to the next."""

    def __init__(self, server: ServerProcess) -> None:
        self.acknowledged: set[int] = set()
        self._server = server
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SESSIONS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        while not self._stop.is_set():
            # No listeners yet, or no more; refused, cut off, half an answer: all that a dead server says.
            with contextlib.suppress(OSError, LookupError, ValueError, smtplib.SMTPException):
                self._session()
            self._stop.wait(0.02)

    def _session(self) -> None:
        address = self._server.address("smtp")
        with contextlib.closing(smtplib.SMTP(*address, "client.example.lan", timeout=30)) as session:
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                content = b"Subject: %d\r\n\r\n" % number + body_for(number)
                session.sendmail("dave@example.lan", list(recipients_of(number)), content)
                self.acknowledged.add(number)
                self._stop.wait(0.002)


class KillTests(ServerTestCase):
    timeout = 120 + 20 * KILLS

    @pytest.mark.timeout(120 + 20 * KILLS)
    def test_nothing_acknowledged_is_lost(self) -> object:
        async def play() -> None:
            port = common_port(["127.0.0.170"])
            names = Nameserver(reactor, {"outside.example": ["A 127.0.0.170"]})
            self.host = Witness(reactor, "127.0.0.170", port)
            self.host.start()
            address, dns = await names.start()
            delivery = f'port = {port}\nloopback = true\nretry = ["1s"]\nwarn_after = "0s"\nhistory = "0s"'
            try:
                await self.play(
                    self._story, self.server(dns=f"{address}:{dns}", tables={"delivery": delivery})
                )
            finally:
                await self.host.stop()
                await names.stop()

        return Deferred.fromCoroutine(play())

    def _story(self, server: ServerProcess) -> None:
        load = Load(server)
        try:
            kills = self._kill(server, random.Random(SEED))
            Witness.life += 1
            server.start()
        finally:
            load.stop()
        wanted = {(number, to) for number in load.acknowledged for to in recipients_of(number)}
        mailboxes = {
            ALICE: server.state / "mail/example.lan/alice",
            BOB: server.state / "mail/example.lan/bob",
        }
        found: dict[Key, list[int]] = {}

        def all_there() -> bool:
            found.clear()
            found.update(self._copies(mailboxes, kills))
            return wanted <= found.keys()

        with contextlib.suppress(AssertionError):
            until(all_there, "what was acknowledged", 60 + KILLS)
        self._judge(wanted, found, len(kills))

    def _kill(self, server: ServerProcess, chance: random.Random) -> list[float]:
        """Let it live and die; when it died."""
        kills = []
        for number in range(KILLS):
            # Its residue has been read by now: what the host takes from here on comes from the next life.
            Witness.life += 1
            if number % 10 == 9:
                with contextlib.suppress(StartFailed):
                    server.start(patience=chance.uniform(0.2, 1.5))  # killed while it starts
            else:
                server.start()
                time.sleep(chance.uniform(0.0, 1.0))
            server.kill()
            kills.append(time.time())
        return kills

    def _copies(self, mailboxes: dict[str, Path], kills: list[float]) -> dict[Key, list[int]]:
        """The lives of the server in which each copy came, wherever it lies."""
        copies: dict[Key, list[int]] = defaultdict(list)
        for key, life in list(self.host.copies):
            copies[key].append(life)
        for recipient, mailbox in mailboxes.items():
            for number, moment in _delivered(mailbox):
                copies[number, recipient].append(sum(kill < moment for kill in kills))
        return copies

    def _judge(self, wanted: set[Key], found: dict[Key, list[int]], kills: int) -> None:
        missing = sorted(wanted - found.keys())
        twice = {key: lives for key, lives in found.items() if len(lives) > 1}
        unexplained = {key: lives for key, lives in twice.items() if len(set(lives)) < len(lives)}
        outside = sum(to == CAROL for _, to in twice)
        print(
            f"\nKILLS_SEED={SEED}: {kills} kills, {len(wanted)} copies acknowledged, {len(missing)} lost,"
            f" {len(found.keys() - wanted)} more arrived unacknowledged,"
            f" {len(twice)} twice ({outside} outside, {len(twice) - outside} in mailboxes)"
        )
        assert wanted
        assert not missing, f"KILLS_SEED={SEED}: lost {missing[:20]}"
        assert not self.host.damaged, f"KILLS_SEED={SEED}: damaged {self.host.damaged[:20]}"
        assert not unexplained, f"KILLS_SEED={SEED}: twice in one life {list(unexplained.items())[:20]}"


def _delivered(mailbox: Path) -> Iterator[tuple[int, float]]:
    """The messages in a mailbox, each with when it came there; one that is not whole is a failure."""
    for folder in ("new", "cur"):
        for file in (mailbox / folder).glob("*"):
            body = body_of(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
            number = int(body.split()[1])
            assert body == body_for(number), f"message {number} is damaged in {file}"
            yield number, file.stat().st_mtime

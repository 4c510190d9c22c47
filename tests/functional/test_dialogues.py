"""The golden dialogues of the SMTP server once more: over TCP and TLS, on a real directory, a real spool, real TLS.

One server for each, in this process; what it stored is read back from the spool and settled, so
that the next dialogue finds it empty. Not played: those that need a disk which fails.
"""

import shutil
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.domains.directory import Directory
from mailserver.domains.tree import load_tree
from mailserver.interfaces import Settlement
from mailserver.model.outcome import Delivered
from mailserver.net.certificates import ensure_self_signed
from mailserver.net.session import Bounds
from mailserver.spool.store import Spool
from tests.support.certificates import loaded
from tests.support.dialogue import check_stored, load, play_socket
from tests.support.reception import Premises

HOSTNAME = "mail.example.lan"
USERS = "".join(f"{name}:{{PLAIN}}secret\n" for name in ("alice", "bob", "carol", "jörg"))
ALIASES = "staff: alice, bob\neverybody: staff, away@elsewhere.example\npostmaster: alice\n"
LAN, ELSEWHERE = "127.0.0.0/8", "192.168.1.0/24"

ANYWHERE = [dialogue for dialogue in load("smtp") if "spool" not in dialogue.settings]


class DialogueTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.home)
        domain = self.home / "domains" / "example.lan"
        domain.mkdir(parents=True)
        (domain / "users").write_text(USERS)
        (domain / "aliases").write_text(ALIASES)
        tree, _ = load_tree(self.home / "domains")
        self.directory = Directory(tree, HOSTNAME)
        # Messages of one millisecond are told apart, and sorted, by these.
        numbers = count(1)
        self.spool = Spool(self.home / "spool", time.time, reactor.callFromThread, lambda bits: next(numbers))
        self.spool.start()
        self.addCleanup(self.spool.stop)
        self.certificates = loaded(ensure_self_signed(self.home / "tls", HOSTNAME))

    def serve(self, settings: dict[str, str]) -> tuple[Premises, Any]:
        """The server for these givens, and its port."""
        lan = ELSEWHERE if settings.get("relay", "no") == "no" else LAN
        premises = Premises(settings, Bounds(), lan, reactor)
        premises.office.directory, premises.office.spool = self.directory, self.spool
        premises.context = None if settings.get("tls") == "no" else self.certificates.current()
        port: Any = reactor.listenTCP(0, premises.factory, interface="127.0.0.1")
        return premises, port

    def test_all(self) -> "Deferred[None]":
        assert len(ANYWHERE) >= 80
        return Deferred.fromCoroutine(self._all())

    async def _all(self) -> None:
        for dialogue in ANYWHERE:
            premises, port = self.serve(dialogue.settings)
            try:
                await deferToThread(play_socket, dialogue, "127.0.0.1", port.getHost().port)
            finally:
                await port.stopListening()
            while premises.factory.sessions:
                await deferLater(reactor, 0.001)
            stored = await self._stored()
            if dialogue.settings.get("over") != "hold":  # what is held is not given to anybody
                check_stored(dialogue, stored)
        self._not_one_is_left_out()

    def _not_one_is_left_out(self) -> None:
        left_out = {dialogue.name for dialogue in load("smtp")} - {dialogue.name for dialogue in ANYWHERE}
        assert left_out == {"disk-full", "disk-trouble", "chunking-disk-full"}

    async def _stored(self) -> list[tuple[str, list[str], bytes]]:
        """What is in the spool, oldest first; the spool is empty then."""
        duties = []
        while more := (await self.spool.take(time.time() + 1, frozenset(), 1000)).duties:
            duties += more
        stored: dict[str, tuple[str, list[str], bytes]] = {}
        for duty in sorted(duties, key=lambda duty: duty.envelope.id):
            content = await self.spool.content(duty.envelope.id)
            octets = content.whole() or await content.read(0, content.size)
            assert duty.envelope.size == content.size
            sender = str(duty.envelope.sender)
            _, recipients, _ = stored.setdefault(duty.envelope.id, (sender, [], octets))
            recipients += [str(waiting.recipient.address) for waiting in duty.waiting]
            done = {waiting.recipient: Settlement(Delivered("Ok")) for waiting in duty.waiting}
            await self.spool.settle(duty, done, [])
        return list(stored.values())

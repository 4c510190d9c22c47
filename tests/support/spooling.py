"""A real spool in a temporary directory, on the real reactor's threads, with time and disk in the test's hands."""

import errno
import secrets
import shutil
import tempfile
from pathlib import Path

from attrs import evolve, frozen
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailserver.interfaces import IReport, Settlement
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.spool.disk import Disk
from mailserver.spool.store import Spool

__all__ = [
    "ALICE",
    "DELAYED",
    "DELIVERED",
    "FAILED",
    "BrokenDisk",
    "Report",
    "SpoolTestCase",
    "rcpt",
    "temporary",
]

ALICE = Address("alice", "example.lan")
DELIVERED = Delivered("Ok", host="mx.example.org")
DELAYED = Delayed(Scope.RECIPIENT, "Try later", "4.2.0", "mx.example.org", 450)
FAILED = Failed(Scope.RECIPIENT, "No such user", "5.1.1", "mx.example.org", 550)


def temporary(case) -> Path:
    """A directory that goes when the test case does."""
    directory = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, directory)
    return Path(directory)


def rcpt(text: str) -> Recipient:
    local, _, domain = text.rpartition("@")
    return Recipient(Address(local, domain))


@implementer(IReport)
@frozen
class Report:
    envelope: Envelope
    content: bytes


class BrokenDisk(Disk):
    """A disk on which the named operations fail with an errno, as long as they are in ``broken``."""

    def __init__(self):
        self.broken = {}
        self.calls = []

    def _touch(self, name):
        self.calls.append(name)
        if name in self.broken:
            raise OSError(self.broken[name], errno.errorcode[self.broken[name]])


def _breakable(name):
    real = getattr(Disk, name)

    def operation(self, *arguments):
        self._touch(name)
        return real(self, *arguments)

    return operation


for _name in ("create", "write", "sync", "sync_directory", "remove", "read"):
    setattr(BrokenDisk, _name, _breakable(_name))


class SpoolTestCase(TestCase):
    """Makes spools on one directory, and stops them."""

    timeout = 60

    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.disk = BrokenDisk()
        self.directory = temporary(self) / "spool"
        self.spool = self.open()

    def make(self, **options) -> Spool:
        options = {"entropy": secrets.randbits, "disk": self.disk, **options}
        return Spool(self.directory, self.clock.seconds, reactor.callFromThread, **options)

    def open(self, **options) -> Spool:
        spool = self.make(**options)
        spool.start()
        self.addCleanup(spool.stop)
        return spool

    async def reopen(self, **options) -> Spool:
        await self.spool.stop()
        self.spool = self.open(**options)
        return self.spool

    def envelope(self, id, *recipients, sender=ALICE, **facts) -> Envelope:
        return Envelope(
            id,
            sender,
            tuple(rcpt(each) if isinstance(each, str) else each for each in recipients),
            Origin("192.0.2.7", 4711, "pc7", "ESMTP"),
            self.clock.seconds(),
            **facts,
        )

    async def store(
        self, *recipients, content=b"Subject: x\r\n\r\nhello\r\n", spool=None, **facts
    ) -> Envelope:
        draft = (spool or self.spool).draft(ALICE, ())
        envelope = self.envelope(draft.id, *recipients, **facts)
        for start in range(0, len(content), 65536):
            waiting = draft.write(content[start : start + 65536])
            if waiting is not None:
                await waiting
        await draft.commit(envelope)
        return evolve(envelope, size=len(content))

    async def take(self, full=(), limit=100, now=None):
        now = self.clock.seconds() if now is None else now
        return (await self.spool.take(now, frozenset(full), limit)).duties

    async def octets(self, id) -> bytes:
        content = await self.spool.content(id)
        whole = b""
        while piece := await content.read(len(whole), 100_000):
            whole += piece
        assert len(whole) == content.size
        if content.whole() is not None:
            assert content.whole() == whole
        return whole

    async def settle(self, duty, outcome, next_attempt=None, reports=(), warned=False):
        settlement = Settlement(outcome, next_attempt, warned)
        every = {waiting.recipient: settlement for waiting in duty.waiting}
        await self.spool.settle(duty, every, reports)

    def report(self, *recipients, content=b"Subject: failed\r\n\r\nsorry\r\n") -> Report:
        id = self.spool.draft(NULL_SENDER, ()).id
        return Report(self.envelope(id, *recipients, sender=NULL_SENDER, size=len(content)), content)

    def contents(self):
        return sorted(path.name for path in (self.directory / "content").iterdir())

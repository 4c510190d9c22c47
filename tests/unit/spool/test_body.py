"""Content between the network and the disk: bounded memory, and a file that ends exactly once."""

import errno
import threading

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.spool.body import SMALL, WINDOW, Body
from mailserver.threads import Pool
from tests.support.spooling import BrokenDisk, temporary


class SlowDisk(BrokenDisk):
    """A disk whose writes wait for a gate."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def write(self, descriptor, data):
        self.gate.wait(10)
        super().write(descriptor, data)


class BodyTests(TestCase):
    timeout = 30

    def setUp(self):
        self.disk = SlowDisk()
        self.pool = Pool("test", 2, reactor.callFromThread)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.disk.gate.set)
        self.path = temporary(self) / "content"
        self.body = Body(self.disk, self.pool, self.path.parent, self.path.name)

    async def settled(self):
        """Wait until all threads have done what was submitted."""
        meeting = threading.Barrier(2, timeout=10)
        for each in [Deferred.fromCoroutine(self.pool.run(meeting.wait)) for _ in range(2)]:
            await each

    async def test_small_content_stays_in_memory(self):
        assert self.body.write(bytes(SMALL - 1)) is None
        assert self.body.write(b"x") is None
        sealed = await self.body.seal()
        assert (sealed.size, sealed.file, b"".join(sealed.chunks)) == (SMALL, None, bytes(SMALL - 1) + b"x")
        assert self.disk.calls == []

    async def test_memory_is_bounded_while_the_disk_is_slow(self):
        accepted = 0
        while (waiting := self.body.write(bytes(65536))) is None:
            accepted += 65536
        assert accepted <= WINDOW
        assert not waiting.called
        self.disk.gate.set()
        await waiting
        sealed = await self.body.seal()
        assert sealed.size == self.path.stat().st_size == accepted + 65536

    async def test_octets_keep_their_order(self):
        self.disk.gate.set()
        pieces = [bytes([number]) * (70_000 + number) for number in range(40)]
        for piece in pieces:
            waiting = self.body.write(piece)
            if waiting is not None:
                await waiting
        await self.body.seal()
        assert self.path.read_bytes() == b"".join(pieces)

    async def test_a_full_disk_lets_the_writer_go_and_drops_the_rest(self):
        self.disk.broken["write"] = errno.ENOSPC
        waiting = self.body.write(bytes(WINDOW + 1))
        self.disk.gate.set()
        await waiting
        assert self.body.write(bytes(WINDOW + 1)) is None
        assert self.body._chunks == []
        with pytest.raises(StorageFull):
            await self.body.seal()
        self.body.discard()
        await self.settled()
        assert not self.path.exists()

    async def test_discarding_under_a_write_waits_for_it(self):
        waiting = self.body.write(bytes(WINDOW + 1))
        self.body.discard()
        self.disk.gate.set()
        await waiting
        await self.settled()
        assert not self.path.exists()
        with pytest.raises(StorageTrouble):
            await self.body.seal()

    async def test_a_file_that_is_there_already_is_not_ours(self):
        self.path.write_bytes(b"somebody else's")
        self.disk.gate.set()
        self.body.write(bytes(SMALL + 1))
        with pytest.raises(StorageTrouble):
            await self.body.seal()
        self.body.discard()
        await self.settled()
        assert self.path.read_bytes() == b"somebody else's"

    async def test_a_pool_that_takes_no_more_is_trouble(self):
        self.pool.stop()
        assert self.body.write(bytes(SMALL + 1)) is None
        with pytest.raises(StorageTrouble):
            await self.body.seal()
        self.body.discard()

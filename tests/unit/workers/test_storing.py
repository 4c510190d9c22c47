"""A worker's two ways to its parent: what goes which way, and what follows when one is closed."""

import socket

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailserver.handing import OpenBatcher, spell_failure
from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, QueueID
from mailserver.spool.body import Sealed
from mailserver.spool.plain import read_message
from mailserver.workers.storing import Storing

ENVELOPE = Envelope(QueueID("1B"), NULL_SENDER, (), Origin(), 1.0)


class StoringTests(TestCase):
    timeout = 30

    def setUp(self):
        self.stored, self.delivered, self.lost = [], [], []
        self.result = None
        mailboxes, spool = socket.socketpair(), socket.socketpair()
        self.mailboxes = self.parent(mailboxes[1], self.delivered, lambda facts, octets: (facts, octets))
        self.spool = self.parent(spool[1], self.stored, read_message)
        self.storing = Storing(
            reactor, mailboxes[0].detach(), spool[0].detach(), lambda: self.lost.append(True)
        )
        self.addCleanup(self.storing.stop)

    def parent(self, end, done, read):
        def perform(jobs):
            done.extend(jobs)
            return [self.result] * len(jobs)

        def spell(job, result):
            return [spell_failure(result)] if done is self.delivered else spell_failure(result)

        batcher = OpenBatcher("test", perform, reactor.callFromThread, read, spell)
        batcher.start()
        batcher.open(end)
        self.addCleanup(batcher.stop)
        return batcher

    async def test_each_goes_its_way(self):
        content = Sealed(3, (b"one",))
        await self.storing.store(ENVELOPE, content)
        assert await self.storing.deliver(["alice"], b"two") == [None]
        assert self.stored == [(ENVELOPE, content)]
        assert self.delivered == [(["alice"], b"two")]

    async def test_a_full_disk_is_told_as_one(self):
        self.result = StorageFull("No space left")
        with pytest.raises(StorageFull):
            await self.storing.store(ENVELOPE, Sealed(3, (b"one",)))
        assert await self.storing.deliver([], b"two") == [("full", "No space left")]

    async def test_a_way_that_is_closed_is_told(self):
        await self.spool.stop()
        while not self.lost:
            waited = Deferred()
            reactor.callLater(0.01, waited.callback, None)
            await waited
        with pytest.raises(StorageTrouble):
            await self.storing.store(ENVELOPE, Sealed(3, (b"one",)))

    async def test_the_end_waits_for_answers(self):
        storing = Deferred.fromCoroutine(self.storing.store(ENVELOPE, Sealed(3, (b"one",))))
        await self.storing.stop()
        await storing
        assert self.stored
        assert not self.lost

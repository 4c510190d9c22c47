"""The entrance of a spool in another process: what it stores is stored by whoever has the spool."""

import secrets
from functools import partial

import pytest
from twisted.internet import reactor
from zope.interface.verify import verifyObject

from mailserver.interfaces import ISpool, StorageTrouble
from mailserver.spool.body import SMALL
from mailserver.spool.entrance import Entrance
from mailserver.spool.opening import CONTENT
from mailserver.spool.orders import StandingOrders, add_rule, pause
from tests.support.spooling import ALICE, DELIVERED, SpoolTestCase


class EntranceTests(SpoolTestCase):
    """The spool itself is the one to whom it is handed."""

    def enter(self, store=None):
        entrance = Entrance(
            self.directory / CONTENT,
            self.clock.seconds,
            reactor.callFromThread,
            secrets.randbits,
            store or self.spool.store,
            self.disk,
        )
        entrance.open()
        self.addCleanup(entrance.close)
        return entrance

    async def test_the_seam_is_kept(self):
        verifyObject(ISpool, self.enter())

    async def test_what_is_brought_here_is_delivered_there(self):
        entrance = self.enter()
        for octets in (b"small\r\n", b"x" * (SMALL + 1)):
            envelope = await self.store("bob@example.org", spool=entrance, content=octets)
            (duty,) = await self.take()
            assert duty.envelope == envelope
            assert await self.octets(envelope.id) == octets
            await self.settle(duty, DELIVERED)
        assert await self.take() == []

    async def test_large_content_is_on_the_disk_before_it_is_handed_over(self):
        handed = []

        async def store(envelope, content):
            handed.append((content.size, content.chunks, content.file))
            assert self.contents() == [content.file]
            assert self.disk.calls[-2:] == ["sync", "sync_directory"]

        content = b"x" * (SMALL + 1)
        envelope = await self.store("bob@example.org", spool=self.enter(store), content=content)
        assert handed == [(len(content), (), envelope.id)]

    async def test_what_is_not_stored_is_not_acknowledged(self):
        async def store(envelope, content):
            raise StorageTrouble("gone")

        with pytest.raises(StorageTrouble):
            await self.store("bob@example.org", spool=self.enter(store))

    async def test_what_the_administrator_orders_is_obeyed_once_it_is_told(self):
        told = []
        self.spool.on_orders = told.append
        entrance = self.enter()
        paused = self.envelope("1", "bob@example.org")
        ruled = self.envelope("2", "bob@example.net")
        await self.spool.order(partial(pause, name="example.org", now=self.clock.seconds()))
        assert not entrance.detains(paused)
        entrance.obey(self.spool.orders)
        assert (entrance.detains(paused), entrance.detains(ruled)) == (True, False)
        await self.spool.order(
            partial(add_rule, field="domain", value="example.net", now=self.clock.seconds())
        )
        entrance.obey(told[-1])
        assert entrance.detains(ruled)
        # What is stored goes by the orders that stand there, whatever is known here.
        entrance.obey(StandingOrders())
        await self.store("bob@example.net", spool=entrance)
        assert await self.take() == []

    async def test_a_mark_detains_a_message_without_any_order(self):
        assert self.enter().detains(self.envelope("1", "bob@example.org", marks={"hold": "too many"}))

    async def test_an_abandoned_draft_leaves_nothing(self):
        entrance = self.enter()
        draft = entrance.draft(ALICE, ())
        waiting = draft.write(b"x" * 2_000_000)
        assert waiting is not None
        await waiting
        assert self.contents() == [draft.id]
        draft.abandon()
        await entrance._files.run(lambda: None)
        while self.contents():
            await entrance._files.run(lambda: None)

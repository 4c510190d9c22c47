"""Mail from other processes: their entrance of the spool, and what it hands over to the one that has it."""

import marshal
import secrets
import socket
from functools import partial

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, DeferredQueue
from zope.interface.verify import verifyObject

from mailserver.handing import Outlet, read_failure
from mailserver.interfaces import ISpool, StorageTrouble
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.spool.body import SMALL, Sealed
from mailserver.spool.entrance import Entrance
from mailserver.spool.opening import CONTENT
from mailserver.spool.orders import StandingOrders, add_rule, pause
from mailserver.spool.plain import read_message, spell_message
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
        entrance.start_files()
        self.addCleanup(entrance.stop_files)
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


class HandedOverTests(SpoolTestCase):
    """What another process hands over."""

    def setUp(self):
        super().setUp()
        ours, theirs = socket.socketpair()
        self.spool.receive(theirs)
        self.outlet = Outlet(reactor, ours)
        self.addCleanup(self.outlet.close)

    async def hand_over(self, envelope, content):
        failure = read_failure(await self.outlet.hand_over(*spell_message(envelope, content)))
        if failure is not None:
            raise failure

    def enter(self):
        entrance = Entrance(
            self.directory / CONTENT,
            self.clock.seconds,
            reactor.callFromThread,
            secrets.randbits,
            self.hand_over,
            self.disk,
        )
        entrance.start_files()
        self.addCleanup(entrance.stop_files)
        return entrance

    async def test_it_is_stored_and_kept_at_hand(self):
        arrivals = DeferredQueue()
        self.spool.on_arrival = arrivals.put
        for octets in (b"small\r\n", b"x" * (SMALL + 1)):
            envelope = await self.store("bob@example.org", spool=self.enter(), content=octets)
            (duty,) = await arrivals.get()
            assert duty.envelope == envelope
            assert await self.octets(envelope.id) == octets
            assert (self.spool._recent.octets(envelope.id) is not None) == (len(octets) < SMALL)
            await self.settle(duty, DELIVERED)

    async def test_many_at_once_are_all_there(self):
        arrivals = DeferredQueue()
        self.spool.on_arrival = arrivals.put
        entrances = [self.spool, self.enter(), self.enter()]
        stored = [
            Deferred.fromCoroutine(self.store("bob@example.org", spool=entrances[n % 3])) for n in range(60)
        ]
        ids = {envelope.id for _, envelope in await DeferredList(stored, consumeErrors=True)}
        assert len(ids) == 60
        arrived = set()
        while len(arrived) < 60:
            arrived |= {duty.envelope.id for duty in await arrivals.get()}
        assert arrived == ids
        assert await self.take() == []

    async def test_a_disk_that_fails_is_told(self):
        await self.spool.order(lambda connection: connection.execute("DROP TABLE content") and None)
        with pytest.raises(StorageTrouble):
            await self.store("bob@example.org", spool=self.enter())
        assert await self.take() == []


@pytest.mark.parametrize(
    "change", [{}, {"sender": NULL_SENDER, "marks": {}, "requiretls": False}, {"ret": "", "recipients": ()}]
)
def test_an_envelope_comes_as_it_went(change):
    recipients = (
        Recipient(Address("bob smith", "example.lan"), "rfc822;b@x", frozenset({"FAILURE", "DELAY"})),
        Recipient(Address("carol", "example.lan"), notify=frozenset()),
        Recipient(Address("dave", "example.lan")),
    )
    origin = Origin("2001:db8::7", 1, "[x]", "ESMTPSA", "TLSv1.3 X", "alice@example.lan")
    envelope = evolve(
        Envelope(QueueID("1B"), Address("jürgen", "example.org"), recipients, origin, 1_700_000_000.25),
        size=7,
        body="8BITMIME",
        smtputf8=True,
        **{"ret": "HDRS", "envid": "QQ 314159", "requiretls": True, "marks": {"stranger": "yes"}} | change,
    )
    for content in (Sealed(6, (b"onetwo",)), Sealed(300_000, (), "1B", b"Subject: x\r\n")):
        facts, octets = spell_message(envelope, content)
        carried = marshal.loads(marshal.dumps(facts))
        assert read_message(carried, octets) == (envelope, content)
        assert read_message(carried, octets)[0].marks == envelope.marks


def test_content_in_pieces_is_handed_over_as_one():
    envelope = Envelope(QueueID("1B"), NULL_SENDER, (), Origin(), 0.0)
    assert read_message(*spell_message(envelope, Sealed(6, (b"one", b"two"))))[1] == Sealed(6, (b"onetwo",))

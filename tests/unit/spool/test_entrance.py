"""A spool to which several processes bring mail: what one commits, the one that delivers finds."""

from functools import partial

import pytest
from twisted.internet.defer import Deferred, DeferredList

from mailserver.files import locked
from mailserver.spool.opening import DATABASE
from mailserver.spool.orders import add_rule, pause
from mailserver.spool.schema import SpoolUnusable
from tests.support.spooling import ALICE, DELIVERED, SpoolTestCase


class JoiningTests(SpoolTestCase):
    """One spool is started, another joined; here both are in one process, on connections of their own."""

    def open(self, **options):
        spool = self.make(**options)
        spool.start(is_shared=True)
        self.addCleanup(spool.stop)
        return spool

    def join(self):
        joined = self.make()
        joined.join()
        self.addCleanup(joined.stop)
        return joined

    def bring(self, spool):
        return Deferred.fromCoroutine(self.store("bob@example.org", spool=spool))

    async def test_what_one_commits_the_other_delivers(self):
        joined, pokes = self.join(), []
        joined.on_arrival = lambda: pokes.append(True)
        content = b"Subject: x\r\n\r\n" + b"x" * 100_000 + b"\r\n"
        for octets in (b"small\r\n", content):
            envelope = await self.store("bob@example.org", spool=joined, content=octets)
            (duty,) = await self.take()
            assert duty.envelope == envelope
            assert await self.octets(envelope.id) == octets
            await self.settle(duty, DELIVERED)
        assert pokes
        assert await self.take() == []

    async def test_nothing_is_kept_at_hand_where_nothing_is_taken(self):
        joined = self.join()
        envelope = await self.store("bob@example.org", spool=joined)
        assert joined._recent.envelope(envelope.id) is None
        assert joined._recent.octets(envelope.id) is None

    async def test_a_commit_waits_for_its_turn(self):
        joined = self.join()
        with locked(self.directory):
            commit = self.bring(joined)
            assert await self.take() == []
            assert not commit.called
        await commit
        assert len(await self.take()) == 1

    async def test_many_at_once_are_all_there(self):
        spools = [self.spool, self.join(), self.join()]
        stored = [self.bring(spools[number % 3]) for number in range(60)]
        results = await DeferredList(stored, consumeErrors=True)
        ids = {envelope.id for _, envelope in results}
        assert len(ids) == 60
        assert {duty.envelope.id for duty in await self.take()} == ids

    async def test_joining_sweeps_nothing(self):
        draft = self.spool.draft(ALICE, ())
        waiting = draft.write(b"x" * 2_000_000)
        assert waiting is not None
        await waiting
        before = self.contents()
        assert before
        self.join()
        assert self.contents() == before
        draft.abandon()

    async def test_what_the_administrator_ordered_before_is_known(self):
        await self.spool.order(partial(pause, name="example.org", now=self.clock.seconds()))
        joined, told = self.join(), []
        paused = self.envelope("1", "bob@example.org")
        free = self.envelope("2", "bob@example.net")
        assert (joined.detains(paused), joined.detains(free)) == (True, False)
        # What is ordered later has to be told.
        self.spool.on_orders = told.append
        await self.spool.order(
            partial(add_rule, field="domain", value="example.net", now=self.clock.seconds())
        )
        assert not joined.detains(free)
        joined.obey(told[-1])
        assert joined.detains(free)
        # A commit goes by what the database says, whatever has been told.
        late = self.join()
        late.obey(told[0].__class__())
        await self.store("bob@example.net", spool=late)
        assert await self.take() == []

    async def test_there_is_none(self):
        await self.spool.stop()
        (self.directory / DATABASE).write_bytes(b"no database" * 1000)
        with pytest.raises(SpoolUnusable):
            self.make().join()

"""Work is handed over a socket to a thread, and answered; either end may go."""

import marshal
import socket
import struct
import threading
import time

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.trial.unittest import SkipTest, TestCase

from mailserver import handing
from mailserver.handing import MOST_OCTETS, OpenBatcher, Outlet, read_failure, spell_failure, way
from mailserver.interfaces import MailboxFull, StorageFull, StorageTrouble


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (MailboxFull(), MailboxFull, ""),
        (StorageFull("No space left"), StorageFull, "No space left"),
        (StorageTrouble("EIO"), StorageTrouble, "EIO"),
        (KeyError("x"), StorageTrouble, "KeyError: 'x'"),
        (StorageTrouble("x" * 5000), StorageTrouble, "x" * 300),
    ],
)
def test_a_failure_comes_as_it_went(failure: Exception, kind: type[Exception], text: str) -> None:
    read = read_failure(marshal.loads(marshal.dumps(spell_failure(failure))))
    assert (type(read), str(read)) == (kind, text)


def test_no_failure_is_none() -> None:
    assert read_failure(spell_failure(None)) is None


class HandingTests(TestCase):
    timeout = 30

    def setUp(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def perform(self, jobs):
        self.gate.wait(10)
        self.batches.append(list(jobs))
        return [StorageFull("no room") if job == ("full", b"") else job for job in jobs]

    def spell(self, job, result):
        return [spell_failure(result)] if isinstance(result, Exception) else [job[0], len(job[1])]

    def batcher(self, perform=None, **options):
        batcher = OpenBatcher(
            "test", perform or self.perform, reactor.callFromThread, self.read, self.spell, **options
        )
        batcher.start()
        self.addCleanup(batcher.stop)
        return batcher

    def read(self, facts, octets):
        if facts == "nonsense":
            raise ValueError(facts)
        return facts, octets

    def outlet(self, batcher):
        inner, outer = way()
        batcher.open(inner)
        outlet = Outlet(reactor, outer)
        self.addCleanup(outlet.close)
        return outlet

    async def test_a_piece_is_done_and_answered(self):
        outlet = self.outlet(self.batcher())
        assert await outlet.hand_over("one", b"octets") == ["one", 6]
        assert await outlet.hand_over("two", b"") == ["two", 0]
        assert self.batches == [[("one", b"octets")], [("two", b"")]]

    async def test_what_it_comes_to_may_be_a_failure(self):
        (answer,) = await self.outlet(self.batcher()).hand_over("full", b"")
        assert isinstance(read_failure(answer), StorageFull)

    async def test_what_raises_fails_all_of_its_batch_and_no_other(self):
        def perform(jobs):
            raise StorageTrouble(f"{len(jobs)} jobs")

        batcher = self.batcher(perform)
        outlet = self.outlet(batcher)
        (answer,) = await outlet.hand_over("one", b"")
        assert answer == ("trouble", "1 jobs")
        with pytest.raises(StorageTrouble):
            await batcher.submit(("own", b""))

    async def test_what_comes_meanwhile_from_all_is_one_batch(self):
        batcher = self.batcher()
        outlets = [self.outlet(batcher) for _ in range(3)]
        self.gate.clear()
        first = outlets[0].hand_over("first", b"")
        await self.turn(lambda: batcher._waiting.empty())
        waiting = [outlet.hand_over(n, b"x") for n, outlet in enumerate(outlets) for _ in range(2)]
        own = batcher.submit(("own", b"x"))
        await self.turn(lambda: not any(outlet._is_leaving for outlet in outlets))
        self.gate.set()
        await DeferredList([first, own, *waiting])
        assert [len(batch) for batch in self.batches] == [1, 7]
        assert await own == ("own", b"x")

    async def test_that_the_other_end_is_gone_is_told_before_who_waits_is_failed(self):
        """Who is failed may want to go another way; and is failed whatever comes of the telling."""
        inner, outer = way()
        outlet, told = Outlet(reactor, outer), []

        def closed():
            told.append("closed")
            raise ValueError("cannot be stopped twice")

        outlet.closed = closed
        asked = outlet.hand_over("one", b"").addErrback(lambda failure: told.append(failure.type))
        inner.close()
        await asked
        assert told == ["closed", StorageTrouble]
        await self.turn(lambda: len(self.flushLoggedErrors(ValueError)) == 1)

    async def test_octets_in_parts_arrive_as_one(self):
        outlet = self.outlet(self.batcher())
        assert await outlet.hand_over("one", b"head", b"", b"body") == ["one", 8]
        assert await outlet.hand_over("none", b"", b"") == ["none", 0]
        assert [job for batch in self.batches for job in batch] == [("one", b"headbody"), ("none", b"")]
        more = outlet.hand_over("more", b"", b"x")
        assert len(outlet._parts) == 2  # what is empty is no part
        assert await more == ["more", 1]

    async def test_what_is_large_waits_in_the_way_to_be_one_batch(self):
        batcher = self.batcher()
        outlet = self.outlet(batcher)
        room = outlet._handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if room < 2 * handing._USUAL:
            raise SkipTest(f"the system lets a socket hold {room} octets")
        self.gate.clear()
        first = outlet.hand_over("first", b"")
        await self.turn(lambda: not outlet._is_leaving)
        large = [outlet.hand_over(n, bytes(100_000)) for n in range(8)]
        await self.turn(lambda: not outlet._is_leaving)  # nothing is left here, though nobody has read any
        self.gate.set()
        await DeferredList([first, *large])
        assert [len(batch) for batch in self.batches] == [1, 8]

    async def test_a_batch_is_bounded_and_the_rest_comes_next(self):
        batcher = self.batcher(most=4)
        outlet = self.outlet(batcher)
        self.gate.clear()
        waiting = [outlet.hand_over(n, b"") for n in range(10)]
        self.gate.set()
        answers = [await one for one in waiting]
        assert answers == [[n, 0] for n in range(10)]
        assert max(len(batch) for batch in self.batches) <= 4

    async def test_large_and_many_come_whole_and_in_order(self):
        outlet = self.outlet(self.batcher())
        sizes = [0, 1, 300_000, 4096, 2_000_000, 7] * 10
        waiting = [outlet.hand_over(n, bytes([n % 251]) * size) for n, size in enumerate(sizes)]
        assert [await one for one in waiting] == [[n, size] for n, size in enumerate(sizes)]
        for n, (facts, octets) in enumerate(job for batch in self.batches for job in batch):
            assert facts == n
            assert octets == bytes([n % 251]) * sizes[n]

    async def test_who_asked_may_be_gone(self):
        batcher = self.batcher()
        outlet = self.outlet(batcher)
        asked = outlet.hand_over("one", b"")
        asked.cancel()
        with pytest.raises(CancelledError):
            await asked
        assert await outlet.hand_over("two", b"") == ["two", 0]
        assert [job for batch in self.batches for job in batch] == [("one", b""), ("two", b"")]

    async def test_the_end_waits_for_answers(self):
        outlet = self.outlet(self.batcher())
        await outlet.settle()
        self.gate.clear()
        asked = outlet.hand_over("one", b"")
        settled = Deferred.fromCoroutine(outlet.settle())
        given_up = outlet.hand_over("two", b"")
        given_up.cancel()
        with pytest.raises(CancelledError):
            await given_up
        assert not settled.called
        self.gate.set()
        await settled
        assert await asked == ["one", 0]
        assert outlet._asked == {}

    # --- either end goes

    async def test_the_one_who_stores_goes(self):
        batcher = self.batcher()
        outlet = self.outlet(batcher)
        closed = Deferred()
        outlet.closed = lambda: closed.callback(None)
        self.gate.clear()
        asked = outlet.hand_over("one", b"")
        stopped = batcher.stop()
        self.gate.set()
        await stopped
        await closed
        # Whether it was done before the end is open; that it is over is not.
        await asked.addErrback(lambda failure: failure.trap(StorageTrouble))
        with pytest.raises(StorageTrouble):
            await outlet.hand_over("two", b"")

    async def test_a_worker_goes_and_the_others_do_not_notice(self):
        batcher = self.batcher()
        going, staying = self.outlet(batcher), self.outlet(batcher)
        self.gate.clear()
        lost, kept = going.hand_over("lost", b"x" * 100), staying.hand_over("kept", b"")
        await self.turn(lambda: not (going._is_leaving or staying._is_leaving))
        going.close()
        with pytest.raises(StorageTrouble):
            await lost
        self.gate.set()
        assert await kept == ["kept", 0]
        assert await staying.hand_over("more", b"") == ["more", 0]
        assert len(batcher._inlets) == 1

    async def test_nonsense_ends_it_for_who_speaks_it(self):
        batcher = self.batcher()
        staying = self.outlet(batcher)
        for said in (
            struct.pack("!II", MOST_OCTETS, MOST_OCTETS),
            struct.pack("!II", 4, 0) + b"\xff\xff\xff\xff",
            struct.pack("!II", 5, 0) + marshal.dumps(7),
            struct.pack("!II", MOST_OCTETS, 1),
            self.frame((1, "nonsense")),
        ):
            ours, theirs = socket.socketpair()
            batcher.open(theirs)
            ours.sendall(said)
            ours.settimeout(10)
            assert await staying.hand_over("one", b"") == ["one", 0]
            assert ours.recv(100) == b""
            ours.close()

    async def test_who_lets_answers_lie_is_given_up(self):
        batcher = self.batcher()
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        batcher.open(theirs)
        ours.settimeout(10)
        try:
            for n in range(100_000):
                ours.sendall(self.frame((n, "x" * 100)))
        except OSError:
            pass
        else:
            self.fail("it goes on")
        finally:
            ours.close()
        assert await self.outlet(batcher).hand_over("one", b"") == ["one", 0]

    async def test_it_stops_with_what_was_handed_over_done(self):
        batcher = self.batcher()
        done = batcher.submit(("own", b""))
        await batcher.stop()
        assert await done == ("own", b"")
        with pytest.raises(RuntimeError):
            batcher.submit(("late", b""))
        await batcher.stop()

    async def test_a_job_that_comes_while_it_looks_whether_it_is_at_the_end_is_done(self):
        batcher = self.batcher()
        taken, done = batcher._take_waiting, []

        def take(most):
            batch = taken(most)
            if not batch and not done:
                done.append(None)
                reactor.callFromThread(lambda: done.append(batcher.submit(("late", b""))))
                while len(done) < 2:
                    time.sleep(0.001)
            return batch

        batcher._take_waiting = take
        outlet = self.outlet(batcher)  # wakes it, with nothing to do
        await self.turn(lambda: len(done) == 2)
        assert await done[1] == ("late", b"")
        assert await outlet.hand_over("one", b"") == ["one", 0]

    async def test_jobs_of_this_process_do_not_wait_for_those_of_others(self):
        batcher = self.batcher(most=4)
        outlet = self.outlet(batcher)
        self.gate.clear()
        waiting = [outlet.hand_over(n, b"") for n in range(40)]
        await self.turn(lambda: not outlet._is_leaving)
        own = batcher.submit(("own", b""))
        self.gate.set()
        await DeferredList([own, *waiting])
        done = [job for batch in self.batches for job in batch]
        assert done.index(("own", b"")) <= 8

    async def test_answers_that_find_no_room_wait_for_it(self):
        batcher = self.batcher()
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        batcher.open(theirs)
        count = 500
        ours.sendall(b"".join(self.frame((n, "x" * 100)) for n in range(count)))
        other = self.outlet(batcher)
        assert await other.hand_over("one", b"") == ["one", 0]
        assert len(batcher._inlets) == 2
        outlet = Outlet(reactor, ours)
        self.addCleanup(outlet.close)
        outlet._asked = {n: Deferred() for n in range(count)}
        for asked in list(outlet._asked.values()):
            assert await asked == ["x" * 100, 0]

    async def test_a_long_answer_is_no_fault_of_who_asked(self):
        batcher = self.batcher()
        batcher._spell = lambda job, result: "x" * 3_000_000
        outlet = self.outlet(batcher)
        assert len(await outlet.hand_over("one", b"")) == 3_000_000
        assert len(await outlet.hand_over("two", b"")) == 3_000_000

    async def test_what_is_too_large_is_refused_here(self):
        self.patch(handing, "_MOST_IN_PIECE", 1000)
        outlet = self.outlet(self.batcher())
        with pytest.raises(StorageTrouble):
            await outlet.hand_over("one", b"x" * 1000)
        assert await outlet.hand_over("two", b"x" * 500) == ["two", 500]

    async def test_an_answer_that_cannot_be_spelled_ends_nothing_but_its_way(self):
        batcher = self.batcher()
        going, staying = self.outlet(batcher), self.outlet(batcher)
        batcher._spell = lambda job, result: object() if job[0] == "odd" else self.spell(job, result)
        with pytest.raises(StorageTrouble):
            await going.hand_over("odd", b"")
        assert await staying.hand_over("one", b"") == ["one", 0]

    async def test_who_comes_after_the_end_is_sent_away(self):
        batcher = self.batcher()
        await batcher.stop()
        closed = Deferred()
        outlet = self.outlet(batcher)
        outlet.closed = lambda: closed.callback(None)
        await closed

    async def test_answers_are_read_however_they_are_cut(self):
        ours, theirs = socket.socketpair()
        outlet = Outlet(reactor, ours)
        self.addCleanup(outlet.close)
        first, second = outlet.hand_over("one", b""), outlet.hand_over("two", b"")
        spelled = marshal.dumps([(1, "a"), (2, "b")])
        for octet in struct.pack("!I", len(spelled)) + spelled:
            theirs.sendall(bytes([octet]))
            await self.turn(lambda: True)
        assert (await first, await second) == ("a", "b")
        theirs.close()

    async def test_it_may_be_stopped_without_having_begun(self):
        batcher = OpenBatcher("test", self.perform, reactor.callFromThread, self.read, self.spell)
        await batcher.stop()

    # --- inside

    def frame(self, value):
        spelled = marshal.dumps(value)
        return struct.pack("!II", len(spelled), 0) + spelled

    async def turn(self, ready):
        while True:
            turned = Deferred()
            reactor.callLater(0.01, turned.callback, None)
            await turned
            if ready():
                return

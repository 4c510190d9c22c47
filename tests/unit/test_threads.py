"""The Batcher does together what waits together; the Pool bounds; both stop in order."""

import threading
import time

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from mailserver.threads import Batcher, Busy, Pool


class BatcherTests(TestCase):
    def batcher(self, perform, **options):
        batcher = Batcher("test", perform, reactor.callFromThread, **options)
        self.addCleanup(batcher.stop)
        return batcher

    async def test_what_waits_is_one_batch_oldest_first(self):
        batches = []

        def perform(jobs):
            batches.append(list(jobs))
            return [job * 2 for job in jobs]

        batcher = self.batcher(perform)
        done = [batcher.submit(n) for n in range(5)]
        batcher.start()
        assert [await each for each in done] == [0, 2, 4, 6, 8]
        assert batches == [[0, 1, 2, 3, 4]]

    async def test_a_batch_is_bounded(self):
        sizes = []

        def perform(jobs):
            sizes.append(len(jobs))
            return jobs

        batcher = self.batcher(perform, most=2)
        done = [batcher.submit(n) for n in range(5)]
        batcher.start()
        for each in done:
            await each
        assert sizes == [2, 2, 1]

    async def test_an_exception_returned_is_raised_to_its_job_only(self):
        batcher = self.batcher(lambda jobs: [ValueError(job) if job == 1 else job for job in jobs])
        done = [batcher.submit(n) for n in range(3)]
        batcher.start()
        assert await done[0] == 0
        with pytest.raises(ValueError, match="1"):
            await done[1]
        assert await done[2] == 2

    async def test_an_exception_raised_is_raised_to_all_and_the_thread_lives_on(self):
        calls = []

        def perform(jobs):
            calls.append(jobs)
            if len(calls) == 1:
                raise KeyError("first")
            return jobs

        batcher = self.batcher(perform)
        done = [batcher.submit(n) for n in range(2)]
        batcher.start()
        for each in done:
            with pytest.raises(KeyError):
                await each
        assert await batcher.submit(7) == 7

    async def test_cancelling_frees_the_caller_and_leaves_the_job(self):
        seen = []

        def perform(jobs):
            seen.extend(jobs)
            return jobs

        batcher = self.batcher(perform)
        first, second = batcher.submit(1), batcher.submit(2)
        first.cancel()
        batcher.start()
        with pytest.raises(CancelledError):
            await first
        assert await second == 2
        assert seen == [1, 2]

    async def test_stop_does_what_was_submitted_and_refuses_more(self):
        batcher = self.batcher(lambda jobs: jobs)
        done = batcher.submit(1)
        batcher.start()
        await batcher.stop()
        assert self.successResultOf(done) == 1
        with pytest.raises(RuntimeError):
            batcher.submit(2)

    async def test_stop_may_be_called_again_at_any_time(self):
        """The thread may end before, while or after stop() looks at it; it says so once."""
        for _ in range(50):
            batcher = self.batcher(lambda jobs: jobs)
            batcher.start()
            first, second = batcher.stop(), batcher.stop()
            batcher._thread.join()
            third = batcher.stop()
            for each in (first, second, third):
                await each

    async def test_stop_of_one_never_started(self):
        batcher = self.batcher(lambda jobs: jobs)
        await batcher.stop()
        await batcher.stop()


class PoolTests(TestCase):
    def pool(self, size=1, **options):
        pool = Pool("test", size, reactor.callFromThread, **options)
        self.addCleanup(pool.stop)
        return pool

    async def test_results_and_exceptions_come_back(self):
        pool = self.pool()
        pool.start()
        assert await pool.run(divmod, 7, 3) == (2, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 7, 0)

    async def test_it_runs_elsewhere(self):
        pool = self.pool()
        pool.start()
        assert await pool.run(threading.get_ident) != threading.get_ident()

    async def test_too_many_waiting_is_busy(self):
        pool = self.pool(backlog=1)
        first = Deferred.fromCoroutine(pool.run(time.monotonic))
        with pytest.raises(Busy):
            await pool.run(time.monotonic)
        pool.start()
        await first

    async def test_stop_does_what_was_submitted_and_refuses_more(self):
        pool = self.pool(size=2)
        waiting = [Deferred.fromCoroutine(pool.run(abs, -n)) for n in range(5)]
        pool.start()
        pool.stop()
        assert [await each for each in waiting] == [0, 1, 2, 3, 4]
        with pytest.raises(Busy):
            await pool.run(abs, 1)

    async def test_one_slow_job_holds_up_one_thread(self):
        pool = self.pool(size=2)
        pool.start()
        gate = threading.Event()
        slow = Deferred.fromCoroutine(pool.run(gate.wait, 10))
        assert await pool.run(abs, -1) == 1
        gate.set()
        assert await slow

"""The threads that do what the reactor may not: wait for a disk, hash a password (law 3).

:class:`Batcher` is one thread that takes *all* jobs waiting at a moment and does them in one call: that is
group commit. :class:`Pool` is a small number of threads that take one job each. Both hand results back to
the reactor in batches, one wake-up for many, and neither shares a thread with anybody else: a slow disk
does not hold up a password, nor does the reactor's own pool hold up either.

Failures: what ``perform`` returns as an exception is raised to the one who submitted that job; what it
raises is raised to all of the batch. After :meth:`Batcher.stop` nothing is accepted any more, and what was
accepted is done.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Batcher", "Busy", "CallFromThread", "Pool"]

Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")

CallFromThread = Callable[..., object]
"""``reactor.callFromThread``, or a test's stand-in: runs a callable in the reactor's thread, in order."""


class Busy(Exception):
    """Too many jobs wait already."""


class Batcher(Generic[Job, Result]):
    """One thread; one call for all jobs that wait.

    :param perform: called in the thread with the waiting jobs, oldest first and at most ``most`` of
        them; returns one result, or one exception, for each.
    :param call: ``reactor.callFromThread``.
    """

    def __init__(
        self,
        name: str,
        perform: Callable[[Sequence[Job]], Sequence[Result | Exception]],
        call: CallFromThread,
        most: int = 256,
    ) -> None:
        self._perform = perform
        self._call = call
        self.most = most
        """Jobs of one call, at most. ``perform`` may change it for the next."""
        # Each job with who waits for it; None behind the last one. One lock in C, not several in Python.
        # mailserver.handing.OpenBatcher, which also takes jobs from elsewhere, uses this and what follows.
        self._waiting: SimpleQueue[tuple[Job, Deferred[Result]] | None] = SimpleQueue()
        self._stopping = False
        self._is_at_end = False  # known to the thread: the last job has been taken
        self._stopped: Deferred[None] = Deferred()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Jobs may be submitted before."""
        self._thread.start()

    def submit(self, job: Job) -> "Deferred[Result]":
        """Do a job soon. Cancelling the Deferred does not undo the job."""
        if self._stopping:
            raise RuntimeError("submit() after stop()")
        done: Deferred[Result] = Deferred(lambda _: None)
        self._waiting.put((job, done))
        return done

    def stop(self) -> "Deferred[None]":
        """Finish what was submitted and end the thread."""
        first, self._stopping = not self._stopping, True
        if first:
            self._waiting.put(None)
            if self._thread.ident is None:
                # Never started: nobody else will say so. A thread that runs, or ran, says it itself.
                self._stopped.callback(None)
        return self._stopped

    def _run(self) -> None:
        while not self._is_at_end:
            self._do_batch()
        self._call(self._stopped.callback, None)

    def _do_batch(self) -> None:
        # A function of its own, so that an idle thread holds on to nothing of its last batch.
        entry = self._waiting.get()
        if entry is None:
            self._is_at_end = True
            return
        batch = [entry, *self._take_waiting(self.most - 1)]
        try:
            results = self._perform([job for job, _ in batch])
        except BaseException:
            self._call(_fail_all, [done for _, done in batch], Failure())
        else:
            self._finish([done for _, done in batch], results)

    def _take_waiting(self, most: int) -> list[tuple[Job, "Deferred[Result]"]]:
        """What waits, at most so much."""
        taken: list[tuple[Job, Deferred[Result]]] = []
        while len(taken) < most and not self._waiting.empty():
            entry = self._waiting.get()
            if entry is None:
                self._is_at_end = True
                break
            taken.append(entry)
        return taken

    def _finish(self, waiting: Sequence["Deferred[Result]"], results: Sequence[Result | Exception]) -> None:
        self._call(_finish_all, waiting, results)


def _finish_all(waiting: Sequence["Deferred[Any]"], results: Sequence[object]) -> None:
    for done, result in zip(waiting, results, strict=True):
        if done.called:
            continue
        if isinstance(result, Exception):
            done.errback(Failure(result))
        else:
            done.callback(result)


def _fail_all(waiting: Sequence["Deferred[Any]"], failure: Failure) -> None:
    for done in waiting:
        if not done.called:
            done.errback(failure)


class Pool:
    """A few threads for one purpose, with a bounded queue before them.

    :param size: how many threads.
    :param backlog: how many jobs may wait; one more raises :class:`Busy`.
    """

    def __init__(self, name: str, size: int, call: CallFromThread, backlog: int = 1000) -> None:
        self._call = call
        self._backlog = backlog
        self._waiting: deque[tuple[Callable[[], object], Deferred[Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(size)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call ``function(*arguments)`` in a thread of the pool and return, or raise, what it does."""
        done: Deferred[T] = Deferred(lambda _: None)
        with self._wake:
            if self._stopping or len(self._waiting) >= self._backlog:
                raise Busy
            self._waiting.append((lambda: function(*arguments), done))
            self._wake.notify()
        return await done

    def stop(self) -> None:
        """Do what was submitted, then end the threads. Does not wait for them."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _run(self) -> None:
        while self._do_one():
            pass

    def _do_one(self) -> bool:
        # A function of its own, so that an idle thread holds on to nothing of its last job.
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            if not self._waiting:
                return False
            call, done = self._waiting.popleft()
        try:
            result = call()
        except BaseException:
            self._call(_fail_all, [done], Failure())
        else:
            self._call(_finish_one, done, result)
        return True


def _finish_one(done: "Deferred[Any]", result: object) -> None:
    if not done.called:
        done.callback(result)

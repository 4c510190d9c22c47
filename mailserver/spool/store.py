"""The spool: one object for those who bring mail and for those who deliver it.

It promises what :class:`~mailserver.interfaces.ISpool` and :class:`~mailserver.interfaces.IQueue` say, with
SQLite (write-ahead log, ``synchronous=FULL``) and one file for each large content::

    DIRECTORY/              0700
        spool.db            0600, with spool.db-wal and spool.db-shm while the server runs
        history.db          0600, what became of mail (mailserver.spool.history)
        content/QUEUE-ID    0600, contents of more than 256 KB
        damaged             damage was met while the server ran; the next start checks everything
        *.corrupt-TIME      set aside by a start that found damage; never removed

Four kinds of threads: one commits (group commit: whatever waits when a commit ends is the next transaction),
one reads, one copies the log into the database (:mod:`mailserver.spool.checkpoints`), a few touch content
files. The reactor's thread touches no disk after :meth:`Spool.start`.

Failures: a full disk is :class:`~mailserver.interfaces.StorageFull`, anything else
:class:`~mailserver.interfaces.StorageTrouble`, to the one whose call met it. An error of the database is also
told to the journal, each once a minute at most. After an error of a commit nothing of it is there, except
that a crash that follows at once may find it on the disk after all; the worst of that is a duplicate.

One process at a time has a spool; who makes sure of that holds a lock on the state directory. Others bring
mail to it by handing it over (:meth:`Spool.receive`), so that what comes to all of them at a time is one
group.

The clock may be wrong. Times are only compared, and nobody waits beyond ``longest_wait`` from now: whoever
does, after the clock went back or at start, is due at once.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from threading import Barrier
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver import journal
from mailserver.handing import OpenBatcher, spell_failure
from mailserver.interfaces import (
    Duty,
    IContent,
    IQueue,
    IReport,
    Settlement,
    StorageTrouble,
    Taking,
)
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.spool import opening, schema
from mailserver.spool.body import Sealed
from mailserver.spool.checkpoints import Checkpoints
from mailserver.spool.claims import Claims, Pair
from mailserver.spool.content import FileContent, MemoryContent
from mailserver.spool.disk import Disk
from mailserver.spool.entrance import FILE_THREADS, Entrance
from mailserver.spool.history import History
from mailserver.spool.orders import EVERYTHING, NoSuchMessage, StandingOrders, read_requests
from mailserver.spool.plain import read_message
from mailserver.spool.reader import Reader
from mailserver.spool.recent import Recent
from mailserver.spool.schema import SpoolUnusable
from mailserver.spool.taken import Taken
from mailserver.spool.trouble import as_trouble, is_damage
from mailserver.spool.writer import Changes, Job, Order, Recall, Settle, Store, Writer
from mailserver.threads import Batcher, Busy, CallFromThread

__all__ = ["Spool", "SpoolUnusable"]

T = TypeVar("T")

_DAY = 86_400.0
_STEP_BACK = 60.0
_MOST_ENDED = 1000
_MUTE = 60.0
_PATIENCE = 10.0


@implementer(IQueue)
class Spool(Entrance):
    """The durable queue store in one directory.

    :param now: seconds since 1970.
    :param call_from_thread: ``reactor.callFromThread``.
    :param entropy: gives random bits, as ``secrets.randbits`` does.
    :param longest_wait: nobody waits longer than this from now, whatever the clock did; at least the longest
        wait of any retry schedule.
    :param memory: octets of recent messages kept at hand.
    """

    on_arrival: Callable[[Sequence[Duty]], None] | None = None
    """As :attr:`mailserver.interfaces.IQueue.on_arrival`."""

    on_orders: Callable[[StandingOrders], None] = staticmethod(lambda orders: None)
    """Called in the reactor's thread with the orders that stand from now on."""

    history: History | None = None
    """Is told what becomes of mail; started and stopped with the spool. Set before the start."""

    def __init__(
        self,
        directory: Path,
        now: Callable[[], float],
        call_from_thread: CallFromThread,
        entropy: Callable[[int], int],
        longest_wait: float = _DAY,
        memory: int = 32 * 1024 * 1024,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(directory / opening.CONTENT, now, call_from_thread, entropy, self.store, disk)
        self._directory = directory
        self._call = call_from_thread
        self._longest_wait = longest_wait
        self._recent = Recent(memory)
        self._connections: list[sqlite3.Connection] = []
        self._taken: dict[tuple[QueueID, str], Taken] = {}
        self._claims = Claims()
        self._ended: list[Pair] = []  # taken no more, which the reader does not know yet
        self._latest = 0.0  # the latest time that take() was told
        self._told: dict[str, float] = {}

    # --- life

    def start(self) -> None:
        """Open the spool; blocks. Raises :class:`SpoolUnusable`: the server must not serve then."""
        now = self._now()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        try:
            opening.prepare(self._directory, self._disk, stamp, self._say)
            writer = self._connect()
            opening.sweep(self._connections[0], self._directory, self._disk, self._say)
        except (OSError, sqlite3.Error) as error:
            raise SpoolUnusable(f"{self._directory}: {error}") from error
        writer.perform([Recall(now, now + self._longest_wait)])
        self._begin(writer)

    def _connect(self) -> Writer:
        writing = opening.open_writer(self._directory)
        self._connections.append(writing)
        reading = schema.connect(self._directory / opening.DATABASE)
        self._connections.append(reading)
        self._reader = Reader(reading, self._recent, self._claims, self._complain)
        self._orders = read_requests(writing)
        copying = opening.open_checkpointer(self._directory)
        self._connections.append(copying)
        self._checkpoints = Checkpoints(copying, self._complain)
        writer = Writer(writing, self._disk, self._contents, self._claims, self._committed, self._complain)
        writer.checkpoints = self._checkpoints
        return writer

    def _begin(self, writer: Writer) -> None:
        self._writing: OpenBatcher[Job, Any] = OpenBatcher(
            "spool-writer", writer.perform, self._call, self._read_handed, _spell_handed
        )
        self._reading: Batcher[Callable[[], Any], Any] = Batcher(
            "spool-reader", self._reader.perform, self._call
        )
        self._copying: Batcher[None, None] = Batcher("spool-log", self._checkpoints.perform, self._call)
        self.start_files()
        self._copying.start()
        self._writing.start()
        self._reading.start()
        if self.history is not None:
            self.history.start()

    async def stop(self) -> None:
        """Commit what was submitted and close. Whatever comes later is :class:`StorageTrouble`."""
        await self._writing.stop()
        await self._reading.stop()
        await self._copying.stop()
        connections, self._connections = self._connections, []
        if connections:
            # When all its threads meet, each has done what was submitted before.
            meeting = Barrier(FILE_THREADS, timeout=_PATIENCE)
            meetings = [Deferred.fromCoroutine(self._files.run(meeting.wait)) for _ in range(FILE_THREADS)]
            await DeferredList(meetings, consumeErrors=True)
            await self._files.run(_close, connections)
            self.stop_files()
            if self.history is not None:
                await self.history.stop()

    # --- those who bring mail

    async def store(self, envelope: Envelope, content: Sealed) -> None:
        """Make a message durable; its content is the spool's from now on. Raises :class:`StorageTrouble`."""
        await self._submit(Store(envelope, content, self._now()))

    def receive(self, handle: socket) -> None:
        """Store what another process hands over (:mod:`mailserver.spool.plain`). After the start."""
        self._writing.open(handle)

    def _read_handed(self, facts: Any, octets: bytes) -> Store:
        """In the writer's thread."""
        return Store(*read_message(facts, octets), self._now())

    async def _submit(self, job: Job) -> Any:
        try:
            return await self._writing.submit(job)
        except (CancelledError, StorageTrouble, NoSuchMessage):
            raise
        except Exception as error:
            raise as_trouble(error) from error

    # --- those who deliver

    async def take(self, now: float, full: frozenset[str], limit: int) -> Taking:
        """As :meth:`mailserver.interfaces.IQueue.take`."""
        if now < self._latest - _STEP_BACK:
            await self._submit(Recall(now, now + self._longest_wait))
            self._latest = now
        self._latest = max(self._latest, now)
        found, left = await self._ask(lambda: self._reader.take(now, full, limit))
        return Taking(self._note(found), left)

    async def next_due(self) -> float | None:
        """As :meth:`mailserver.interfaces.IQueue.next_due`."""
        due: float | None = await self._ask(self._reader.next_due)
        return due

    async def content(self, id: QueueID) -> IContent:
        """As :meth:`mailserver.interfaces.IQueue.content`."""
        octets = self._recent.octets(id)
        if octets is None:
            stored = await self._ask(lambda: self._reader.content(id))
            if stored.file is not None:
                return FileContent(self._disk, self._files, self._contents / stored.file, stored.size)
            octets = stored.octets
        return MemoryContent(octets)

    async def settle(
        self, duty: Duty, settlements: Mapping[Recipient, Settlement], reports: Sequence[IReport]
    ) -> None:
        """As :meth:`mailserver.interfaces.IQueue.settle`."""
        taken = self._taken.get((duty.envelope.id, duty.destination))
        if taken is None:
            raise ValueError(f"{duty.envelope.id} for {duty.destination} is not taken")
        now = self._now()
        stores = await self._seal(reports, now)
        attempts = self.history.attempts(duty.envelope.id) if self.history is not None else ()
        await self._submit(
            Settle(
                duty=duty,
                taken=taken,
                settlements=dict(settlements),
                reports=stores,
                now=now,
                attempts=attempts,
            )
        )

    def release(self, duty: Duty) -> None:
        """As :meth:`mailserver.interfaces.IQueue.release`."""
        self._forget([duty])

    # --- those who steer

    async def order(self, apply: Callable[[sqlite3.Connection], T]) -> T:
        """Perform an order (:mod:`mailserver.spool.orders`), durably; what it returns.

        It is followed by a poke, for whoever is made due by it. Raises :class:`StorageTrouble` or
        :class:`~mailserver.spool.orders.NoSuchMessage`, and then nothing is changed.
        """
        result: T = await self._submit(Order(apply))
        return result

    async def seize(self, hold: str, after: int, limit: int) -> tuple[list[Duty], int, int | None]:
        """Take what is held for this very reason: see :meth:`mailserver.spool.reader.Reader.seize`.

        The duties are settled or released as those of :meth:`take` are.
        """
        found, busy, last = await self._ask(lambda: self._reader.seize(hold, after, limit))
        return self._note(found), busy, last

    def changed(self, id: QueueID) -> None:
        """The envelope of this message is not what it was: it is read anew."""
        self._recent.forget(id)

    async def _seal(self, reports: Sequence[IReport], now: float) -> tuple[Store, ...]:
        # The call may be made again before the files of the first are gone: names that never meet.
        bodies = [self._body(f"{report.envelope.id}-{self._entropy(32):08X}") for report in reports]
        stores = []
        try:
            for report, body in zip(reports, bodies, strict=True):
                waiting = body.write(report.content)
                if waiting is not None:
                    await waiting
                stores.append(Store(report.envelope, await body.seal(), now))
        except BaseException:
            for body in bodies:
                body.discard()
            raise
        return tuple(stores)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        # What has ended is of interest only to who asks, and needs no waking of the thread for itself.
        ended, self._ended = self._ended, []

        def ask() -> Any:
            self._reader.forget(ended)
            return question()

        try:
            return await self._reading.submit(ask if ended else question)
        except RuntimeError as error:
            raise StorageTrouble("the spool is closed") from error

    # --- what the threads tell

    def _committed(self, changes: Changes) -> None:
        self._call(self._after, changes)

    def _after(self, changes: Changes) -> None:
        """In the reactor's thread, before those who wait for the commit go on."""
        fresh = self._note(changes.fresh)
        try:
            self._tell(changes)
        finally:
            self._hand_out(fresh)
            if (changes.due or changes.orders is not None) and self.on_arrival is not None:
                self.on_arrival(())

    def _tell(self, changes: Changes) -> None:
        """Those who have to know of it, and what is remembered here."""
        if changes.orders is not None:
            self._orders = changes.orders
            self.on_orders(changes.orders)
        for envelope, octets in changes.stored:
            self._recent.put(envelope, octets)
        self._forget([job.duty for job in changes.settled])
        for id_, file in changes.removed:
            self._recent.forget(id_)
            journal.removed(id_)
            if file is not None:
                removing = Deferred.fromCoroutine(self._files.run(self._disk.remove, self._contents / file))
                removing = removing.addErrback(self._not_removed)
        written = sum(len(octets or b"") for _, octets in changes.stored)
        if self._checkpoints.count(len(changes.stored) + len(changes.settled), written):
            self._checkpoint()
        if self.history is not None:
            self.history.finished(changes.stories)

    def _hand_out(self, fresh: Sequence[Duty]) -> None:
        """Have those delivered that nothing forbids; the others are given back."""
        if self.on_arrival is None:
            self._forget(fresh)
            return
        paused = self._orders.paused
        go: list[Duty] = []
        stay: list[Duty] = []
        for duty in fresh:
            (stay if EVERYTHING in paused or duty.destination in paused else go).append(duty)
        self._forget(stay)
        if go:
            self.on_arrival(go)

    def _note(self, found: Sequence[tuple[Duty, Taken]]) -> list[Duty]:
        """These are taken."""
        for duty, taken in found:
            self._taken[duty.envelope.id, duty.destination] = taken
        return [duty for duty, _ in found]

    def _checkpoint(self) -> None:
        with suppress(RuntimeError):  # it has stopped: whoever closes the database makes the last one
            _ = self._copying.submit(None)

    def _not_removed(self, failure: Failure) -> None:
        # The next start sweeps it.
        if failure.check(Busy) is None:
            self._say(str(failure.value))

    def _forget(self, duties: Sequence[Duty]) -> None:
        for duty in duties:
            taken = self._taken.pop((duty.envelope.id, duty.destination), None)
            if taken is not None:
                self._ended.append((duty.destination, taken.message))
        if len(self._ended) >= _MOST_ENDED:
            # Nobody has asked for anything meanwhile.
            ended, self._ended = self._ended, []
            with suppress(RuntimeError):  # it has stopped, and is asked nothing more
                _ = self._reading.submit(lambda: self._reader.forget(ended))

    def _complain(self, error: Exception) -> None:
        """In a thread."""
        if is_damage(error):
            try:
                (self._directory / opening.MARK).touch(0o600)
            except OSError as second:
                self._call(self._say, str(second))
        self._call(self._say, f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        now = self._now()
        if now >= self._told.get(text, 0.0) + _MUTE or now < self._told[text]:
            if len(self._told) >= 100:
                self._told.clear()
            self._told[text] = now
            journal.trouble("spool", text)


def _spell_handed(job: Job, result: Any) -> Any:
    return spell_failure(as_trouble(result) if isinstance(result, Exception) else None)


def _close(connections: Sequence[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()

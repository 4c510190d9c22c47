"""Content on its way to rest: in memory while it is small, streaming to a file once it is not.

Memory is bounded: at most :data:`SMALL` octets are kept, and beyond that :meth:`Body.write` hands out
something to wait for whenever more than :data:`WINDOW` octets wait for the disk. A disk that fails or fills
is remembered, what follows is dropped, and :meth:`Body.seal` tells. A failed fsync is final: it is never
tried again.
"""

import threading
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailserver.interfaces import StorageTrouble
from mailserver.spool.disk import Disk
from mailserver.spool.trouble import as_trouble
from mailserver.threads import Busy, Pool

__all__ = ["SMALL", "WINDOW", "Body", "Sealed"]

SMALL = 256 * 1024
"""Content of up to this many octets becomes part of the database."""

WINDOW = 1024 * 1024
"""So many octets may wait for the disk before the sender is asked to pause."""

_HEAD = 64 * 1024


@frozen
class Sealed:
    """Complete content: the ``chunks`` of a small one, or the name of a ``file`` that is on the disk.

    :ivar head: of a large one, as much of its beginning as was at hand.
    """

    size: int
    chunks: tuple[bytes, ...] = ()
    file: str | None = None
    head: bytes = b""


class _File:
    """A file being written by several threads, one at a time."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._descriptor: int | None = None
        self._ended = False
        # A wait that was cancelled leaves its job running; the removal that follows must not close the
        # descriptor under it.
        self._lock = threading.Lock()

    def append(self, chunks: list[bytes]) -> None:
        with self._lock:
            if self._ended:
                return
            if self._descriptor is None:
                self._descriptor = self._disk.create(self._path)
            for chunk in chunks:
                self._disk.write(self._descriptor, chunk)

    def finish(self) -> None:
        with self._lock:
            if self._descriptor is None:
                raise StorageTrouble("the file was removed while it was written")
            self._disk.sync(self._descriptor)
            self._close()
            self._disk.sync_directory(self._path.parent)

    def remove(self) -> None:
        with self._lock:
            created = self._descriptor is not None or self._ended
            try:
                self._close()
            finally:
                if created:
                    self._disk.remove(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor, self._ended = self._descriptor, None, True
        if descriptor is not None:
            self._disk.close(descriptor)


def _left_as_litter(failure: Failure) -> None:
    failure.trap(OSError, Busy)


class Body:
    """The content of one draft, or of one report.

    :param directory: where large content goes, to a file of this ``name``; touched only then.
    :param pool: the threads that touch it.
    """

    __slots__ = (
        "_chunks",
        "_directory",
        "_disk",
        "_file",
        "_head",
        "_held",
        "_name",
        "_pool",
        "_trouble",
        "_waiting",
        "_writing",
        "size",
    )

    def __init__(self, disk: Disk, pool: Pool, directory: Path, name: str) -> None:
        self._disk = disk
        self._pool = pool
        self._directory = directory
        self._name = name
        self._file: _File | None = None
        self._chunks: list[bytes] = []
        self._head = b""
        self._held = 0  # octets in memory, those in the hands of a thread included
        self._writing: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._trouble: StorageTrouble | None = None
        self.size = 0
        """Octets so far."""

    def write(self, data: bytes) -> "Deferred[None] | None":
        """Add octets; as :meth:`mailserver.interfaces.IDraft.write`."""
        self.size += len(data)
        if self._trouble is not None:
            return None
        self._chunks.append(data)
        self._held += len(data)
        if self._file is None:
            if self._held <= SMALL:
                return None
            self._file = _File(self._disk, self._directory / self._name)
            self._head = b"".join(self._chunks)[:_HEAD]
        if self._writing is None:
            self._start_writing(self._file)
        return self._turn() if self._held > WINDOW else None

    async def seal(self) -> Sealed:
        """Wait until the content is whole and, if it is in a file, on the disk.

        Raises :class:`StorageTrouble`.
        """
        while self._writing is not None:
            await self._turn()
        if self._trouble is None and self._file is not None:
            try:
                await self._pool.run(self._file.finish)
            except (OSError, Busy, StorageTrouble) as error:
                self._trouble = as_trouble(error)
        if self._trouble is not None:
            raise self._trouble
        if self._file is not None:
            return Sealed(self.size, file=self._name, head=self._head)
        return Sealed(self.size, chunks=tuple(self._chunks))

    def discard(self) -> None:
        """Forget the content and remove its file, soon. What cannot be removed now, the next start sweeps."""
        if self._trouble is None:
            self._trouble = StorageTrouble("the content was discarded")
        self._chunks.clear()
        if self._file is not None:
            file, self._file = self._file, None
            removing = Deferred.fromCoroutine(self._pool.run(file.remove))
            removing = removing.addErrback(_left_as_litter)

    def _turn(self) -> "Deferred[None]":
        """Fires when a thread has caught up."""
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        return turn

    def _start_writing(self, file: _File) -> None:
        writing = Deferred.fromCoroutine(self._write_on(file))
        if not writing.called:
            self._writing = writing

    async def _write_on(self, file: _File) -> None:
        try:
            while self._chunks:
                chunks, self._chunks = self._chunks, []
                await self._pool.run(file.append, chunks)
                self._held -= sum(map(len, chunks))
                if self._held <= WINDOW:
                    self._let_go()
        except (OSError, Busy) as error:
            self._trouble = self._trouble or as_trouble(error)
            self._chunks.clear()
        finally:
            self._writing = None
            self._let_go()

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.called:
                turn.callback(None)

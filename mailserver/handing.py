"""Handing work to another process, over a socket; most of it mail, to the thread there that makes it durable.

A worker's reactor has an :class:`Outlet`, the process that stores an :class:`OpenBatcher`: a
:class:`~mailserver.threads.Batcher` whose thread also takes what comes from workers. Nobody stands between:
no reactor of the other process has to turn, no second thread has to wake, and what comes from all workers
while one group is made durable is the next group. The other way, to a reactor, leads to an
:class:`~mailserver.taking.Intake`.

What is handed over is a *piece*: facts, as Python's ``marshal`` spells them, and octets, which go from
buffer to buffer as they are. A frame is the lengths of both in four octets each, then the facts, with a
number that the answer bears, then the octets. Answers come many to a frame. All that is handed over in one
turn of the reactor leaves together.

Either end may go. Whoever asked is then told that there is trouble; what was handed over may be durable all
the same. Who lets a megabyte of answers lie and asks for more is given up, and so is who sends what is no
frame.
"""

import marshal
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.interfaces import MailboxFull, StorageFull, StorageTrouble
from mailserver.threads import Batcher, CallFromThread

__all__ = ["MOST_OCTETS", "Inlet", "OpenBatcher", "Outlet", "read_failure", "spell_failure", "way"]

MOST_OCTETS = 128 * 1024 * 1024
"""A frame has at most so many: content of 256 KB, and the longest list of recipients that a limit lets in."""

_MOST_IN_PIECE = MOST_OCTETS - 1024
_MOST_UNREAD = 1024 * 1024
_LENGTHS = struct.Struct("!II")
_LENGTH = struct.Struct("!I")
_LONGEST_TEXT = 300
_MOST_PARTS = 512
_READ = 64 * 1024
_USUAL = 1024 * 1024
"""Octets of an inlet's buffer, where no frame asks for more; and as many may wait in the socket before it, or
as many as the system allows. What there is no room for cannot be in the next group."""

_SO_SNDBUFFORCE = 32  # Linux, socket(7); Python does not name it

Job = TypeVar("Job")
Result = TypeVar("Result")

_FAILURES: dict[str, type[Exception]] = {
    "mailbox full": MailboxFull,
    "full": StorageFull,
    "trouble": StorageTrouble,
}


def spell_failure(failure: Exception | None) -> tuple[str, str] | None:
    """Why something was not stored, as plain values; ``None``: it was."""
    if failure is None:
        return None
    for name, kind in _FAILURES.items():
        if isinstance(failure, kind):
            return name, str(failure)[:_LONGEST_TEXT]
    return "trouble", f"{type(failure).__name__}: {failure}"[:_LONGEST_TEXT]


def read_failure(spelled: Sequence[str] | None) -> Exception | None:
    """The failure that was spelled."""
    if spelled is None:
        return None
    name, text = spelled
    return _FAILURES[name](text) if text else _FAILURES[name]()


def way() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets: for who takes, and for the :class:`Outlet` at the other end."""
    inner, outer = socket.socketpair()
    options = [socket.SO_SNDBUF]
    if sys.platform == "linux":
        options.append(_SO_SNDBUFFORCE)  # it takes root to have more than net.core.wmem_max
    for option in options:
        with suppress(OSError):
            outer.setsockopt(socket.SOL_SOCKET, option, _USUAL)
    return inner, outer


@implementer(IReadWriteDescriptor)
class Outlet:
    """The end of who hands over.

    :param reactor: watches the socket (``IReactorFDSet``, ``IReactorTime``).
    :param handle: of a stream; is closed with the outlet.
    :ivar closed: called once, when the other end is gone.
    """

    def __init__(self, reactor: Any, handle: socket.socket) -> None:
        handle.setblocking(False)
        self.closed: Callable[[], object] = lambda: None
        self._watcher: IReactorFDSet = reactor
        self._clock: IReactorTime = reactor
        self._handle = handle
        self._numbers = count(1)
        self._asked: dict[int, Deferred[Any]] = {}
        self._settled: list[Deferred[None]] = []
        self._parts: deque[bytes | memoryview] = deque()
        self._is_leaving = False
        self._is_finished = False
        self._received = bytearray()
        reactor.addReader(self)

    def hand_over(self, facts: Any, *octets: bytes) -> "Deferred[Any]":
        """Hand a piece over. Fires with the answer, or fails with :class:`StorageTrouble`.

        Its octets may be given in parts, which stand one behind the other.

        Cancelling does not undo it.
        """
        # Whoever asked may be gone when the answer comes.
        asked: Deferred[Any] = Deferred(lambda _: None)
        if self._handle.fileno() < 0 or self._is_finished:
            asked.errback(StorageTrouble("the other process is gone"))
            return asked
        number = next(self._numbers)
        spelled = marshal.dumps((number, facts))
        length = sum(map(len, octets))
        if len(spelled) + length > _MOST_IN_PIECE:
            asked.errback(StorageTrouble("a message too large to be handed over"))
            return asked
        self._asked[number] = asked
        self._parts.append(_LENGTHS.pack(len(spelled), length) + spelled)
        self._parts.extend(filter(None, octets))
        if not self._is_leaving:
            self._is_leaving = True
            self._clock.callLater(0, self._leave)
        return asked

    def finish(self) -> None:
        """Hand over nothing more, which the other end is told behind all else. Answers still come."""
        self._is_finished = True
        if not self._parts:
            self._shut()

    async def settle(self) -> None:
        """Return when all that was handed over is answered, also that for which nobody waits any more."""
        if self._asked:
            settled: Deferred[None] = Deferred()
            self._settled.append(settled)
            await settled

    def close(self) -> None:
        """Hand over nothing more. What has not been answered has failed."""
        if self._handle.fileno() < 0:
            return
        self._watcher.removeReader(self)
        self._watcher.removeWriter(self)
        self._handle.close()
        self._parts.clear()
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            if not waiting.called:
                waiting.errback(StorageTrouble("the other process is gone"))
        self._settle()

    # --- what the reactor calls

    def fileno(self) -> int:
        return self._handle.fileno()

    def logPrefix(self) -> str:
        return "outlet"

    def doWrite(self) -> None:
        """There is room again."""
        if self._send():
            self._watcher.removeWriter(self)
            self._has_left()

    def doRead(self) -> None:
        """Answers have come, or the other end has gone."""
        try:
            data = self._handle.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.connectionLost()
            return
        received = self._received
        received += data
        while len(received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(received)[0]
            if len(received) < end:
                break
            answers = marshal.loads(received[_LENGTH.size : end])  # noqa: S302 - our own
            del received[:end]
            for number, answer in answers:
                self._answered(number, answer)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The other end has gone; also called by the reactor, when it finds so itself."""
        if self._handle.fileno() >= 0:
            try:
                self.closed()  # first: who is told of a failure may want to go another way
            finally:
                self.close()

    def _answered(self, number: int, answer: Any) -> None:
        asked = self._asked.pop(number, None)  # none, where the last one closed this
        if asked is not None and not asked.called:
            asked.callback(answer)
        if not self._asked:
            self._settle()

    def _settle(self) -> None:
        settled, self._settled = self._settled, []
        for waiting in settled:
            waiting.callback(None)

    def _leave(self) -> None:
        if self._handle.fileno() < 0:
            return
        if self._send():
            self._has_left()
        else:
            self._watcher.addWriter(self)

    def _has_left(self) -> None:
        self._is_leaving = False
        if self._is_finished:
            self._shut()

    def _shut(self) -> None:
        with suppress(OSError):  # it is gone, or closed here
            self._handle.shutdown(socket.SHUT_WR)

    def _send(self) -> bool:
        """Send what waits; whether all of it is gone."""
        parts = self._parts
        while parts:
            some = [parts[n] for n in range(min(len(parts), _MOST_PARTS))]
            try:
                sent = self._handle.sendmsg(some)
            except BlockingIOError:
                return False
            except OSError:
                parts.clear()  # it is gone, which is found out by reading
                return True
            while parts and sent >= len(parts[0]):
                sent -= len(parts.popleft())
            if sent:
                parts[0] = memoryview(parts[0])[sent:]
        return True


class Inlet:
    """The other end of an outlet; used by one thread. The socket is its own."""

    def __init__(self, handle: socket.socket) -> None:
        handle.setblocking(False)
        self._handle = handle
        self._buffer = bytearray(_USUAL)
        self._filled = 0
        self._unsent = bytearray()
        self.number = handle.fileno()

    def receive(self) -> list[tuple[int, Any, bytes]] | None:
        """What has come: number, facts and octets of each piece. ``None``: nothing comes any more."""
        view = memoryview(self._buffer)
        try:
            received = self._handle.recv_into(view[self._filled :])
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        self._filled += received
        pieces, wanted = self._pieces(view)
        if wanted > MOST_OCTETS:
            return None
        if wanted > len(self._buffer) or (not self._filled and len(self._buffer) > _USUAL):
            # Another one: who looks into this one may not be done.
            self._buffer = bytearray(max(wanted, _USUAL))
            self._buffer[: self._filled] = view[: self._filled]
        return pieces

    def _pieces(self, view: memoryview) -> tuple[list[tuple[int, Any, bytes]], int]:
        """The pieces that are whole, and how many octets the next frame has, as far as that is known."""
        pieces: list[tuple[int, Any, bytes]] = []
        begin = wanted = 0
        while self._filled - begin >= _LENGTHS.size:
            spelled, octets = _LENGTHS.unpack_from(view, begin)
            middle = begin + _LENGTHS.size + spelled
            end = middle + octets
            wanted = end - begin
            if end > self._filled:
                break
            try:
                number, facts = marshal.loads(view[begin + _LENGTHS.size : middle])  # noqa: S302 - our own
            except (ValueError, EOFError, TypeError):
                return [], MOST_OCTETS + 1
            pieces.append((number, facts, bytes(view[middle:end])))
            begin, wanted = end, 0
        if begin:
            left = self._filled - begin
            view[:left] = view[begin : self._filled]
            self._filled = left
        return pieces, wanted

    @property
    def is_blocked(self) -> bool:
        """Whether answers wait to be taken."""
        return bool(self._unsent)

    def answer(self, answers: list[tuple[int, Any]]) -> bool:
        """Answer pieces, now or when there is room; whether it is worth going on."""
        if len(self._unsent) > _MOST_UNREAD:
            return False  # of what it was told before: this answer alone may be longer
        spelled = marshal.dumps(answers)
        self._unsent += _LENGTH.pack(len(spelled)) + spelled
        return self.send()

    def send(self) -> bool:
        """Send what answers wait; whether it is worth going on."""
        try:
            sent = self._handle.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        del self._unsent[:sent]
        return True

    def close(self) -> None:
        self._handle.close()


class OpenBatcher(Batcher[Job, Result]):
    """A batcher that also does what is handed over by other processes.

    It sleeps in ``poll``, on the sockets and on a bell: a socket pair that whoever submits writes to (the
    self-pipe trick). What is submitted here goes first, for there is never much of it.

    :param read: makes a job of a piece's facts and octets; called in the thread.
    :param spell: spells what a job came to, an exception included; called in the thread.
    """

    def __init__(
        self,
        name: str,
        perform: Callable[[Sequence[Job]], Sequence[Result | Exception]],
        call: CallFromThread,
        read: Callable[[Any, bytes], Job],
        spell: Callable[[Job, Result | Exception], Any],
        most: int = 256,
    ) -> None:
        super().__init__(name, perform, call, most)
        self._read = read
        self._spell = spell
        self._inlets: dict[int, Inlet] = {}
        self._new: deque[Inlet] = deque()
        self._handed: deque[tuple[Inlet, int, Job]] = deque()
        self._poll = select.poll()
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._is_asleep = False

    def start(self) -> None:
        """See :meth:`Batcher.start`."""
        self._bell = woken, _ = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._poll.register(woken, select.POLLIN)
        super().start()

    def open(self, handle: socket.socket) -> None:
        """Take what is handed over by the outlet at the other end, until it goes. The socket is ours."""
        if self._stopping:
            handle.close()
            return
        self._new.append(Inlet(handle))
        self._wake()

    def submit(self, job: Job) -> "Deferred[Result]":
        """See :meth:`Batcher.submit`."""
        done = super().submit(job)
        self._wake()
        return done

    def stop(self) -> "Deferred[None]":
        """See :meth:`Batcher.stop`."""
        stopped = super().stop()
        self._wake()
        return stopped

    def _wake(self) -> None:
        # What it is woken for has been put before this is looked at, and it looks once more before it sleeps.
        if self._is_asleep and self._bell is not None:
            self._is_asleep = False
            with suppress(OSError):  # it has been rung often enough; or nobody is there any more
                self._bell[1].send(b"\0")

    # --- in the thread

    def _run(self) -> None:
        assert self._bell is not None
        super()._run()
        for inlet in (*self._inlets.values(), *self._new):
            inlet.close()
        for end in self._bell:
            end.close()

    def _do_batch(self) -> None:
        # A function of its own, so that an idle thread holds on to nothing of its last batch.
        self._listen()
        batch = self._take_waiting(self.most)
        room = self.most - len(batch)
        handed = [self._handed.popleft() for _ in range(min(len(self._handed), room))]
        if not (batch or handed):
            return
        jobs = [job for job, _ in batch] + [job for _, _, job in handed]
        results: Sequence[Result | Exception]
        try:
            results = self._perform(jobs)
        except Exception as error:
            results = [error] * len(jobs)
        if batch:
            self._finish([done for _, done in batch], results[: len(batch)])
        if handed:
            try:
                self._answer(handed, results[len(batch) :])
            except Exception:  # what cannot be spelled must not end the thread that all wait for
                for inlet, _, _ in handed:
                    self._let_go(inlet)

    def _listen(self) -> None:
        """Wait until there is something to do, and take in what has come."""
        self._is_asleep = True
        has_work = bool(self._handed or self._new) or not self._waiting.empty()
        ready = self._poll.poll(0 if has_work else None)
        self._is_asleep = False
        self._take_in_new()
        for descriptor, what in ready:
            inlet = self._inlets.get(descriptor)
            if inlet is not None:
                if what & select.POLLOUT:
                    self._send_on(inlet, inlet.send())
                if what & ~select.POLLOUT:
                    self._receive(inlet)
            elif self._bell is not None:
                with suppress(OSError):
                    self._bell[0].recv(4096)

    def _take_in_new(self) -> None:
        while self._new:
            inlet = self._new.popleft()
            self._inlets[inlet.number] = inlet
            self._poll.register(inlet.number, select.POLLIN)

    def _receive(self, inlet: Inlet) -> None:
        try:
            pieces = inlet.receive()
            if pieces is None:
                self._let_go(inlet)
            else:
                self._handed.extend(
                    (inlet, number, self._read(facts, octets)) for number, facts, octets in pieces
                )
        except Exception:  # it speaks another language; or there is no memory for it
            self._let_go(inlet)

    def _let_go(self, inlet: Inlet) -> None:
        if self._inlets.pop(inlet.number, None) is not None:
            self._poll.unregister(inlet.number)
            inlet.close()

    def _answer(
        self, handed: Sequence[tuple[Inlet, int, Job]], results: Sequence[Result | Exception]
    ) -> None:
        answers: dict[int, tuple[Inlet, list[tuple[int, Any]]]] = {}
        for (inlet, number, job), result in zip(handed, results, strict=True):
            answers.setdefault(inlet.number, (inlet, []))[1].append((number, self._spell(job, result)))
        for inlet, told in answers.values():
            if self._inlets.get(inlet.number) is inlet:
                self._send_on(inlet, inlet.answer(told))

    def _send_on(self, inlet: Inlet, is_well: bool) -> None:
        if not is_well:
            self._let_go(inlet)
        else:
            self._poll.modify(inlet.number, select.POLLIN | (select.POLLOUT if inlet.is_blocked else 0))

"""The workers of a server, seen from the process that started them: begun, told, watched, replaced, ended.

A worker that dies is replaced: at once when it had lived for a while or ended in order, else after a pause
that doubles up to half a minute, so that a fault that recurs does not eat the machine. Those who are left
take all connections meanwhile. Nothing that was acknowledged is lost with it: that is in the spool or in
mailboxes. Its sessions are gone, and counted no more.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.config import Config
from mailserver.control.server import Tell, Verb
from mailserver.machine.counters import Counters, Ledger
from mailserver.machine.storage import Storage
from mailserver.spool.orders import StandingOrders
from mailserver.workers import log
from mailserver.workers.asking import Answering
from mailserver.workers.channel import Channel
from mailserver.workers.sharing import Hub, Say
from mailserver.workers.worker import CHANNEL, DOORS, FAREWELL, LOCK, Beginning, pack

__all__ = ["Workers", "pause"]

_LONG = 60.0
"""Seconds after which the death of a worker is no sign that the next will die as well."""

_FIRST, _LONGEST = 0.2, 30.0
_BEYOND = 5.0
"""Seconds that a worker gets beyond the grace of its sessions; then it is killed."""

_NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
"""What systemd says to us alone."""


def pause(deaths: int) -> float:
    """Seconds before a worker is replaced, by how many have died young one after the other."""
    return min(_FIRST * 2.0 ** min(deaths - 1, 20), _LONGEST) if deaths else 0.0


class Workers:
    """All of them.

    :param count: how many there shall be; may be none.
    :param poke: mail has come.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        storage: Storage,
        counters: Counters,
        ledger: Ledger,
        poke: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._count = count
        self._connections = counters.connections
        self._ledger = ledger
        self._history = storage.history
        storage.spool.on_orders = self._pass_on
        self._poke = poke
        self._inherited: dict[int, int] = {}
        self._workers: dict[int, _Worker] = {}
        self._deaths: dict[int, int] = {}
        self._replacing: dict[int, IDelayedCall] = {}
        self._stopping = False
        # One process has nobody to tell.
        self._hub = Hub(counters.shared if count else {}, self._voices)

    def __len__(self) -> int:
        return self._count

    def verbs(self) -> dict[str, Verb]:
        """What the administrator can ask: ``workers.list``.

        It returns of each its ``number`` and ``pid``, the ``seconds`` that it has lived, whether it
        ``accepts``, and its ``sessions``.
        """
        return {"workers.list": self._list}

    # --- life

    async def start(self, beginning: Beginning, descriptors: Sequence[int], lock: int) -> None:
        """Begin; returns when the first accepts, or all have failed once.

        :param descriptors: of the doors, in their order.
        :param lock: what holds the lock on the state directory.
        """
        self._beginning = beginning
        self._inherited = {LOCK: lock, **dict(enumerate(descriptors, DOORS))}
        for number in range(1, self._count + 1):
            self._start(number)
        beginnings = [worker.begun for worker in self._workers.values()]
        await DeferredList(beginnings, fireOnOneCallback=True, fireOnOneErrback=False)

    async def reload(self, config: Config) -> None:
        """Have all go by another configuration, which has been found right; returns when they do."""
        if not self._count:
            return
        self._beginning = evolve(self._beginning, config=config)
        packed = pack(config)
        workers = list(self._workers.values())
        for worker in workers:
            worker.reloaded = Deferred()
            worker.channel.say("reload", packed)
        for worker in workers:
            await worker.reloaded

    async def close(self) -> None:
        """Have all close their doors and take leave of their sessions; returns when the doors are closed."""
        self._stopping = True
        for replacing in self._replacing.values():
            replacing.cancel()
        self._replacing.clear()
        workers = list(self._workers.values())
        for worker in workers:
            worker.channel.say("stop")
            worker.end_within(FAREWELL + _BEYOND)
        for worker in workers:
            await worker.closed

    async def stop(self) -> None:
        """Return when all have ended; those that do not are killed."""
        for worker in list(self._workers.values()):
            await worker.gone

    # --- one of them

    def _start(self, number: int) -> None:
        self._replacing.pop(number, None)
        channel = Channel(self._reactor)
        worker = self._workers[number] = _Worker(self._reactor, number, channel, self._lost)
        channel.heard |= {
            "news": partial(self._hub.hear, number),
            "log": log.publish,
            "finished": self._history.finished_elsewhere,
            "poke": self._poke,
            **Answering(self._ledger, channel.say).heard(),
        }
        try:
            self._spawn(worker)
        except OSError as error:
            worker.failed(f"cannot be started: {error}")
            worker.never_was()
            return
        channel.say("begin", pack(self._beginning), self._hub.remember())

    def _spawn(self, worker: "_Worker") -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull) as nothing:
            ours.setblocking(False)
            theirs.setblocking(False)
            factory = Factory.forProtocol(lambda: worker.channel)
            factory.noisy = False
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
            descriptors = {0: nothing.fileno(), 1: 1, 2: 2, CHANNEL: theirs.fileno(), **self._inherited}
            self._reactor.spawnProcess(
                worker,
                sys.executable,
                # -P: whatever lies in the directory that we were started in is no module of ours.
                [sys.executable, "-P", "-m", "mailserver.workers.worker"],
                env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
                childFDs=descriptors,
            )

    def _lost(self, worker: "_Worker") -> None:
        """A worker has ended, and all that it said has been heard."""
        number = worker.number
        del self._workers[number]
        self._hub.lost(number)
        if self._stopping:
            return
        deaths = self._deaths[number] = 0 if worker.was_well else self._deaths.get(number, 0) + 1
        seconds = pause(deaths)
        tell = journal.warned if worker.ended_in_order else journal.trouble
        tell("worker", f"{number} (pid {worker.pid}) {worker.end}; replaced in {seconds:g} s")
        self._replacing[number] = self._reactor.callLater(seconds, self._start, number)

    def _pass_on(self, orders: StandingOrders) -> None:
        packed = pack(orders) if self._workers else ""
        for worker in self._workers.values():
            worker.channel.say("orders", packed)

    def _voices(self) -> Iterator[tuple[int, Say]]:
        for number, worker in self._workers.items():
            yield number, worker.channel.say

    async def _list(self, request: Mapping[str, Any], tell: Tell) -> object:
        return [
            {
                "number": number,
                "pid": worker.pid,
                "seconds": worker.age,
                "accepts": worker.accepts,
                "sessions": self._connections.of(number),
            }
            for number, worker in sorted(self._workers.items())
        ]


class _Worker(ProcessProtocol):
    """One process.

    :param lost: told when it has ended and the channel is closed.
    :ivar accepts: it takes connections.
    :ivar begun: fires when it does, or ends before.
    :ivar reloaded: fires when it goes by the latest configuration, or keeps its own.
    :ivar closed: fires when its doors are closed.
    :ivar gone: fires when it has ended.
    :ivar end: how it ended, in words.
    """

    def __init__(
        self, reactor: Any, number: int, channel: Channel, lost: "Callable[[_Worker], None]"
    ) -> None:
        self.number = number
        self.channel = channel
        self.pid = 0
        self.accepts = False
        self.end = "has not ended"
        self.ended_in_order = False
        self.was_well = False
        self.begun: Deferred[None] = Deferred()
        self.reloaded: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.transport: Any = None
        self._reactor = reactor
        self._lost = lost
        self._start = reactor.seconds()
        self._has_ended = False
        self._parts = 2  # the process and the channel
        self._killing: IDelayedCall | None = None
        channel.heard |= {
            "ready": self._is_ready,
            "failed": self.failed,
            "closed": partial(_fire, self.closed),
            "reloaded": self._has_reloaded,
        }
        channel.closed = self._parted

    @property
    def age(self) -> float:
        """The seconds since it was started."""
        seconds: float = self._reactor.seconds() - self._start
        return seconds

    def _is_ready(self) -> None:
        self.accepts = True
        _fire(self.begun)

    def failed(self, why: str) -> None:
        """It could not begin."""
        journal.trouble("worker", f"{self.number} {why}")

    def _has_reloaded(self, refusal: str) -> None:
        if refusal:
            journal.trouble("worker", f"{self.number} keeps the old configuration: {refusal}")
        _fire(self.reloaded)

    def never_was(self) -> None:
        """There is no process."""
        self.end = "could not be started"
        self._parts = 1
        self._part()

    def end_within(self, seconds: float) -> None:
        """Kill it if it has not ended by then."""
        if self._killing is None and self._parts:
            self._killing = self._reactor.callLater(seconds, self._kill)

    def _kill(self) -> None:
        self._killing = None
        if not self._has_ended:
            self.transport.signalProcess("KILL")

    def _parted(self) -> None:
        self._part()
        self.end_within(FAREWELL + _BEYOND)

    def _part(self) -> None:
        self._parts -= 1
        if self._parts:
            return
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        for waiting in (self.begun, self.reloaded, self.closed):
            _fire(waiting)
        self._lost(self)
        _fire(self.gone)

    # --- what Twisted calls

    def connectionMade(self) -> None:
        self.pid = self.transport.pid

    def processEnded(self, reason: Failure) -> None:
        self.end = _spell_end(reason)
        self.accepts, accepted = False, self.accepts
        self.ended_in_order = accepted and reason.check(ProcessDone) is not None
        self.was_well = self.ended_in_order or self.age >= _LONG
        self._has_ended = True
        self._part()


def _fire(waiting: "Deferred[None]") -> None:
    if not waiting.called:
        waiting.callback(None)


def _spell_end(reason: Failure) -> str:
    ended = reason.value
    if isinstance(ended, ProcessTerminated) and ended.signal:
        return f"was ended by {signal.Signals(ended.signal).name}"
    if isinstance(ended, ProcessTerminated):
        return f"ended with exit status {ended.exitCode}"
    return "has ended"

"""The workers of a server, seen from the process that started them: begun, told, watched, replaced, ended.

A worker that dies is replaced: at once when it had lived for a while or ended in order, else after a pause
that doubles up to half a minute, so that a fault that recurs does not eat the machine. Those who are left
take all connections meanwhile. Nothing that was acknowledged is lost with it: that is in the spool or in
mailboxes. Its sessions are gone, and counted no more; what it was saying to other hosts is in doubt, and
tried again.
"""

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory

from mailserver import journal
from mailserver.config import Config
from mailserver.control.server import Tell, Verb
from mailserver.handing import Outlet, way
from mailserver.machine.counters import Counters, Ledger
from mailserver.machine.storage import Storage
from mailserver.smtp.outbound import Outbound
from mailserver.spool.orders import StandingOrders
from mailserver.workers import log
from mailserver.workers.asking import Answering
from mailserver.workers.channel import Channel
from mailserver.workers.process import Process
from mailserver.workers.sharing import Hub, Say
from mailserver.workers.worker import CHANNEL, DOORS, LOCK, MAILBOXES, OUTBOUND, SPOOL, Beginning, pack

__all__ = ["Workers", "pause"]

_FIRST, _LONGEST = 0.2, 30.0
"""Seconds of the pause before one that died young is replaced."""

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
    :param storage: what they accept is stored there.
    :param outbound: they speak to other hosts for it.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        storage: Storage,
        counters: Counters,
        ledger: Ledger,
        outbound: Outbound,
    ) -> None:
        self._reactor = reactor
        self._count = count
        self._connections = counters.connections
        self._ledger = ledger
        self._storage = storage
        self._outbound = outbound
        storage.spool.on_orders = self._pass_on
        self._inherited: dict[int, int] = {}
        self._workers: dict[int, Process] = {}
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
        """Begin; returns when the first accepts, or has failed, which is told and tried again.

        :param descriptors: of the doors, in their order.
        :param lock: what holds the lock on the state directory.
        """
        self._beginning = beginning
        self._inherited = {LOCK: lock, **dict(enumerate(descriptors, DOORS))}
        beginnings = [self._start(number) for number in range(1, self._count + 1)]
        await DeferredList(beginnings, fireOnOneCallback=True, fireOnOneErrback=False)

    async def reload(self, config: Config) -> None:
        """Have all go by another configuration, which has been found right; returns when they do."""
        if not self._count:
            return
        self._beginning = evolve(self._beginning, config=config)
        packed = pack(config)
        for reloaded in [worker.reload(packed) for worker in self._workers.values()]:
            await reloaded

    async def close(self) -> None:
        """Have all close their doors and take leave of their sessions; returns when the doors are closed."""
        self._stopping = True
        for replacing in self._replacing.values():
            replacing.cancel()
        self._replacing.clear()
        workers = list(self._workers.values())
        for worker in workers:
            self._outbound.leave(worker.number)
            worker.channel.say("stop")
            worker.end_soon()
        for worker in workers:
            await worker.closed

    async def stop(self) -> None:
        """Return when all have ended; those that do not are killed."""
        for worker in list(self._workers.values()):
            await worker.gone

    # --- one of them

    def _start(self, number: int) -> "Deferred[None]":
        self._replacing.pop(number, None)
        channel = Channel(self._reactor)
        worker = self._workers[number] = Process(self._reactor, number, channel, self._lost)
        channel.heard |= {
            "news": partial(self._hub.hear, number),
            **log.heard(),
            "finished": self._storage.history.finished_elsewhere,
            **Answering(self._ledger, channel.say).heard(),
        }
        try:
            self._spawn(worker)
        except OSError as error:
            worker.failed(f"cannot be started: {error}")
            worker.never_was()
        else:
            orders = pack(self._storage.spool.orders)
            channel.say("begin", pack(self._beginning), number, self._hub.remember(), orders)
        return worker.begun

    def _spawn(self, worker: Process) -> None:
        ours, theirs = socket.socketpair()
        mailboxes, to_mailboxes = way()
        spool, to_spool = way()
        outbound, to_outbound = way()
        with ours, theirs, to_mailboxes, to_spool, outbound, open(os.devnull) as nothing:
            outlet = Outlet(self._reactor, to_outbound)
            _ = worker.begun.addCallback(lambda _: self._has_begun(worker, outlet))
            _ = worker.closed.addCallback(lambda _: self._outbound.leave(worker.number))
            self._storage.mailboxes.receive(mailboxes)
            self._storage.spool.receive(spool)
            ours.setblocking(False)
            theirs.setblocking(False)
            factory = Factory.forProtocol(lambda: worker.channel)
            factory.noisy = False
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
            descriptors = {
                **{0: nothing.fileno(), 1: 1, 2: 2, CHANNEL: theirs.fileno()},
                **{MAILBOXES: to_mailboxes.fileno(), SPOOL: to_spool.fileno(), OUTBOUND: outbound.fileno()},
                **self._inherited,
            }
            self._reactor.spawnProcess(
                worker,
                sys.executable,
                # -P: whatever lies in the directory that we were started in is no module of ours.
                [sys.executable, "-P", "-m", "mailserver.workers.worker"],
                env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
                childFDs=descriptors,
            )

    def _has_begun(self, worker: Process, outlet: Outlet) -> None:
        """A worker accepts, or has ended before it did."""
        if worker.accepts and not self._stopping:
            self._outbound.open(worker.number, outlet)
        else:
            outlet.close()

    def _lost(self, worker: Process) -> None:
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
        packed = pack(orders) if self._workers else b""
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

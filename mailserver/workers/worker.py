"""A worker: a process that accepts, on its parent's sockets, and speaks to other hosts, for who stores mail.

``python -m mailserver.workers.worker`` is started by :mod:`mailserver.workers.house` with these descriptors:
3 is the channel, 4 holds the lock on the state directory, which ends with the last who holds it, 5 and 6
are the ways to mailboxes and to the spool, 7 is the way by which mail for other hosts comes, and from 8 on
are the listening sockets. The first message says how to begin; then sessions begin, and the worker says that
it is ready.

It ends, after it has taken leave of its sessions and of other hosts, when it is told to, on SIGTERM, and when
the channel is closed: without its parent it takes nothing more. What a terminal or an administrator signals
to the whole server, SIGINT and SIGHUP, is its parent's business.
"""

import pickle
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from mailserver.config import Config
from mailserver.entropy import Entropy
from mailserver.listening import Door, Wait
from mailserver.machine.collector import keep_what_is_built
from mailserver.machine.counters import Counters
from mailserver.machine.front import Front
from mailserver.machine.storage import Finished, Holdings
from mailserver.mailboxes.store import MailStore
from mailserver.net.certificates import BadCertificate
from mailserver.net.reactor import shorten
from mailserver.spool.entrance import Entrance
from mailserver.spool.opening import CONTENT
from mailserver.spool.orders import StandingOrders
from mailserver.state import StateDirectory
from mailserver.threads import Pool
from mailserver.workers import log
from mailserver.workers.asking import Asking
from mailserver.workers.channel import Channel
from mailserver.workers.doors import takers, wait_before
from mailserver.workers.sharing import share
from mailserver.workers.storing import Storing
from mailserver.workers.transmitting import Transmitting

__all__ = [
    "CHANNEL",
    "DOORS",
    "FAREWELL",
    "LOCK",
    "MAILBOXES",
    "OUTBOUND",
    "SPOOL",
    "Beginning",
    "Worker",
    "pack",
    "unpack",
]

CHANNEL, LOCK, MAILBOXES, SPOOL, OUTBOUND, DOORS = 3, 4, 5, 6, 7, 8
"""File descriptors; doors are from the last one on."""

FAREWELL = 5.0
"""Seconds that sessions, and what is being said to other hosts, get to end by themselves."""

_log = Logger()


@frozen
class Beginning:
    """What a worker begins with.

    :ivar config: what its parent goes by.
    :ivar doors: the sockets, in the order of their descriptors.
    :ivar count: how many workers there are.
    :ivar key: see :class:`mailserver.machine.front.Front`.
    :ivar logs_in_full: see :class:`mailserver.workers.log.Sender`.
    """

    config: Config
    doors: tuple[Door, ...]
    count: int
    key: bytes
    logs_in_full: bool


def pack(value: Beginning | Config | StandingOrders) -> bytes:
    """A value of the server's own, for a message."""
    return pickle.dumps(value)


def unpack(packed: bytes) -> Any:
    """The value. Only a parent's word is taken for one."""
    return pickle.loads(packed)  # noqa: S301 - our own parent is who runs us


class Worker:
    """The worker's composition root.

    :param channel: to the parent.
    :param number: which worker it is, from 1 on.
    :param lost: called when nothing can be stored any more.
    """

    def __init__(
        self, reactor: Any, channel: Channel, beginning: Beginning, number: int, lost: Callable[[], object]
    ) -> None:
        config = beginning.config
        self._reactor = reactor
        self._channel = channel
        self._number, self._count = number, beginning.count
        self._config = config
        self._state = StateDirectory(config.state)
        self._chores = Pool("chores", 1, reactor.callFromThread)
        self._transmitting = Transmitting(reactor, config, OUTBOUND, self._chores)
        self._storing = storing = Storing(reactor, MAILBOXES, SPOOL, lost)
        self._storage = _build_holdings(reactor, config, storing, partial(log.tell_stories, channel))
        self._asking = asking = Asking(channel, reactor)
        self._counters = Counters(reactor, config, self._storage, asking.meet, asking, is_first=False)
        self._front = Front(reactor, config, self._storage, self._counters, self._chores, beginning.key)
        channel.heard |= share(self._counters.shared, channel.say)
        channel.heard |= {"answer": asking.answered, "reload": self.reload, "orders": self._obey}

    def start(self, memory: dict[str, Any], doors: list[tuple[Door, int]], orders: bytes) -> None:
        """Begin. Raises ``BadCertificate`` or ``OSError``."""
        for name, part in self._counters.shared.items():
            part.recall(memory[name])
        self._obey(orders)
        self._front.load_certificates(self._config)
        self._storage.senders.key = self._state.secret("senders")
        self._storage.spool.start_files()
        self._storage.mailboxes.start()
        self._front.start(self._state)
        self._chores.start()
        self._front.listeners.adopt(doors, self._wait_at)

    def reload(self, packed: bytes) -> None:
        """Go by another configuration, which the parent has read and found right."""
        config: Config = unpack(packed)
        try:
            self._front.load_certificates(config)
        except (BadCertificate, OSError) as refusal:
            self._channel.say("reloaded", str(refusal))
            return
        for part in (self._storage, self._counters, self._front, self._transmitting):
            part.reload(config)
        self._channel.say("reloaded", "")

    async def stop(self) -> None:
        """Take leave of all sessions, and close."""
        await self._front.listeners.stop()
        self._channel.say("closed")
        # Without a parent nobody records what a host says: the sooner it is broken off, the less comes twice.
        grace = 0.0 if self._channel.is_gone else FAREWELL
        transmitting = Deferred.fromCoroutine(self._transmitting.stop(grace))
        await self._front.drain(FAREWELL)
        await transmitting
        self._asking.tell()
        await self._storing.stop()
        await self._storage.mailboxes.stop()
        self._storage.spool.stop_files()
        self._front.stop()
        self._chores.stop()

    def _obey(self, packed: bytes) -> None:
        self._storage.spool.obey(unpack(packed))

    def _wait_at(self, door: Door) -> Wait | None:
        those = takers(self._config.workers, self._count, door.listen.service)
        return wait_before(self._number, those, self._counters.connections.exceeds_share)


def _build_holdings(reactor: Any, config: Config, storing: Storing, finished: Finished) -> Holdings:
    """What a worker has of the storage: it reads mailboxes by itself, and hands all new mail over."""
    call, state = reactor.callFromThread, config.state
    mailboxes = MailStore(state / "mail", config.hostname, time.time, call, hand_over=storing.deliver)
    contents = state / "spool" / CONTENT
    spool = Entrance(contents, time.time, call, Entropy(), storing.store)
    return Holdings(config, mailboxes, spool, finished)


class _Life:
    """From the first message to the last."""

    def __init__(self, reactor: Any, channel: Channel, sender: log.Sender) -> None:
        self._reactor = reactor
        self._channel = channel
        self._sender = sender
        self._worker: Worker | None = None
        self._closed: Deferred[None] = Deferred()
        channel.heard |= {"begin": self._begin, "stop": self._stop, "pulse": partial(channel.say, "pulse")}
        channel.closed = self._parted
        reactor.addSystemEventTrigger("before", "shutdown", self._end)

    def _begin(self, packed: bytes, number: int, memory: dict[str, Any], orders: bytes) -> None:
        beginning: Beginning = unpack(packed)
        self._sender.in_full = beginning.logs_in_full
        doors = [(door, descriptor) for descriptor, door in enumerate(beginning.doors, DOORS)]
        try:
            worker = Worker(self._reactor, self._channel, beginning, number, self._stop)
            worker.start(memory, doors, orders)
        except Exception as error:
            self._channel.say("failed", f"{type(error).__name__}: {error}")
            self._stop()
            return
        self._worker = worker
        keep_what_is_built()
        self._channel.say("ready")

    def _stop(self) -> None:
        # The parent says so, or an administrator, or all that leads to a parent that died: the first counts.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _parted(self) -> None:
        self._closed.callback(None)
        self._stop()

    def _end(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._finish()).addErrback(_broken)

    async def _finish(self) -> None:
        if self._worker is not None:
            await self._worker.stop()
        self._channel.finish()
        await self._closed


def _broken(failure: Failure) -> None:
    _log.failure("at the end of a worker", failure)


def main() -> NoReturn:
    """Run a worker to its end."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.seconds = time.monotonic  # as in the parent, whose times are told
    shorten(reactor)
    for ours in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ours, signal.SIG_IGN)
    channel = Channel(reactor)
    sender = log.Sender(channel)
    globalLogBeginner.beginLoggingTo([sender])
    _Life(reactor, channel, sender)
    factory = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    reactor.adoptStreamConnection(CHANNEL, socket.AF_UNIX, factory)
    reactor.run()
    raise SystemExit(0)


if __name__ == "__main__":
    main()

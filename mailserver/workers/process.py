"""One worker, seen from the process that started it: how it is, and how it ended.

A worker that accepts is asked four times a minute whether it is there. One that leaves so many questions
without an answer is killed, and replaced like any that dies: it may hold clients whom nobody serves.
Questions are counted, not seconds: when it was this process that stood still, the answers are there to be
read.
"""

import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.workers.channel import Channel
from mailserver.workers.worker import FAREWELL

__all__ = ["Process"]

_LONG = 60.0
"""Seconds after which the death of a worker is no sign that the next will die as well."""

_BEYOND = 5.0
"""Seconds that a worker gets beyond the grace of its sessions; then it is killed."""

_PULSE = 15.0
"""Seconds from one question to the next."""

_MISSED = 4
"""Questions without an answer that are too many."""


class Process(ProcessProtocol):
    """One process.

    :param lost: told when it has ended and the channel is closed.
    :ivar accepts: it takes connections.
    :ivar begun: fires when it does, or ends before.
    :ivar closed: fires when its doors are closed.
    :ivar gone: fires when it has ended.
    :ivar end: how it ended, in words.
    """

    def __init__(
        self, reactor: Any, number: int, channel: Channel, lost: "Callable[[Process], None]"
    ) -> None:
        self.number = number
        self.channel = channel
        self.pid = 0
        self.accepts = False
        self.end = "has not ended"
        self.ended_in_order = False
        self.was_well = False
        self.begun: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.transport: Any = None
        self._reactor = reactor
        self._lost = lost
        self._start = reactor.seconds()
        self._has_ended = False
        self._parts = 2  # the process and the channel
        self._killing: IDelayedCall | None = None
        self._reloads: deque[Deferred[None]] = deque()
        self._unanswered = 0
        self._asking: IDelayedCall | None = None
        channel.heard |= {
            "ready": self._is_ready,
            "failed": self.failed,
            "closed": partial(_fire, self.closed),
            "reloaded": self._has_reloaded,
            "pulse": self._has_answered,
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
        self._ask()

    def _ask(self) -> None:
        self._asking = None
        if self._unanswered >= _MISSED:
            journal.trouble("worker", f"{self.number} (pid {self.pid}) does not answer and is killed")
            self._kill()
            return
        self._unanswered += 1
        self.channel.say("pulse")
        self._asking = self._reactor.callLater(_PULSE, self._ask)

    def _has_answered(self) -> None:
        self._unanswered = 0

    def reload(self, packed: bytes) -> "Deferred[None]":
        """Have it go by another configuration. Fires when it does, keeps its own or has ended."""
        reloaded: Deferred[None] = Deferred()
        self._reloads.append(reloaded)
        self.channel.say("reload", packed)
        return reloaded

    def failed(self, why: str) -> None:
        """It could not begin."""
        journal.trouble("worker", f"{self.number} {why}")

    def _has_reloaded(self, refusal: str) -> None:
        if refusal:
            journal.trouble("worker", f"{self.number} keeps the old configuration: {refusal}")
        self._reloads.popleft().callback(None)

    def never_was(self) -> None:
        """There is no process."""
        self.end = "could not be started"
        self.channel.closed = lambda: None
        self._parts = 1
        self._part()

    def end_soon(self) -> None:
        """It is to end by itself: kill it if it does not."""
        if self._killing is None and self._parts:
            self._killing = self._reactor.callLater(FAREWELL + _BEYOND, self._kill)

    def _kill(self) -> None:
        self._killing = None
        if not self._has_ended:
            self.transport.signalProcess("KILL")

    def _parted(self) -> None:
        self._part()
        self.end_soon()

    def _part(self) -> None:
        self._parts -= 1
        if self._parts:
            return
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        for waiting in (self.begun, self.closed, *self._reloads):
            _fire(waiting)
        self._reloads.clear()
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
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
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

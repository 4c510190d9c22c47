"""What runs between a worker and the process that started it: messages, over a pair of sockets.

A message is a kind and facts: numbers, text, octets, and lists and dictionaries of them, as Python's own
``marshal`` spells them. That is three times as fast as JSON, and takes octets as they are; both ends are one
program, on one interpreter, and the same user's. All that is said in one turn of the reactor leaves as one
frame, so that a busy worker costs its parent few wake-ups: its length in four octets, then a list of the
messages. What nobody waits for, as lines of a log, is mentioned: it waits some milliseconds for company.
Order is kept.

Memory is bounded: whoever lets :data:`MOST_WAITING` messages lie unread is given up, and the channel is
closed. Who can do without saying something asks :attr:`Channel.is_slow` first. A frame that is none closes
the channel too.
"""

import marshal
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Channel"]

MOST_WAITING = 500_000
_SLOW = 20_000
_MOMENT = 0.01
"""Seconds for which a mention waits; not long: whoever hears it all at once does nothing else meanwhile."""
_LENGTH = 4
_LONGEST = 512 * 1024 * 1024  # the configuration of many users is one message

Heard = Callable[..., None]
"""Is called with the facts of a message."""


@implementer(IPushProducer)
class Channel(Protocol):
    """One end.

    :ivar heard: what is done about a message, by its kind; may be added to at any time.
    :ivar closed: called once, when the channel is no more.
    :ivar is_gone: the channel is no more.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.heard: dict[str, Heard] = {}
        self.closed: Callable[[], None] = lambda: None
        self.is_gone = False
        self._clock = clock
        self._waiting: list[list[Any]] = []
        self._leaving: IDelayedCall | None = None  # with what is said in this turn
        self._mentioning: IDelayedCall | None = None
        # Twisted's Int32StringReceiver copies what it has for each piece that comes: of a configuration with
        # many users, which is one frame, that would be gigabytes.
        self._received = bytearray()
        self._blocked = True  # until there is a connection
        self._finishing = False

    @property
    def is_slow(self) -> bool:
        """Whether so much waits that what can be left out should be."""
        return len(self._waiting) >= _SLOW

    def say(self, kind: str, *facts: Any) -> None:
        """Say something soon. Never fails; what is said on a closed channel is lost."""
        self._put([kind, *facts])
        if self._leaving is None and not self._blocked:
            self._leaving = self._clock.callLater(0, self._leave)

    def mention(self, kind: str, *facts: Any) -> None:
        """Say something that may wait a moment, for what is said next or 10 ms; else as :meth:`say`.

        Who is killed meanwhile has not said it.
        """
        self._put([kind, *facts])
        if self._mentioning is None and not self._blocked:
            self._mentioning = self._clock.callLater(_MOMENT, self._leave_mentioned)

    def _put(self, message: list[Any]) -> None:
        self._waiting.append(message)
        if len(self._waiting) >= MOST_WAITING and self._blocked:
            self._waiting.clear()
            if self.transport is not None:
                self._log.error("the other process does not read: the channel is closed")
                self.abort()

    def finish(self) -> None:
        """Say what waits, then close."""
        self._finishing = True
        self._cancel()
        if not self._blocked:
            self._leave()

    def abort(self) -> None:
        """Close at once."""
        self._received.clear()
        transport: Any = self.transport
        transport.abortConnection()

    def _leave_mentioned(self) -> None:
        self._mentioning = None
        if not self._blocked:
            self._leave()

    def _leave(self) -> None:
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._leaving = None
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            assert self.transport is not None
            try:
                frame = marshal.dumps(waiting)
            except ValueError:
                self._log.failure("something cannot be said to the other process: the channel is closed")
                self.abort()
                return
            self.transport.writeSequence((len(frame).to_bytes(_LENGTH, "big"), frame))
        if self._finishing and not self._blocked:
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    # --- what Twisted calls

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self._leave()

    def stopProducing(self) -> None:
        self._blocked = True

    def dataReceived(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) >= _LENGTH:
            length = int.from_bytes(received[:_LENGTH], "big")
            if length > _LONGEST:
                self.abort()
                return
            if len(received) < _LENGTH + length:
                return
            frame = received[_LENGTH : _LENGTH + length]
            del received[: _LENGTH + length]
            self._hear(frame)

    def _hear(self, frame: bytearray) -> None:
        try:
            messages = marshal.loads(frame)  # noqa: S302 - our own other half says it
            for kind, *facts in messages:
                self.heard[kind](*facts)
        except Exception:
            self._log.failure("what the other process says is not understood: the channel is closed")
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._blocked = True
        self._waiting.clear()
        self._cancel()
        self.is_gone = True
        self.closed()

    def _cancel(self) -> None:
        for call in (self._leaving, self._mentioning):
            if call is not None and call.active():
                call.cancel()
        self._leaving = self._mentioning = None

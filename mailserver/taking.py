"""Taking work that another process hands over, in a reactor: the end that faces an outlet there.

Each piece that comes (:mod:`mailserver.handing`) is work for one coroutine, and many may be under way. The
answers of one turn of the reactor leave together. ``None`` answers for work that was broken off before
anything came of it, ``False`` for work that failed, which is a bug, and logged. When the other end has
finished, and all is answered, this one closes.
"""

from collections.abc import Coroutine
from functools import partial
from socket import socket
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.errand import Errand
from mailserver.handing import Inlet

__all__ = ["Intake", "Perform"]

_LAST_WORDS = 2.0
"""Seconds that work which is broken off gets to end, and answers to be taken."""


class Perform(Protocol):
    """Does a piece of work; may be cancelled."""

    def __call__(self, facts: Any, octets: bytes) -> Coroutine[Deferred[Any], Any, Any]:
        """The answer, in plain values; neither ``None`` nor ``False``."""


@implementer(IReadWriteDescriptor)
class Intake:
    """The end of who takes.

    :param reactor: watches the socket (``IReactorFDSet``, ``IReactorTime``).
    :param handle: of a stream; is closed with the intake.
    """

    _log = Logger()

    def __init__(self, reactor: Any, handle: socket, perform: Perform) -> None:
        self._watcher: IReactorFDSet = reactor
        self._clock: IReactorTime = reactor
        self._inlet = Inlet(handle)
        self._perform = perform
        self._under_way: dict[int, Errand] = {}
        self._answers: list[tuple[int, Any]] = []
        self._is_answering = False
        self._takes = True
        self._is_open = True
        self._closed: Deferred[None] | None = None
        reactor.addReader(self)

    async def stop(self, grace: float) -> None:
        """Do what is handed over until the other end finishes, then close; break off what takes longer.

        :param grace: in seconds, for both.
        """
        if not await self._is_closed_within(grace):
            self._takes = False
            self._break_off()
            await self._is_closed_within(_LAST_WORDS)
        self._close()

    async def _is_closed_within(self, seconds: float) -> bool:
        self._look()
        if not self._is_open:
            return True
        self._closed = Deferred()
        try:
            await self._closed.addTimeout(seconds, self._clock)
        except TimeoutError:
            self._closed = None
        return not self._is_open

    def _break_off(self) -> None:
        for work in list(self._under_way.values()):
            work.cancel()

    # --- what the reactor calls

    def fileno(self) -> int:
        return self._inlet.number if self._is_open else -1

    def logPrefix(self) -> str:
        return "intake"

    def doRead(self) -> None:
        """Work has come, or the other end hands over nothing more."""
        pieces = self._inlet.receive() if self._takes else None
        if pieces is None:
            self._takes = False
            self._watcher.removeReader(self)
            self._look()
            return
        for number, facts, octets in pieces:
            work = Errand(self._perform(facts, octets), partial(self._done, number))
            self._under_way[number] = work
            work.begin()

    def doWrite(self) -> None:
        """There is room for answers again."""
        self._sent(self._inlet.send())

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Called by the reactor, when it finds the other end gone."""
        self._close()

    def _done(self, number: int, result: object) -> None:
        del self._under_way[number]
        if isinstance(result, Failure):
            if result.check(CancelledError):
                result = None
            else:
                self._log.failure("in what was handed over", result)
                result = False
        self._answers.append((number, result))
        if not self._is_answering:
            self._is_answering = True
            self._clock.callLater(0, self._answer)

    def _answer(self) -> None:
        self._is_answering = False
        answers, self._answers = self._answers, []
        if not self._is_open:
            return
        try:
            self._sent(self._inlet.answer(answers))
        except ValueError:  # what cannot be spelled must not leave all who ask without an answer
            self._log.failure("an answer cannot be spelled")
            self._close()

    def _sent(self, is_well: bool) -> None:
        if not is_well:
            self._close()
        elif self._inlet.is_blocked:
            self._watcher.addWriter(self)
        else:
            self._watcher.removeWriter(self)
            self._look()

    def _look(self) -> None:
        """Close where nothing comes any more, nothing is under way, and all answers are gone."""
        if not (self._takes or self._under_way or self._answers or self._inlet.is_blocked):
            self._close()

    def _close(self) -> None:
        if not self._is_open:
            return
        self._watcher.removeReader(self)
        self._watcher.removeWriter(self)
        self._is_open = self._takes = False
        self._inlet.close()
        self._break_off()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.callback(None)

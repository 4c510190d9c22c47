"""The server's end of the control socket, ``run/control`` in the state directory.

A UNIX stream socket of mode 0600 in a directory of mode 0700: whoever is neither the server's user nor root
cannot connect, and nobody else is asked who he is. One JSON object per line, in both directions::

    {"verb": "queue.hold", "domain": "example.org"}
    {"progress": {"done": 500}}
    {"done": {"recipients": 812}}

The last line of an answer holds ``done`` and what the verb returned, or ``error`` and a text for the
operator; lines with ``progress`` come before it. Requests of one connection are done one after the other.

A verb is an entry of a table: a name, and a coroutine function of the request and of a function that tells
progress. It says what it cannot do by raising :class:`Declined`; ``StorageTrouble`` is told as well; anything
else is a bug, told in general words and logged. A client that goes away interrupts its verb where it waits.

Bounds: a line of 1 MB, 16 requests that wait and 16 connections. Whoever goes beyond is cut off.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.interfaces import Declined, StorageTrouble

__all__ = ["Control", "Declined", "Tell", "Verb"]

LONGEST_LINE = 1024 * 1024
_MOST_WAITING = 16
_MOST_CONNECTIONS = 16

Tell = Callable[[object], None]
"""Tells the client how far the work is; the value is spelled as JSON."""

Verb = Callable[[Mapping[str, Any], Tell], Awaitable[object]]
"""Does what a request asks; what it returns is spelled as JSON."""


class Control(Factory):
    """The socket, and the verbs that can be said on it.

    :ivar verbs: by name; may be added to at any time.
    :param reactor: listens (``IReactorUNIX``).
    """

    noisy = False

    def __init__(self, reactor: Any, path: Path, verbs: Mapping[str, Verb]) -> None:
        self.verbs = dict(verbs)
        self._reactor = reactor
        self._path = path
        self._port: IListeningPort | None = None
        self._connections: set[_Connection] = set()

    def start(self) -> None:
        """Listen. The server runs without its socket where that fails; the journal says why."""
        try:
            # Whoever holds the lock on the state directory is the only server: what is there is a dead one's.
            self._path.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIX(str(self._path), self, mode=0o600)
        except Exception as error:  # Twisted wraps what the system says, but not all of it
            journal.trouble("control socket", error, path=self._path)

    async def stop(self) -> None:
        """Listen no more, interrupt what is being done and cut the connections."""
        port, self._port = self._port, None
        for connection in list(self._connections):
            connection.cut()
        if port is not None:
            await maybeDeferred(port.stopListening)
            self._path.unlink(missing_ok=True)

    def buildProtocol(self, addr: IAddress | None) -> "_Connection | None":
        """A connection, unless there are too many."""
        if len(self._connections) >= _MOST_CONNECTIONS:
            return None
        return _Connection(self.verbs, self._connections)


class _Connection(LineOnlyReceiver):
    """One client."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST_LINE
    _log = Logger()

    def __init__(self, verbs: Mapping[str, Verb], connections: "set[_Connection]") -> None:
        self._verbs = verbs
        self._connections = connections
        self._waiting: deque[bytes] = deque()
        self._work: Deferred[None] | None = None

    def connectionMade(self) -> None:
        self._connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connections.discard(self)
        self._waiting.clear()
        if self._work is not None:
            self._work.cancel()

    def cut(self) -> None:
        """End the connection now."""
        transport: Any = self.transport
        transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self.cut()
            return
        self._waiting.append(line)
        if self._work is None:
            work = self._work = Deferred.fromCoroutine(self._answer_all())
            _ = work.addBoth(self._rest)

    def _rest(self, result: object) -> None:
        self._work = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("in the control socket", result)

    async def _answer_all(self) -> None:
        while self._waiting:
            self._say(await self._answer(self._waiting.popleft()))

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            verb = self._verbs[request["verb"]]
        except (ValueError, TypeError, LookupError, RecursionError):
            return {
                "error": "not a request that this server knows; mailctl and the server differ in version?"
            }
        try:
            return {"done": await verb(request, lambda progress: self._say({"progress": progress}))}
        except CancelledError:
            raise
        except (Declined, StorageTrouble) as trouble:
            return {"error": str(trouble)}
        except Exception:
            self._log.failure("in {verb}", verb=request["verb"])
            return {"error": "the server failed at this; its log says why"}

    def _say(self, answer: dict[str, object]) -> None:
        if self in self._connections:
            self.sendLine(json.dumps(answer).encode())

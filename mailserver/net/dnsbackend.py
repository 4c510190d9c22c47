"""dnspython's network, on Twisted's reactor: the ``backend=`` of ``dns.asyncresolver``.

dnspython builds and checks the messages, retries and falls back to TCP; this gives it sockets, timeouts
and sleep on the reactor. Every question by UDP has a socket of its own, connected to the server: a port
the kernel picks at random, and nobody but the server can answer (RFC 5452 §9.2).

Troubles of the network are raised as ``OSError``, which is what makes dnspython go on to the next server;
a server that does not answer is ``dns.exception.Timeout``. dnspython's retry loop takes a cancelled
Deferred for a server that failed, so a question is ended with :meth:`Backend.abandon`, and always has a
``lifetime``.

The base classes live in dnspython's private module ``dns._asyncbackend``; ``tests/unit/net`` pins what is
relied on.
"""
# ruff: noqa: ASYNC109 (the signatures are dnspython's)

import socket
from collections import deque
from typing import Any

import dns._asyncbackend
import dns.exception
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Backend"]

_LONGEST = 2 + 65535
"""An answer by TCP with its length; a server that sends more is not read any further."""

_PENDING = 8
"""Datagrams kept for one question: there is one right answer, the rest is noise."""


class Backend(dns._asyncbackend.Backend):
    """The network for one question.

    :param reactor: gives UDP, TCP and time.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.abandoned = False

    def abandon(self) -> None:
        """From now on there is no network: dnspython runs out of servers at the next it tries.

        To be followed by cancelling what waits.
        """
        self.abandoned = True

    def name(self) -> str:
        return "twisted"

    def datagram_connection_required(self) -> bool:
        return True

    async def sleep(self, interval: float) -> None:
        await deferLater(self._reactor, interval)

    async def make_socket(  # noqa: PLR0913 (dnspython's signature)
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> dns._asyncbackend.Socket:
        """A socket connected to ``destination``. Raises ``OSError`` or ``dns.exception.Timeout``."""
        if self.abandoned:
            raise OSError("abandoned")
        if socktype == socket.SOCK_DGRAM:
            return _DatagramSocket(af, self._reactor, destination)
        return await self._stream(af, destination, timeout)

    async def _stream(self, af: int, destination: tuple[str, int], timeout: float | None) -> "_StreamSocket":
        host, port = destination
        endpoint = TCP6ClientEndpoint if af == socket.AF_INET6 else TCP4ClientEndpoint
        stream = _Stream()
        try:
            await connectProtocol(endpoint(self._reactor, host, port, timeout or 30.0), stream)
        except ConnectError as trouble:
            raise OSError(str(trouble)) from trouble
        return _StreamSocket(af, self._reactor, stream)


class _Inbox:
    """What a socket waits for: somebody is told when something, or the end, has come."""

    def __init__(self) -> None:
        self._waiting: Deferred[None] | None = None

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self, reactor: Any, timeout: float | None) -> None:
        """Wait to be woken. Raises ``dns.exception.Timeout``."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        try:
            await (waiting if timeout is None else waiting.addTimeout(timeout, reactor, _timed_out))
        finally:
            self._waiting = None


def _timed_out(_: object, timeout: float) -> None:
    raise dns.exception.Timeout(timeout=timeout)


@implementer(IReadDescriptor)
class _DatagramSocket(dns._asyncbackend.DatagramSocket, _Inbox):
    """A UDP socket of its own among the reactor's readers.

    Twisted's UDP port would do, but for two lines in the log for every question.
    """

    def __init__(self, af: int, reactor: Any, destination: tuple[str, int]) -> None:
        super().__init__(af, socket.SOCK_DGRAM)
        _Inbox.__init__(self)
        self._reactor = reactor
        self._destination: Any = destination
        self._received: deque[bytes | OSError] = deque(maxlen=_PENDING)
        self._socket = socket.socket(af, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(destination)
            reactor.addReader(self)
        except OSError:
            self._socket.close()
            raise

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        self._destination = destination
        return self._socket.send(what)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        if not self._received:
            await self.wait(self._reactor, timeout)
        received = self._received.popleft()
        if isinstance(received, OSError):
            raise received
        # The socket is connected, so that is where it comes from, spelled as dnspython compares it.
        return received, self._destination

    async def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    # --- IReadDescriptor

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dns"

    def doRead(self) -> None:
        try:
            while True:
                self._received.append(self._socket.recv(65535))
        except BlockingIOError:
            pass
        except OSError as trouble:
            self._received.append(trouble)
        if self._received:
            self.wake()

    def connectionLost(self, reason: Failure) -> None:
        # The epoll reactor takes the ICMP error of a port where nobody listens for the end of the socket.
        self._received.append(ConnectionRefusedError("connection refused"))
        self.wake()


class _Stream(Protocol, _Inbox):
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self.ended = False
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > _LONGEST:
            self.transport.pauseProducing()
        self.wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self.gone.callback(None)
        self.wake()


class _StreamSocket(dns._asyncbackend.StreamSocket):
    def __init__(self, af: int, reactor: Any, stream: _Stream) -> None:
        super().__init__(af, socket.SOCK_STREAM)
        self._reactor = reactor
        self._stream = stream

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        self._stream.transport.write(what)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        """Up to ``size`` octets; none at the end."""
        stream = self._stream
        while not (stream.received or stream.ended):
            await stream.wait(self._reactor, timeout)
        data = bytes(stream.received[:size])
        del stream.received[:size]
        return data

    async def close(self) -> None:
        if not self._stream.ended:
            # Not loseConnection(): that waits for a server that does not read.
            self._stream.transport.abortConnection()
            await self._stream.gone

"""What is written to a connection goes to its socket at once, where that takes it.

A transport sends in the reactor's next turn, which for a small reply costs more than all the rest of the
command: it has the reactor watch the socket for writing, and stop watching it. What the socket does not take
is left to the transport, and what comes after stands behind it.
"""

from socket import socket
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ISystemHandle

__all__ = ["Direct", "direct_to"]

_SHARE = 64 * 1024
"""Octets that go to the socket itself for each piece of input; what is beyond waits for the reactor, lest one
peer that reads as fast as we write keep all others waiting."""


class Direct:
    """The way to the socket. The connection's producer says what it is told: that there is input, or room.

    :ivar connection: the socket's transport, which sends what the socket did not take at once.
    """

    __slots__ = ("_isBuffered", "_left", "_socket", "connection")

    def __init__(self, connection: Any, handle: socket) -> None:
        self.connection = connection
        self._socket = handle
        self._left = _SHARE
        self._isBuffered = False

    def write(self, data: bytes) -> None:
        """Send."""
        self._left -= len(data)
        if not self._isBuffered and self._left >= 0:
            try:
                sent = self._socket.send(data)
            except OSError:
                sent = 0  # it is full, or broken, which the connection finds out
            if sent == len(data):
                return
            data = data[sent:]
        self.connection.write(data)
        # What follows stands behind this; we are told when the connection has sent it all, as a producer is
        # that was paused.
        self._isBuffered = self.connection.producerPaused = True

    def inputCame(self) -> None:
        """There is a new piece of input, whose answer has a share of its own."""
        self._left = _SHARE

    def emptied(self) -> None:
        """The connection has sent all that it had."""
        self._isBuffered = False
        self._left = _SHARE


def direct_to(transport: Any) -> Direct | None:
    """The way to a transport's socket; ``None`` where there is TLS before it, or no socket."""
    if not ISystemHandle.providedBy(transport) or ISSLTransport.providedBy(transport):
        return None
    handle = transport.getHandle()
    return Direct(transport, handle) if isinstance(handle, socket) else None

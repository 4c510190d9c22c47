"""TLS that begins in the middle of a session, after STARTTLS or STLS (RFC 3207, RFC 2595 §4).

Does what a transport's own ``startTLS`` does, for less: what all connections have in common is made once,
no reply waits for the reactor's next turn, and what is encrypted goes to the socket at once where that takes
it, as it does without TLS: all that one piece of input leads to (the last reply and close_notify) together.
"""

from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import ServerFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from mailserver.net.direct import Direct

__all__ = ["Layer", "Layers"]

_TOGETHER = 16 * 1024
"""Octets that are sent, though there may be more to go with them."""


@implementer(ISSLTransport)
class Layer(TLSMemoryBIOProtocol):
    """Stands between a connection and its session, and is the session's transport from now on."""

    transport: Any  # a _Beneath

    def dataReceived(self, data: bytes) -> None:
        beneath: _Beneath = self.transport
        beneath.gather()
        super().dataReceived(data)
        beneath.release()

    # Not left to what is beneath, which is paused and resumed itself, as a producer.

    def pauseProducing(self) -> None:
        """Read no more."""
        self.transport.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self.transport.transport.resumeProducing()


class Layers(TLSMemoryBIOFactory):
    """Makes them.

    :param context: as ``startTLS`` takes it.
    """

    protocol = Layer

    def __init__(self, context: Any, clock: IReactorTime) -> None:
        super().__init__(context, False, ServerFactory(), clock)
        self.context = context

    def begin(self, session: Any, direct: Direct) -> Layer:
        """Begin TLS on the connection of a session, which is its producer.

        :param direct: the way to the connection's socket.
        """
        connection = direct.connection
        connection.unregisterProducer()
        layer = Layer(self, session, False)
        connection.protocol = layer
        layer.makeConnection(_Beneath(direct))
        layer.registerProducer(session, True)
        return layer


class _Beneath:
    """The connection as the layer sees it: what is written goes to the socket first."""

    __slots__ = ("_direct", "_gathered", "_gathering", "_producer", "transport")

    def __init__(self, direct: Direct) -> None:
        self.transport = direct.connection
        self._direct = direct
        self._gathering = False
        self._gathered = b""
        self._producer: Any = None

    def gather(self) -> None:
        """Input came: what is written goes together, when it is a good deal or the input is dealt with."""
        self._direct.inputCame()
        self._gathering = True

    def release(self) -> None:
        """Send what was gathered."""
        self._gathering = False
        if self._gathered:
            data, self._gathered = self._gathered, b""
            self._direct.write(data)

    def write(self, data: bytes) -> None:
        """Send, or gather."""
        if self._gathering:
            self._gathered += data
            if len(self._gathered) < _TOGETHER:
                return
            data, self._gathered = self._gathered, b""
        self._direct.write(data)

    def loseConnection(self) -> None:
        """Close, when all is sent."""
        self.release()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.release()  # an alert may be in it
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have the layer told when the peer does not read."""
        self._producer = producer
        self.transport.registerProducer(self, streaming)

    def unregisterProducer(self) -> None:
        """Tell it no more."""
        self._producer = None
        self.transport.unregisterProducer()

    # --- as the connection's producer

    def pauseProducing(self) -> None:
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._direct.emptied()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self._producer.stopProducing()

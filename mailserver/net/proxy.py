"""Listeners behind a proxy that speaks the PROXY protocol, and nobody else.

An endpoint is asked for with Twisted's spelling, ``haproxy:tcp:25``. What Twisted puts there believes
everybody, and connects the session before it is known for whom; here

- only listed proxies may connect at all: whoever else could say who he is, and be let relay;
- the session is made when the header has been read, with the client's address: it never knew another;
- a proxy that says nothing is cut off after a while.

The header comes before everything else, TLS from the first octet included. A proxy that does not know its
client (``UNKNOWN``) gets a session without an address, which is a stranger's; one that connects for itself
(``LOCAL``) is a client of its own address.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.model.envelope import Origin
from mailserver.model.source import BUILT_IN
from mailserver.wire.proxy import Header, parse_header
from mailserver.wire.syntax import BadSyntax

__all__ = ["PREFIX", "ProxyFactory"]

PREFIX = "haproxy:"
"""What stands before the endpoint string of a listener behind a proxy."""


class ProxyFactory(Factory):
    """Takes connections from proxies and makes sessions for their clients.

    :param factory: the service itself, or TLS around it.
    :param trusted: whether somebody of this IP address is a proxy to be believed.
    :param patience: seconds that a proxy gets for its header.
    """

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        trusted: Callable[[str], bool],
        clock: IReactorTime,
        patience: float = 10.0,
    ) -> None:
        self.factory = factory
        self.trusted = trusted
        self.clock = clock
        self.patience = patience

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> "_Introduction | None":
        host = getattr(addr, "host", "")
        if not self.trusted(host):
            journal.refused(Origin(host), "connection", "not a listed proxy", BUILT_IN, "closed")
            return None
        return _Introduction(self, addr)


class _Introduction(Protocol):
    """Reads the header, makes the session and steps aside."""

    transport: Any

    def __init__(self, factory: ProxyFactory, proxy: IAddress | None) -> None:
        self.factory: Any = factory
        self._proxy = proxy
        self._data = b""
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self.factory.clock.callLater(self.factory.patience, self._refuse, "no header in time")

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            header = parse_header(self._data)
        except BadSyntax as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._introduce(header)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()

    def _introduce(self, header: Header) -> None:
        self._cancel()
        address = self._proxy if header.local else _address(header)
        session = self.factory.factory.buildProtocol(address)
        if session is None:
            self.transport.abortConnection()
            return
        self.transport.protocol = session
        session.makeConnection(self.transport)
        if header.rest:
            session.dataReceived(header.rest)

    def _refuse(self, reason: str) -> None:
        self._cancel()
        host = getattr(self._proxy, "host", "")
        journal.refused(Origin(host), "connection", reason, BUILT_IN, "closed")
        self.transport.abortConnection()

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _address(header: Header) -> IAddress:
    if not header.address:
        return UNIXAddress(None)
    kind = IPv6Address if ":" in header.address else IPv4Address
    return kind("TCP", header.address, header.port)

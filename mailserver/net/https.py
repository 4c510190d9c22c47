"""One small file from one host over HTTPS: the policy of MTA-STS (RFC 8461 §3.3, RFC 9110).

Names are asked for where all names are, at the resolver, and addresses that no policy host can have are not
connected to: a stranger's domain chooses them. The certificate has to be a trusted one for the host's name.
There are no redirects, no cookies, no cache. What comes is bounded in octets, headers included, and in time,
whatever the host does. Whatever goes wrong is :class:`NotFetched`.
"""

from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from mailserver.interfaces import IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.net.exchangers import is_usable, order_addresses
from mailserver.net.tls import ClientTLS, HostTLS

__all__ = ["Fetcher", "NotFetched"]

_LONGEST = 64 * 1024
"""Of the file (RFC 8461 §3.3)."""

_MOST = 2 * _LONGEST
"""Octets that a host gets to say at all."""

_ADDRESSES = 3
"""Of a host, that are tried."""


class NotFetched(Exception):
    """The file could not be had; the text says why, to the operator."""


class Fetcher:
    """Fetches.

    :param reactor: gives connections and time.
    :param tls: demands trusted certificates.
    :param port: the TCP port of the hosts.
    :param loopback: whether they may have loopback addresses (rehearsals and tests).
    :param seconds: for everything, from the first question to the last octet.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: IResolver,
        tls: ClientTLS,
        port: int = 443,
        loopback: bool = False,
        seconds: float = 30.0,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._tls = tls
        self._port = port
        self._loopback = loopback
        self._seconds = seconds

    async def fetch(self, host: str, path: str) -> bytes:
        """The file at ``path``, which has to be plain text. Raises :class:`NotFetched`."""
        until = self._reactor.seconds() + self._seconds
        fetching = Deferred.fromCoroutine(self._fetch(host, path, until))
        try:
            return await fetching.addTimeout(self._seconds, self._reactor)
        except TimeoutError:
            raise NotFetched(f"{host}: not within {self._seconds:.0f} s") from None

    async def _fetch(self, host: str, path: str, until: float) -> bytes:
        try:
            found = await self._resolver.addresses(host)
        except (NoSuchName, NoSuchData, Unanswered) as absent:
            raise NotFetched(f"{host}: {absent}") from None
        usable = [address for address in found if is_usable(address, self._loopback)]
        if not usable:
            raise NotFetched(f"{host}: no address to connect to")
        trouble = NotFetched(host)
        for address in order_addresses(usable)[:_ADDRESSES]:
            try:
                return await self._ask(host, address, path)
            except NotFetched as another:
                # The HTTP client has its own words for having been cancelled.
                if self._reactor.seconds() >= until:
                    raise TimeoutError from None
                trouble = another
        raise trouble

    async def _ask(self, host: str, address: str, path: str) -> bytes:
        creator = self._tls.creator(host)
        endpoints = _Endpoint(self._reactor, address, self._port, creator)
        agent = Agent.usingEndpointFactory(self._reactor, endpoints)
        url = f"https://{host}{'' if self._port == 443 else f':{self._port}'}{path}"
        headers = Headers({"Accept": ["text/plain"], "User-Agent": ["mailserver"]})
        try:
            response = await agent.request(b"GET", url.encode("ascii"), headers)
            kind = (response.headers.getRawHeaders("Content-Type") or [""])[0]
            if response.code != 200:
                raise NotFetched(f"{host}: HTTP status {response.code}")
            if kind.partition(";")[0].strip().lower() != "text/plain":
                raise NotFetched(f"{host}: not plain text but {kind[:100] or 'nothing in particular'}")
            body = _Body()
            response.deliverBody(body)
            return await body.whole
        except (NotFetched, CancelledError):
            raise
        except ResponseFailed as failed:
            reasons = "; ".join(reason.getErrorMessage() for reason in failed.reasons)
            raise NotFetched(f"{host}: {creator.flaw or reasons}") from failed
        except Exception as error:  # the network's, OpenSSL's, HTTP's: none of them gives a policy
            raise NotFetched(f"{host}: {creator.flaw or error or type(error).__name__}") from error
        finally:
            endpoints.cut()


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Endpoint:
    """One address, whatever the URL says, and a bound on what comes from there."""

    def __init__(self, reactor: Any, address: str, port: int, creator: HostTLS) -> None:
        family = TCP6ClientEndpoint if ip_address(address).version == 6 else TCP4ClientEndpoint
        self._endpoint = wrapClientTLS(creator, family(reactor, address, port))
        self._connection: _Bounded | None = None

    def endpointForURI(self, uri: URI) -> "_Endpoint":
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        bounding: Any = WrappingFactory(protocolFactory)
        bounding.protocol = _Bounded
        bounding.noisy = False
        connecting: Deferred[Any] = self._endpoint.connect(bounding)
        return connecting.addCallback(self._connected)

    def _connected(self, connection: "_Bounded") -> IProtocol:
        self._connection = connection
        protocol: IProtocol = connection.wrappedProtocol
        return protocol

    def cut(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.cut()


class _Bounded(ProtocolWrapper):
    """Cuts the connection of a host that says too much."""

    transport: Any
    _left = _MOST

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.cut()
        else:
            super().dataReceived(data)

    def cut(self) -> None:
        self.transport.abortConnection()


class _Body(Protocol):
    """The content of a response; one that is too long, or may be cut short, is none."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone) is None:
            self.whole.errback(reason)
        elif len(self._received) > _LONGEST:
            self.whole.errback(NotFetched("longer than 64 KB"))
        else:
            self.whole.callback(bytes(self._received))

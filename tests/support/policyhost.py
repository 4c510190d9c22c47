"""A host that has a policy of MTA-STS: HTTPS on loopback that says, octet for octet, what it is told to."""

from pathlib import Path
from typing import Any

import trustme
from twisted.internet.protocol import Protocol, ServerFactory

from tests.support.certificates import credentials, loaded

__all__ = ["POLICY", "PolicyHost", "response"]

POLICY = b"version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: 86400\r\n"


def response(body: bytes, *headers: bytes, status: bytes = b"200 OK", kind: bytes = b"text/plain") -> bytes:
    """An answer over HTTP."""
    lines = [b"HTTP/1.1 " + status, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


class PolicyHost(ServerFactory):
    """The host.

    :ivar says: what every request is answered with; ``None``: nothing.
    :ivar asked: the requests, whole.
    """

    noisy = False

    def __init__(self, reactor: Any, ca: trustme.CA, directory: Path, name: str, says: bytes | None) -> None:
        self.says = says
        self.asked: list[bytes] = []
        self.connections: set[Any] = set()
        self.listening: Any = None
        self._reactor = reactor
        self._certificates = loaded(credentials(ca, directory, name))

    def start(self, address: str, port: int = 0) -> int:
        """Listen; the port."""
        self.listening = self._reactor.listenSSL(port, self, self._certificates, interface=address)
        found: int = self.listening.getHost().port
        return found

    async def stop(self) -> None:
        for connection in list(self.connections):
            connection.transport.abortConnection()
        await self.listening.stopListening()

    def buildProtocol(self, addr: object) -> Protocol:
        return _Visit(self)


class _Visit(Protocol):
    transport: Any

    def __init__(self, host: PolicyHost) -> None:
        self._host = host
        self._request = b""

    def connectionMade(self) -> None:
        self._host.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if b"\r\n\r\n" in self._request:
            self._host.asked.append(self._request)
            self._request = b""
            if self._host.says is not None:
                self.transport.write(self._host.says)
                self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        self._host.connections.discard(self)

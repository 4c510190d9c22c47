"""The listeners: each ``[[listen]]`` of the configuration bound to the service that it names.

Any server endpoint string of Twisted will do, sockets that systemd hands over included
(``systemd:domain=INET:name=smtp``); with ``haproxy:`` in front, the clients come through a proxy.
``pop3s`` and ``submissions`` are TLS from the first octet (RFC 8314).

What cannot be bound is told, all of it at once. As many files may be open as the system lets this process
have: every connection is one. When even that is not enough, Twisted keeps one in reserve with which it takes
and drops the connections that are too many, so that nobody waits in vain and nothing spins.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from mailserver.config import Listen
from mailserver.net.proxy import PREFIX, ProxyFactory
from mailserver.net.tls import Certificates
from mailserver.state import Listener

__all__ = ["Listeners", "open_many_files"]

_QUEUE = 1024
"""Connections that may wait to be accepted; the kernel has a bound of its own, ``net.core.somaxconn``."""

_IMPLICIT_TLS = frozenset({"submissions", "pop3s"})


def open_many_files() -> None:
    """Have as many files open as we are allowed to; where that is refused, as many as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return


class Listeners:
    """What listens where.

    :param services: the sessions of each service, by the service's name.
    :param certificates: for the services that are TLS from the first octet.
    :param trusted: whether somebody of this IP address is a proxy to be believed.
    """

    def __init__(
        self,
        reactor: Any,
        services: Mapping[str, IProtocolFactory],
        certificates: Certificates,
        trusted: Callable[[str], bool],
    ) -> None:
        self._reactor = reactor
        self._services = services
        self._certificates = certificates
        self._trusted = trusted
        self._ports: list[tuple[Listen, IListeningPort]] = []

    def bind(self, listens: Sequence[Listen]) -> list[str]:
        """Bind the sockets; returns what is to be said of those that could not be."""
        refusals: list[str] = []
        for listen in listens:

            def refused(failure: Failure, listen: Listen = listen) -> None:
                refusals.append(
                    f"{listen.source}: cannot listen on {listen.endpoint}: {failure.getErrorMessage()}"
                )

            _ = maybeDeferred(self._bind, listen).addErrback(refused)
        return refusals

    def _bind(self, listen: Listen) -> "Deferred[None]":
        factory = self._services[listen.service]
        if listen.service in _IMPLICIT_TLS:
            factory = TLSMemoryBIOFactory(self._certificates, False, factory)
            factory.noisy = False
        if listen.endpoint.startswith(PREFIX):
            factory = ProxyFactory(factory, self._trusted, self._reactor)
        endpoint = _with_queue(listen.endpoint.removeprefix(PREFIX))
        listening: Deferred[IListeningPort] = serverFromString(self._reactor, endpoint).listen(factory)
        return listening.addCallback(lambda port: self._ports.append((listen, port)))

    def bound(self) -> list[Listener]:
        """What listens, in the order of the configuration."""
        return [_listener(listen, port) for listen, port in self._ports]

    async def stop(self) -> None:
        """Close the listening sockets. Sessions go on."""
        ports, self._ports = self._ports, []
        for _, port in ports:
            await maybeDeferred(port.stopListening)


def _with_queue(endpoint: str) -> str:
    """The endpoint with a longer queue than Twisted's of 50, unless it says how long.

    Who finds the queue full tries again after a second: a morning's rush would look like an outage.
    """
    if endpoint.startswith(("tcp:", "tcp6:")) and "backlog=" not in endpoint:
        return f"{endpoint}:backlog={_QUEUE}"
    return endpoint


def _listener(listen: Listen, port: IListeningPort) -> Listener:
    address = port.getHost()
    host = getattr(address, "host", None) or os.fsdecode(getattr(address, "name", None) or b"")
    return Listener(listen.service, host, getattr(address, "port", 0))

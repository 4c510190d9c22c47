"""The listeners: each ``[[listen]]`` of the configuration bound to the service that it names.

Any server endpoint string of Twisted will do, sockets that systemd hands over included
(``systemd:domain=INET:name=smtp``); with ``haproxy:`` in front, the clients come through a proxy.
``pop3s`` and ``submissions`` are TLS from the first octet (RFC 8314).

What cannot be bound is told, all of it at once. As many files may be open as the system lets this process
have: every connection is one. When even that is not enough, Twisted keeps one in reserve with which it takes
and drops the connections that are too many, so that nobody waits in vain and nothing spins.

Several processes may take connections from the same sockets: one binds them and takes none itself, the
others adopt them. Each takes one connection, or first leaves it to the others for a moment, and serves those
it has before it takes the next: so a rush is shared out, and who is busy gets less of it. One that is alone
at a door takes all that wait.
"""

import os
import resource
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailserver.config import Listen
from mailserver.net.proxy import PREFIX, ProxyFactory
from mailserver.net.tls import Certificates
from mailserver.state import Listener

__all__ = ["Door", "Listeners", "Wait", "open_many_files"]

_QUEUE = 1024
"""Connections that may wait to be accepted; the kernel has a bound of its own, ``net.core.somaxconn``."""

_IN_A_SECOND = 200
"""Connections that a process which has waited takes, of those that the others have left to it."""

_BREATH = 1.0
"""Seconds until a process without a file to spare looks whether it has one."""

_IMPLICIT_TLS = frozenset({"submissions", "pop3s"})


def open_many_files() -> None:
    """Have as many files open as we are allowed to; where that is refused, as many as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return


@frozen
class Door:
    """A socket that is bound, and what it is for.

    :ivar family: of its addresses, as in the ``socket`` module.
    """

    listen: Listen
    family: int


Wait = Callable[[], float]
"""Tells for how many seconds what comes at a door is left to other processes now; 0: not at all."""


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
        """Bind the sockets; returns what is to be said of those that could not be. Sessions may begin."""
        refusals: list[str] = []
        for listen in listens:

            def refused(failure: Failure, listen: Listen = listen) -> None:
                refusals.append(
                    f"{listen.source}: cannot listen on {listen.endpoint}: {failure.getErrorMessage()}"
                )

            _ = maybeDeferred(self._bind, listen).addErrback(refused)
        return refusals

    def hold(self) -> None:
        """Take no connections: others do (:meth:`adopt`)."""
        for _, port in self._ports:
            reading: Any = port
            reading.stopReading()

    def doors(self) -> list[tuple[Door, int]]:
        """The sockets that are bound, each with its file descriptor."""
        return [(Door(listen, _family(port)), _descriptor(port)) for listen, port in self._ports]

    def adopt(self, doors: Iterable[tuple[Door, int]], wait_at: Callable[[Door], Wait | None]) -> None:
        """Take connections from sockets that another process has bound. Their descriptors become ours.

        :param wait_at: of each door but UNIX sockets; ``None``: no other is to take what comes there.
        """
        for door, descriptor in doors:
            factory = self._factory(door.listen)
            port: Any
            if door.family == socket.AF_UNIX:
                port = _UNIXPort(self._reactor, descriptor, factory)
            else:
                port = self._reactor.adoptStreamPort(descriptor, door.family, factory)
                if (wait := wait_at(door)) is not None:
                    _Polite(port, self._reactor, wait).begin()
                os.close(descriptor)  # the port has a copy
            self._ports.append((door.listen, port))

    def _bind(self, listen: Listen) -> "Deferred[None]":
        endpoint = _with_queue(listen.endpoint.removeprefix(PREFIX))
        listening: Deferred[IListeningPort] = serverFromString(self._reactor, endpoint).listen(
            self._factory(listen)
        )
        return listening.addCallback(lambda port: self._ports.append((listen, port)))

    def _factory(self, listen: Listen) -> IProtocolFactory:
        """The service, with what stands around it."""
        factory = self._services[listen.service]
        if listen.service in _IMPLICIT_TLS:
            factory = TLSMemoryBIOFactory(self._certificates, False, factory)
            factory.noisy = False
            # Not the one that waits for more to go with: sessions gather their replies themselves.
            factory.protocol = TLSMemoryBIOProtocol
        if listen.endpoint.startswith(PREFIX):
            factory = ProxyFactory(factory, self._trusted, self._reactor)
        return factory

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


def _family(port: IListeningPort) -> int:
    address = port.getHost()
    if isinstance(address, UNIXAddress):
        return socket.AF_UNIX
    return socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET


def _descriptor(port: Any) -> int:
    descriptor: int = port.fileno()
    return descriptor


class _Polite:
    """Has a port take one connection each time that the reactor comes to it, and lets others go first.

    Twisted's takes as many as there are. epoll tells every process of a connection that waits: whoever is
    awake would have all of a rush. What the others have not taken by then is taken, but only as many as
    :data:`_IN_A_SECOND` comes to for the time waited: who helps shall not have all of a rush, either.
    """

    def __init__(self, port: Any, reactor: Any, wait: Wait) -> None:
        self._port = port
        self._reactor = reactor
        self._wait = wait
        self._take = port.doRead

    def begin(self) -> None:
        """From now on."""
        self._port.doRead = self._take_or_wait

    def _take_or_wait(self) -> None:
        wait = self._wait()
        if wait:
            self._port.stopReading()
            self._reactor.callLater(wait, self._go_on, max(int(wait * _IN_A_SECOND), 1))
        else:
            self._take_some(1)

    def _go_on(self, number: int) -> None:
        # Now, and not when the reactor comes round: a busy one may find later connections, or none for long.
        if self._is_open():
            self._take_some(number)
        if self._is_open():
            self._port.startReading()

    def _take_some(self, number: int) -> None:
        self._port.numberAccepts = number
        self._take()

    def _is_open(self) -> bool:
        return bool(self._port.connected) and not self._port.disconnecting


class _UNIXPort(FileDescriptor):
    """A UNIX socket that another process has bound.

    Twisted's own, when it adopts one, sets its mode and its queue anew, and removes its name at the end: all
    that is the other's.
    """

    def __init__(self, reactor: Any, descriptor: int, factory: Any) -> None:
        super().__init__(reactor)
        self._adopting = reactor
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptor)
        self._factory = factory
        self.fileno = self._socket.fileno  # type: ignore[method-assign]
        factory.doStart()
        self.startReading()

    def doRead(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process was first, or the client has gone
        except OSError:
            # No file to spare: the client waits, and we are not told of it over and over.
            self.stopReading()
            self._adopting.callLater(_BREATH, self._go_on)
            return
        with connection, suppress(OSError):
            connection.setblocking(False)
            self._adopting.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self._factory)

    def _go_on(self) -> None:
        if self._socket.fileno() >= 0:
            self.startReading()

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self._socket.getsockname())

    def stopListening(self) -> None:
        self.stopReading()
        self._socket.close()
        self._factory.doStop()

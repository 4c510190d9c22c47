"""Which factory stands behind which socket, and what is said of those that cannot be bound."""

import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailserver.config import Listen
from mailserver.listening import Listeners, _Polite, _UNIXPort, open_many_files
from mailserver.model.source import Source
from mailserver.net.proxy import ProxyFactory
from mailserver.net.tls import Certificates
from mailserver.state import Listener

SERVICES = {name: Factory() for name in ("smtp", "submission", "submissions", "pop3", "pop3s")}


def bound(*listens: tuple[str, str]) -> tuple[MemoryReactorClock, Listeners, list[str]]:
    reactor = MemoryReactorClock()
    listeners = Listeners(reactor, SERVICES, Certificates(), lambda client: True)
    refusals = listeners.bind([Listen(*it, Source("mailserver.toml", n)) for n, it in enumerate(listens, 1)])
    return reactor, listeners, refusals


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("proxied", [False, True])
def test_tls_is_around_the_service_and_the_proxy_around_both(service: str, proxied: bool) -> None:
    reactor, _, refusals = bound((service, "haproxy:tcp:25" if proxied else "tcp:25"))
    assert refusals == []
    factory: Any = reactor.tcpServers[0][1]
    if proxied:
        assert isinstance(factory, ProxyFactory)
        factory = factory.factory
    assert isinstance(factory, TLSMemoryBIOFactory) is (service in ("submissions", "pop3s"))
    assert getattr(factory, "wrappedFactory", factory) is SERVICES[service]


@pytest.mark.parametrize(
    ("endpoint", "port", "backlog", "interface"),
    [
        ("tcp:25", 25, 1024, ""),
        ("tcp:2525:interface=127.0.0.1", 2525, 1024, "127.0.0.1"),
        ("tcp:25:backlog=7", 25, 7, ""),
        ("tcp6:25", 25, 1024, "::"),
        ("haproxy:tcp:25", 25, 1024, ""),
    ],
)
def test_the_queue_is_long_unless_it_is_said_how_long(
    endpoint: str, port: int, backlog: int, interface: str
) -> None:
    reactor, _, _ = bound(("smtp", endpoint))
    assert (reactor.tcpServers[0][0], *reactor.tcpServers[0][2:]) == (port, backlog, interface)


def test_what_is_bound_is_told_in_order() -> None:
    _, listeners, _ = bound(("smtp", "tcp:25"), ("pop3", "tcp6:110:interface=\\:\\:1"))
    assert listeners.bound() == [Listener("smtp", "0.0.0.0", 25), Listener("pop3", "::1", 110)]
    _ = Deferred.fromCoroutine(listeners.stop())
    assert listeners.bound() == []


def test_what_cannot_be_bound_is_told_all_at_once() -> None:
    _, listeners, refusals = bound(
        ("smtp", "systemd:domain=INET:name=mail"), ("pop3", "nonsense:1"), ("smtp", "tcp:25")
    )
    assert [refusal.partition(": cannot listen on ")[0] for refusal in refusals] == [
        "mailserver.toml:1",
        "mailserver.toml:2",
    ]
    assert len(listeners.bound()) == 1


def test_as_many_files_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr("mailserver.listening.resource.getrlimit", lambda what: limits[-1])
    monkeypatch.setattr("mailserver.listening.resource.setrlimit", lambda what, new: limits.append(new))
    open_many_files()
    open_many_files()
    assert limits == [(1024, 4096), (4096, 4096)]


def test_a_system_that_does_not_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: int, new: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr("mailserver.listening.resource.getrlimit", lambda what: (1024, 4096))
    monkeypatch.setattr("mailserver.listening.resource.setrlimit", refuse)
    open_many_files()


class Port:
    """What is asked of a listening port."""

    connected = True
    disconnecting = False
    closes = False

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.numberAccepts = 7
        self.is_reading = True

    def doRead(self) -> None:
        self.taken.append(self.numberAccepts)
        self.disconnecting = self.closes

    def startReading(self) -> None:
        self.is_reading = True

    def stopReading(self) -> None:
        self.is_reading = False


@pytest.fixture
def polite() -> tuple[Port, Clock, list[float]]:
    """A port, the time, and how long its process is to let others go first."""
    port, clock, waits = Port(), Clock(), [0.0]
    _Polite(port, clock, lambda: waits[-1]).begin()
    return port, clock, waits


class TestPoliteness:
    """Who is as good as any takes one; who is not leaves it to others, once for each that waits."""

    def test_one_at_a_time(self, polite: tuple[Port, Clock, list[float]]) -> None:
        port, _, _ = polite
        for _ in range(3):
            port.doRead()
        assert port.taken == [1, 1, 1]

    @pytest.mark.parametrize(("wait", "number"), [(0.001, 1), (0.1, 20)])
    def test_who_is_to_wait_does_and_then_takes_what_is_there(
        self, polite: tuple[Port, Clock, list[float]], wait: float, number: int
    ) -> None:
        port, clock, waits = polite
        waits.append(wait)
        for turn in (1, 2):
            port.doRead()
            assert (len(port.taken), port.is_reading) == (turn - 1, False)
            clock.advance(wait / 2)
            assert (len(port.taken), port.is_reading) == (turn - 1, False)
            clock.advance(wait / 2)
            # However busy the reactor is: it need not come round to the port first.
            assert (port.taken[turn - 1 :], port.is_reading) == ([number], True)

    def test_a_port_that_was_closed_meanwhile_is_left_alone(
        self, polite: tuple[Port, Clock, list[float]]
    ) -> None:
        port, clock, waits = polite
        waits.append(0.1)
        port.doRead()
        port.connected = False
        clock.advance(0.1)
        assert (port.taken, port.is_reading) == ([], False)

    def test_a_port_that_is_closed_by_what_it_takes_is_left_alone(
        self, polite: tuple[Port, Clock, list[float]]
    ) -> None:
        port, clock, waits = polite
        waits.append(0.1)
        port.closes = True
        port.doRead()
        clock.advance(0.1)
        assert (port.taken, port.is_reading) == ([20], False)


class TestAdoptedUNIXSocket:
    """Sockets that another process has bound, and whose names it removes."""

    def test_its_connections_are_taken_and_its_name_is_left(self, tmp_path: Path) -> None:
        place = str(tmp_path / "socket")
        factory, adopted = Factory(), []

        class Reactor(MemoryReactorClock):
            def adoptStreamConnection(self, descriptor: int, family: Any, factory: Any) -> None:
                adopted.append((os.fstat(descriptor).st_ino > 0, family, factory))

        reactor = Reactor()
        with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as client:
            theirs.bind(place)
            theirs.listen()
            theirs.setblocking(False)
            port = _UNIXPort(reactor, os.dup(theirs.fileno()), factory)
            assert port in reactor.getReaders()
            port.doRead()  # another was first
            assert adopted == []
            client.connect(place)
            port.doRead()
            assert adopted == [(True, socket.AF_UNIX, factory)]
            assert os.fsdecode(port.getHost().name) == place
            port.stopListening()
        assert port not in reactor.getReaders()
        assert Path(place).is_socket()

    def test_without_a_file_to_spare_it_waits_a_moment(self, tmp_path: Path) -> None:
        reactor = MemoryReactorClock()
        with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as client:
            theirs.bind(str(tmp_path / "socket"))
            theirs.listen()
            client.connect(str(tmp_path / "socket"))
            port = _UNIXPort(reactor, os.dup(theirs.fileno()), Factory())
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                port.doRead()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert port not in reactor.getReaders()  # or it would be told of the client for ever
            reactor.advance(1)
            assert port in reactor.getReaders()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                port.doRead()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            port.stopListening()
            reactor.advance(1)
        assert port not in reactor.getReaders()

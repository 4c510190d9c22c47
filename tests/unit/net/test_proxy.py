"""Connections from proxies: who may say who somebody is, and from when on it counts."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailserver.net.proxy import ProxyFactory

PROXY = IPv4Address("TCP", "10.0.0.1", 40000)


class Recording(Protocol):
    def __init__(self, address: IAddress | None) -> None:
        self.address = address
        self.received = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 hello\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Recordings(Factory):
    def __init__(self) -> None:
        self.made: list[Recording] = []
        self.full = False
        self.states: list[str] = []

    def doStart(self) -> None:
        self.states.append("started")

    def doStop(self) -> None:
        self.states.append("stopped")

    def buildProtocol(self, addr: IAddress | None) -> Recording | None:
        if self.full:
            return None
        self.made.append(Recording(addr))
        return self.made[-1]


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class ProxyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Recordings()
        self.factory = ProxyFactory(self.sessions, "10.0.0.1".__eq__, self.clock, 10.0)
        protocol = self.factory.buildProtocol(PROXY)
        assert protocol is not None
        self.transport = Transport(peerAddress=PROXY)
        self.transport.protocol = protocol  # type: ignore[attr-defined]
        protocol.makeConnection(self.transport)

    def say(self, data: bytes) -> None:
        self.transport.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def test_the_session_is_the_clients_from_its_first_moment(self) -> None:
        for octet in b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25\r":
            self.say(bytes([octet]))
        assert self.transport.value() == b""
        assert self.sessions.made == []
        self.say(b"\nEHLO x\r\n")
        (session,) = self.sessions.made
        assert session.address == IPv4Address("TCP", "192.0.2.7", 4660)
        assert self.transport.value() == b"220 hello\r\n"
        self.say(b"QUIT\r\n")
        assert session.received == b"EHLO x\r\nQUIT\r\n"
        self.clock.advance(3600)
        assert not self.transport.aborted

    def test_ipv6(self) -> None:
        self.say(b"PROXY TCP6 2001:db8::7 ::1 4660 25\r\n")
        assert self.sessions.made[0].address == IPv6Address("TCP", "2001:db8::7", 4660)

    def test_a_client_that_the_proxy_does_not_know_is_nobody_and_not_the_proxy(self) -> None:
        self.say(b"PROXY UNKNOWN\r\n")
        assert isinstance(self.sessions.made[0].address, UNIXAddress)

    def test_the_proxy_on_its_own_behalf(self) -> None:
        self.say(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
        assert self.sessions.made[0].address == PROXY

    def test_no_header_no_session(self) -> None:
        self.say(b"EHLO x\r\n")
        assert self.transport.aborted
        assert self.sessions.made == []

    def test_no_header_in_time(self) -> None:
        self.say(b"PROXY TCP4 ")
        self.clock.advance(9.9)
        assert not self.transport.aborted
        self.clock.advance(0.2)
        assert self.transport.aborted

    def test_gone_before_the_header(self) -> None:
        self.transport.protocol.connectionLost()  # type: ignore[attr-defined]
        assert self.clock.getDelayedCalls() == []

    def test_the_service_takes_no_more(self) -> None:
        self.sessions.full = True
        self.say(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25\r\n")
        assert self.transport.aborted

    def test_others_are_turned_away(self) -> None:
        assert self.factory.buildProtocol(IPv4Address("TCP", "10.0.0.2", 40000)) is None
        assert self.factory.buildProtocol(UNIXAddress(None)) is None

    def test_the_service_starts_and_stops_with_it(self) -> None:
        self.factory.doStart()
        self.factory.doStop()
        assert self.sessions.states == ["started", "stopped"]

"""Which factory stands behind which socket, and what is said of those that cannot be bound."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailserver.config import Listen
from mailserver.listening import Listeners, open_many_files
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

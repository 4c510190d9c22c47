"""When a worker that died is replaced. What workers do is played on the real program (tests/functional)."""

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport

from mailserver.access.connections import ConnectionRules, Connections
from mailserver.settings import worker_count
from mailserver.spool.history import History
from mailserver.spool.orders import StandingOrders
from mailserver.workers.house import Workers, pause
from mailserver.workers.process import Process
from mailserver.workers.worker import Beginning


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 0.2), (2, 0.4), (5, 3.2), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_the_pause_doubles_and_is_bounded(deaths: int, seconds: float) -> None:
    assert pause(deaths) == seconds


@pytest.mark.parametrize(
    ("workers", "cores", "count"),
    [(0, 8, 0), (3, 1, 3), ("auto", 1, 0), ("auto", 2, 2), ("auto", 3, 3), ("auto", 8, 8), ("auto", 200, 64)],
)
def test_how_many(workers: int | str, cores: int, count: int) -> None:
    assert worker_count(workers, cores) == count


class Reactor(MemoryReactorClock):
    """Starts no processes; ``refuses`` says that it cannot."""

    refuses = False

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Process] = []

    def adoptStreamConnection(self, descriptor: int, family: Any, factory: Any) -> None:
        factory.buildProtocol(None).makeConnection(StringTransport())

    def spawnProcess(self, process: Process, *arguments: Any, **options: Any) -> None:
        if self.refuses:
            raise OSError(11, "Resource temporarily unavailable")
        self.started.append(process)


def house(reactor: Reactor, count: int) -> Workers:
    # The ends that the parent's threads would have.
    spool = SimpleNamespace(orders=StandingOrders(), receive=lambda end: end.close())
    mailboxes = SimpleNamespace(receive=lambda end: end.close())
    storage: Any = SimpleNamespace(history=History, spool=spool, mailboxes=mailboxes)
    connections = Connections(ConnectionRules())
    counters: Any = SimpleNamespace(connections=connections, shared={"connections": connections})
    ledger: Any = None
    return Workers(reactor, count, storage, counters, ledger)


class TestStart:
    """What cannot be started is tried again, and nobody waits for it for ever."""

    def begin(self, reactor: Reactor) -> "Deferred[None]":
        config: Any = None
        beginning = Beginning(config, (), 2, b"key", logs_in_full=False)
        return Deferred.fromCoroutine(house(reactor, 2).start(beginning, [], 0))

    def test_it_waits_for_the_first(self) -> None:
        reactor = Reactor()
        starting = self.begin(reactor)
        assert len(reactor.started) == 2
        assert not starting.called
        reactor.started[1].channel.heard["ready"]()
        assert starting.called

    def test_no_process_is_to_be_had(self) -> None:
        reactor = Reactor()
        reactor.refuses = True
        assert self.begin(reactor).called
        reactor.advance(0.1)
        reactor.refuses = False
        assert reactor.started == []
        reactor.advance(0.1)
        assert [process.number for process in reactor.started] == [1, 2]

"""When a worker that died is replaced. What workers do is played on the real program (tests/functional)."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from mailserver.access.connections import ConnectionRules, Connections
from mailserver.settings import worker_count
from mailserver.smtp.outbound import Outbound
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


def house(reactor: Reactor, count: int, outbound: Any = None) -> Workers:
    # The ends that the parent's threads would have.
    spool = SimpleNamespace(orders=StandingOrders(), receive=lambda end: end.close())
    mailboxes = SimpleNamespace(receive=lambda end: end.close())
    storage: Any = SimpleNamespace(history=History, spool=spool, mailboxes=mailboxes)
    connections = Connections(ConnectionRules())
    counters: Any = SimpleNamespace(connections=connections, shared={"connections": connections})
    ledger: Any = None
    outbound: Any = Outbound(cast(Any, None), reactor) if outbound is None else outbound
    return Workers(reactor, count, storage, counters, ledger, outbound)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    for outlet in reactor.getReaders():
        outlet.close()


class Ways:
    """Is told what an :class:`Outbound` is."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def open(self, number: int, outlet: Any) -> None:
        self.told.append(("open", number))

    def leave(self, number: int) -> None:
        self.told.append(("leave", number))


def begin(workers: Workers) -> "Deferred[None]":
    config: Any = None
    beginning = Beginning(config, (), 2, b"key", logs_in_full=False)
    return Deferred.fromCoroutine(workers.start(beginning, [], 0))


class TestStart:
    """What cannot be started is tried again, and nobody waits for it for ever."""

    def test_it_waits_for_the_first(self, reactor: Reactor) -> None:
        starting = begin(house(reactor, 2))
        assert len(reactor.started) == 2
        assert not starting.called
        reactor.started[1].channel.heard["ready"]()
        assert starting.called

    def test_no_process_is_to_be_had(self, reactor: Reactor) -> None:
        reactor.refuses = True
        assert begin(house(reactor, 2)).called
        assert reactor.getReaders() == []
        reactor.advance(0.1)
        reactor.refuses = False
        assert reactor.started == []
        reactor.advance(0.1)
        assert [process.number for process in reactor.started] == [1, 2]


class TestOutbound:
    """A worker is given mail for other hosts from when it accepts until it closes."""

    def test_from_ready_to_the_end(self, reactor: Reactor) -> None:
        ways = Ways()
        begin(house(reactor, 2, ways))
        first, second = reactor.started
        assert ways.told == []
        second.channel.heard["ready"]()
        assert ways.told == [("open", 2)]
        second.channel.heard["closed"]()
        assert ways.told == [("open", 2), ("leave", 2)]
        assert len(reactor.getReaders()) == 2
        end(first)
        assert len(reactor.getReaders()) == 1
        assert ways.told[2:] == [("leave", 1)]

    def test_it_is_left_before_it_is_told_to_stop(self, reactor: Reactor) -> None:
        ways = Ways()
        workers = house(reactor, 1, ways)
        begin(workers)
        (process,) = reactor.started
        process.channel.heard["ready"]()
        process.channel.say = lambda kind, *_: ways.told.append((kind, 1))  # type: ignore[method-assign]
        closing = Deferred.fromCoroutine(workers.close())
        assert ways.told[1:] == [("leave", 1), ("stop", 1)]
        end(process)
        assert closing.called

    def test_one_that_is_ready_when_all_stop_is_given_nothing(self, reactor: Reactor) -> None:
        ways = Ways()
        workers = house(reactor, 1, ways)
        begin(workers)
        (process,) = reactor.started
        _ = Deferred.fromCoroutine(workers.close())
        process.channel.heard["ready"]()
        assert ("open", 1) not in ways.told
        assert reactor.getReaders() == []
        end(process)


def end(process: Process) -> None:
    """It dies, and its channel closes."""
    process.processEnded(Failure(ProcessTerminated(signal=9)))
    process.channel.connectionLost(Failure(ConnectionDone()))

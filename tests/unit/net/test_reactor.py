"""The reactor's shortened turn: who has something to read is called, whatever befalls the others."""

import inspect
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactor
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mailserver.net.reactor import shorten


class Reader:
    """One end of a socket pair; does as it is told when it may read."""

    def __init__(self, reactor: Any, does: Any = lambda: None, at_the_end: Any = lambda: None) -> None:
        self._does = does
        self._at_the_end = at_the_end
        self.ours, self.theirs = socket.socketpair()
        self.reads = 0
        self.lost: list[Failure] = []
        reactor.addReader(self)
        self.theirs.send(b"x")

    def fileno(self) -> int:
        return self.ours.fileno()

    def doRead(self) -> Any:
        self.reads += 1
        self.ours.recv(10)
        return self._does()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)
        self._at_the_end()

    def __del__(self) -> None:
        for end in (self.ours, self.theirs):
            end.close()


@pytest.fixture
def reactor() -> Iterator[Any]:
    made: Any = EPollReactor()
    shorten(made)
    yield made
    made.removeAll()
    made._poller.close()
    for waker in made._internalReaders:
        waker.connectionLost(None)


def _raise() -> None:
    raise RuntimeError("oops")


def _exit() -> None:
    raise SystemExit("oops")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _turn(reactor: Any) -> list[Any]:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        reactor.doIteration(1.0)
    finally:
        globalLogPublisher.removeObserver(events.append)
    failures = [event.get("log_failure") or event.get("failure") for event in events]
    return [failure.value for failure in failures if failure is not None]


def test_all_who_can_read_do(reactor: Any) -> None:
    readers = [Reader(reactor), Reader(reactor)]
    assert _turn(reactor) == []
    assert [reader.reads for reader in readers] == [1, 1]
    assert [reader.lost for reader in readers] == [[], []]


def test_a_turn_without_a_timeout_waits_for_an_event(reactor: Any) -> None:
    reader = Reader(reactor)
    reactor.doIteration(None)
    assert reader.reads == 1


def test_who_says_that_it_has_ended_is_told_so(reactor: Any) -> None:
    reader = Reader(reactor, ConnectionDone)
    assert _turn(reactor) == []
    assert [type(reason.value) for reason in reader.lost] == [ConnectionDone]
    assert reader not in reactor.getReaders()


def test_what_one_raises_is_logged_ends_it_and_keeps_nobody_else(reactor: Any) -> None:
    readers = [Reader(reactor, _raise), Reader(reactor, _raise), Reader(reactor)]
    assert [str(value) for value in _turn(reactor)] == ["oops", "oops"]
    assert [len(reader.lost) for reader in readers] == [1, 1, 0]
    assert readers[-1].reads == 1


@pytest.mark.parametrize("raises", [_raise, _exit])
def test_what_one_raises_at_its_end_is_logged_and_keeps_nobody_else(reactor: Any, raises: Any) -> None:
    readers = [Reader(reactor, ConnectionDone, raises), Reader(reactor, ConnectionDone, raises)]
    readers.append(Reader(reactor))
    assert [str(value) for value in _turn(reactor)] == ["oops", "oops"]
    assert readers[-1].reads == 1


def test_an_interrupt_from_the_keyboard_ends_the_turn(reactor: Any) -> None:
    reader = Reader(reactor, ConnectionDone, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        reactor.doIteration(1.0)
    assert len(reader.lost) == 1


def test_who_was_closed_by_another_in_the_same_turn_is_not_called(reactor: Any) -> None:
    readers: list[Reader] = []

    def remove_the_others() -> None:
        for reader in readers:
            if not reader.reads:
                reactor.removeReader(reader)

    readers += [Reader(reactor, remove_the_others) for _ in range(2)]
    assert _turn(reactor) == []
    assert sorted(reader.reads for reader in readers) == [0, 1]


def test_what_is_used_of_the_reactor_is_what_it_was_when_this_was_written() -> None:
    names = {
        "self._poller.poll(timeout, len(self._selectables))",
        "self._doReadOrWrite",
        "self._selectables[fd]",
    }
    source = inspect.getsource(EPollReactor.doPoll)
    assert all(name in source for name in names)
    assert EPollReactor.doIteration is EPollReactor.doPoll
    assert list(inspect.signature(EPollReactor._doReadOrWrite).parameters) == [
        "self",
        "selectable",
        "fd",
        "event",
    ]


def test_another_reactor_stays_as_it_is() -> None:
    other: Any = MemoryReactor()
    shorten(other)
    assert not hasattr(other, "doIteration")

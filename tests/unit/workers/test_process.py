"""One worker as its parent sees it: it answers, or is killed; who waits for it does not wait in vain."""

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mailserver.workers.channel import Channel
from mailserver.workers.process import Process


class ProcessTransport:
    pid = 4711

    def __init__(self) -> None:
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class Watched:
    """A worker that is played: what it is told is in ``told``, by kind."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.channel = Channel(self.clock)
        self.told: list[str] = []
        self.channel.say = lambda kind, *facts: self.told.append(kind)  # type: ignore[method-assign]
        self.channel.makeConnection(StringTransport())
        self.lost: list[Process] = []
        self.process = Process(self.clock, 1, self.channel, self.lost.append)
        self.transport = ProcessTransport()
        self.process.makeConnection(self.transport)

    def says(self, kind: str, *facts: object) -> None:
        self.channel.heard[kind](*facts)

    def ends(self, status: int | None = 0, signal: int | None = None) -> None:
        reason = ProcessTerminated(status, signal) if status or signal else ProcessDone(0)
        self.process.processEnded(Failure(reason))
        self.channel.connectionLost(Failure(reason))


@pytest.fixture
def worker() -> Watched:
    return Watched()


@pytest.fixture
def journal() -> object:
    said: list[str] = []

    def hear(event: dict[str, object]) -> None:
        said.append(str(event.get("mail_line", "")))

    globalLogPublisher.addObserver(hear)
    yield said
    globalLogPublisher.removeObserver(hear)


def test_one_that_answers_is_left_alone(worker: Watched) -> None:
    worker.says("ready")
    for _ in range(100):
        assert worker.told.pop() == "pulse"
        assert not worker.told
        worker.says("pulse")
        worker.clock.advance(15)
    assert worker.transport.signals == []


def test_one_that_does_not_answer_is_killed_after_a_minute(worker: Watched, journal: list[str]) -> None:
    worker.says("ready")
    for _ in range(3):
        worker.clock.advance(15)
    assert worker.transport.signals == []
    worker.says("pulse")  # late, but it is there
    for _ in range(4):
        worker.clock.advance(15)
    assert worker.transport.signals == []
    worker.clock.advance(15)
    assert worker.transport.signals == ["KILL"]
    assert sum("1 (pid 4711) does not answer and is killed" in line for line in journal) == 1
    worker.ends(signal=9)
    assert worker.lost == [worker.process]
    assert worker.process.end == "was ended by SIGKILL"
    assert not worker.clock.getDelayedCalls()


def test_if_it_was_us_who_stood_still_nobody_is_killed(worker: Watched) -> None:
    worker.says("ready")
    worker.clock.advance(15)
    worker.clock.advance(1000)
    worker.says("pulse")
    for _ in range(3):
        worker.clock.advance(15)
    assert worker.transport.signals == []


def test_one_that_has_not_begun_may_take_its_time(worker: Watched) -> None:
    worker.clock.advance(1000)
    assert (worker.told, worker.transport.signals) == ([], [])
    worker.ends(1)
    assert (worker.process.end, worker.process.ended_in_order) == ("ended with exit status 1", False)
    assert worker.process.begun.called


def test_each_reload_is_answered_by_itself(worker: Watched, journal: list[str]) -> None:
    first, second = worker.process.reload("a"), worker.process.reload("b")
    worker.says("reloaded", "")
    assert (first.called, second.called) == (True, False)
    worker.says("reloaded", "no such key")
    assert second.called
    assert sum("1 keeps the old configuration: no such key" in line for line in journal) == 1


def test_whoever_waits_for_one_that_ends_goes_on(worker: Watched) -> None:
    waiting = [
        worker.process.reload("a"),
        worker.process.reload("b"),
        worker.process.closed,
        worker.process.gone,
    ]
    worker.ends(signal=11)
    assert all(each.called for each in waiting)


def test_one_that_is_to_end_and_does_not_is_killed(worker: Watched) -> None:
    worker.process.end_soon()
    worker.clock.advance(9)
    assert worker.transport.signals == []
    worker.clock.advance(1)
    assert worker.transport.signals == ["KILL"]


@pytest.mark.parametrize(
    ("age", "begins", "was_well"), [(1, True, True), (1, False, False), (61, False, True)]
)
def test_who_was_well(worker: Watched, age: float, begins: bool, was_well: bool) -> None:
    if begins:
        worker.says("ready")
    worker.clock.advance(age)
    worker.ends()
    assert worker.process.was_well is was_well


def test_none_of_it_is_left_when_there_was_no_process(worker: Watched) -> None:
    waiting = worker.process.reload("a")
    worker.process.never_was()
    assert worker.lost == [worker.process]
    assert all(each.called for each in (waiting, worker.process.begun, worker.process.gone))
    worker.channel.connectionLost()  # of the pair of sockets that had been made
    worker.process.end_soon()
    worker.clock.advance(1000)
    assert worker.lost == [worker.process]
    assert worker.transport.signals == []

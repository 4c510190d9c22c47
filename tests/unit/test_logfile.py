"""The log's lines wait for each other a little; what is worse than information waits for nothing."""

import io
import signal
import sys
import threading
from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, textFileLogObserver
from twisted.python import threadable
from twisted.python.logfile import LogFile
from zope.interface.verify import verifyObject

from mailserver import journal
from mailserver.logfile import Log, log_of
from mailserver.model.envelope import QueueID


class Paper(io.StringIO):
    """A file that remembers its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(threadable, "ioThread", threadable.getThreadID())
    return Clock()


def logger(*observers: Callable[[dict[str, object]], None]) -> Logger:
    return Logger(namespace="mail", observer=LogPublisher(*observers))


def _now(call: Callable[[], object]) -> object:
    return call()


def told(log: Log, line: str, level: object = LogLevel.info) -> None:
    log({"log_level": level, "log_time": 1_700_000_000.0, "mail_line": line})


def test_it_is_an_observer(paper: Paper) -> None:
    assert verifyObject(ILogObserver, Log(paper))


def test_the_lines_are_twisteds_own(paper: Paper) -> None:
    theirs = io.StringIO()
    log = logger(Log(paper), textFileLogObserver(theirs))
    log.info("one {word}", word="two")
    log.warn("three\nlines\nof text")
    log.observer({"log_format": "no time and no level"})
    log.observer({"log_format": ""})
    log.observer({"log_format": "", "log_time": 1_700_000_000.0})
    try:
        raise ValueError("x")
    except ValueError:
        log.failure("it broke")
    assert paper.getvalue() == theirs.getvalue() != ""


def test_the_journals_lines_are_what_twisted_would_write(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = io.StringIO()
    monkeypatch.setattr(journal, "_log", logger(Log(paper), textFileLogObserver(theirs)))
    journal.removed(QueueID("1B2"))
    journal.trouble("disk", 'it says "full"\r\n[fake#info] accepted')
    assert paper.getvalue() == theirs.getvalue()
    assert paper.getvalue().count("\n") == 2


def test_a_new_second_has_a_new_stamp(paper: Paper) -> None:
    log = Log(paper)
    for when in (1_700_000_000.1, 1_700_000_000.9, 1_700_000_001.0):
        log({"log_level": LogLevel.info, "log_time": when, "mail_line": "x"})
    stamps = [line.partition(" ")[0] for line in paper.getvalue().splitlines()]
    assert stamps[0] == stamps[1] != stamps[2]


def test_before_the_reactor_runs_nothing_waits(paper: Paper) -> None:
    log = Log(paper)
    told(log, "a")
    told(log, "b")
    assert len(paper.writes) == 2


def test_lines_wait_for_each_other_and_go_in_one_write(paper: Paper, clock: Clock) -> None:
    log = Log(paper)
    log.begin(clock.callLater)
    for line in "abc":
        told(log, line)
    assert paper.writes == []
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0.05)
    (written,) = paper.writes
    assert [line[-1] for line in written.splitlines()] == ["a", "b", "c"]
    assert clock.getDelayedCalls() == []
    told(log, "d")
    clock.advance(0.05)
    assert len(paper.writes) == 2


@pytest.mark.parametrize("level", [LogLevel.warn, LogLevel.error, LogLevel.critical])
def test_what_is_worse_waits_for_nothing_and_keeps_its_place(
    paper: Paper, clock: Clock, level: object
) -> None:
    log = Log(paper)
    log.begin(clock.callLater)
    told(log, "a")
    told(log, "b", level)
    assert [line[-1] for line in paper.getvalue().splitlines()] == ["a", "b"]
    clock.advance(0.05)
    assert len(paper.writes) == 1


def test_a_thread_does_not_touch_the_reactor(paper: Paper, clock: Clock) -> None:
    log = Log(paper)
    log.begin(clock.callLater)
    thread = threading.Thread(target=told, args=(log, "a"))
    thread.start()
    thread.join()
    assert paper.getvalue().endswith(" a\n")
    assert clock.getDelayedCalls() == []


def test_threads_lose_and_repeat_nothing(paper: Paper, clock: Clock) -> None:
    log = Log(paper)
    log.begin(clock.callLater)

    def talk(name: int) -> None:
        for number in range(200):
            told(log, f"{name}.{number}")

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    talk(4)
    for thread in threads:
        thread.join()
    log.end()
    said = sorted(line.rpartition(" ")[2] for line in paper.getvalue().splitlines())
    assert said == sorted(f"{name}.{number}" for name in range(5) for number in range(200))


def test_the_end_writes_what_waits_and_then_waits_no_more(paper: Paper, clock: Clock) -> None:
    log = Log(paper)
    log.begin(clock.callLater)
    told(log, "a")
    log.end()
    assert paper.getvalue().endswith(" a\n")
    told(log, "b")
    assert paper.getvalue().endswith(" b\n")


@pytest.mark.parametrize(
    "options",
    [
        {"logger": lambda: None, "nodaemon": True},
        {"syslog": True, "nodaemon": True},
        {"logfile": "-", "nodaemon": False},
    ],
)
def test_another_kind_of_log_is_twistds_to_make(options: dict[str, object]) -> None:
    assert log_of(options, _now) is None


@pytest.mark.parametrize("logfile", [None, "-"])
def test_in_the_foreground_it_is_standard_output(
    monkeypatch: pytest.MonkeyPatch, paper: Paper, logfile: str | None
) -> None:
    monkeypatch.setattr(sys, "stdout", paper)
    log = log_of({"nodaemon": True, "logfile": logfile}, _now)
    assert log is not None
    told(log, "x")
    assert paper.getvalue().endswith(" x\n")


@pytest.mark.parametrize(("logfile", "name"), [(None, "twistd.log"), ("other.log", "other.log")])
def test_in_the_background_it_is_a_file_that_a_signal_rotates(tmp_path, monkeypatch, logfile, name) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    rotations = []
    try:
        log = log_of({"nodaemon": False, "logfile": logfile}, rotations.append)
        assert log is not None
        told(log, "ä")
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    (rotate,) = rotations
    rotate()
    told(log, "b")
    rotate.__self__.close()
    assert (tmp_path / f"{name}.1").read_text("utf-8").endswith(" ä\n")
    assert (tmp_path / name).read_text("utf-8").endswith(" b\n")


def test_whoever_has_taken_the_signal_keeps_it(tmp_path, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(LogFile, "fromFullPath", lambda name: opened.append(name) or io.StringIO())
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        log_of({"nodaemon": False, "logfile": "x"}, _now)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert opened == ["x"]

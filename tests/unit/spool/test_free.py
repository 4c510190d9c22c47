import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailserver.spool.free import FreeSpace, affordable


class Disk:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[int]] = []

    def in_thread(self, function: Callable[[Path], int], path: Path) -> "Deferred[int]":
        self.asked.append(Deferred())
        return self.asked[-1]


def test_a_slow_disk_keeps_nobody_waiting() -> None:
    clock, disk = Clock(), Disk()
    free = FreeSpace(Path("/"), disk.in_thread, clock.seconds)
    assert free() is None
    clock.advance(100)
    assert free() is None
    assert len(disk.asked) == 1
    disk.asked[0].callback(7)
    assert free() == 7
    assert len(disk.asked) == 2  # the question was old


def test_the_answer_is_good_for_a_while() -> None:
    clock, disk = Clock(), Disk()
    free = FreeSpace(Path("/"), disk.in_thread, clock.seconds)
    free()
    disk.asked[0].callback(7)
    for _ in range(10):
        assert free() == 7
    assert len(disk.asked) == 1
    clock.advance(5)
    assert free() == 7
    assert len(disk.asked) == 2
    clock.advance(60)
    assert free() is None


def test_a_disk_that_fails_is_asked_again() -> None:
    clock, disk = Clock(), Disk()
    free = FreeSpace(Path("/"), disk.in_thread, clock.seconds)
    free()
    disk.asked[0].errback(OSError("EIO"))
    assert free() is None
    clock.advance(5)
    free()
    disk.asked[1].callback(8)
    assert free() == 8


def test_the_real_one(tmp_path: Path) -> None:
    async def at_once(function: Callable[[Path], int], path: Path) -> int:
        return function(path)

    found = FreeSpace(tmp_path, at_once, Clock().seconds)()
    assert found is not None
    assert found > 0


def test_who_looks_again_waits_for_what_is_there_now() -> None:
    clock, disk = Clock(), Disk()
    free = FreeSpace(Path("/"), disk.in_thread, clock.seconds)
    looking = Deferred.fromCoroutine(free.look())
    disk.asked[0].callback(9)
    found: list[int | None] = []
    looking.addCallback(found.append)
    assert found == [9]
    assert free() == 9
    assert len(disk.asked) == 1


def test_a_small_file_system_spares_a_twentieth(tmp_path: Path) -> None:
    size = os.statvfs(tmp_path)
    twentieth = size.f_blocks * size.f_frsize // 20
    assert affordable(1, tmp_path) == 1
    assert affordable(2**62, tmp_path / "not" / "there" / "yet") == twentieth

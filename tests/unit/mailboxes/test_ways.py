"""Which way of making files durable is taken: by what both have cost lately."""

import pytest

from mailserver.mailboxes.ways import GROUP, Ways


class Disk:
    """Takes its time; ``together`` and ``each`` are seconds, of a group and of one file."""

    def __init__(self, together: float, each: float) -> None:
        self.time = 100.0
        self.together_takes, self.each_takes = together, each
        self.fails = False
        self.done: list[str] = []
        self.ways = Ways(lambda: self.time)

    def harden(self, files: int) -> str:
        """One group; how it was done."""

        def together() -> bool:
            self.time += self.together_takes
            self.done.append("together")
            return not self.fails

        def each() -> None:
            self.time += files * self.each_takes
            self.done.append("each")

        self.done.clear()
        self.ways.harden(files, together, each)
        return "+".join(self.done)

    def share(self, files: int, groups: int = 1000) -> float:
        """How much of so many groups is done together."""
        return [self.harden(files) for _ in range(groups)].count("together") / groups


def test_what_is_not_known_yet_is_tried_together() -> None:
    assert Disk(1.0, 1.0).harden(1) == "together"


@pytest.mark.parametrize(
    ("together", "each", "files"),
    [
        (0.0002, 0.0002, 1),  # a file system that has nothing else to write: one flush is one flush
        (0.0002, 0.0002, 10),
        (0.0005, 0.0002, 1),  # somewhat dearer: what it takes along is done
        (0.008, 0.008, 1),  # a disk that turns
        (0.020, 0.008, 2),
    ],
)
def test_together_where_it_does_not_cost_much_more(together: float, each: float, files: int) -> None:
    disk = Disk(together, each)
    disk.share(files)
    assert 0.97 < disk.share(files, 3000) < 1.0


@pytest.mark.parametrize("files", [1, 10, 64])
def test_each_by_itself_where_something_large_is_being_written(files: int) -> None:
    disk = Disk(0.050, 0.0002)
    disk.share(files)
    assert 0.0 < disk.share(files, 30_000) < 0.01


def test_a_disk_that_changes_is_noticed() -> None:
    disk = Disk(0.0002, 0.0002)
    assert disk.share(4) > 0.97
    disk.together_takes = 0.1
    disk.share(4, 50)
    assert disk.share(4) < 0.05
    disk.together_takes = 0.0002
    disk.share(4, 100_000)
    assert disk.share(4) > 0.97


def test_a_single_accident_changes_nothing() -> None:
    disk = Disk(0.0002, 0.0002)
    disk.share(1)
    disk.together_takes = 10.0
    while disk.harden(1) != "together":
        pass
    disk.together_takes = 0.0002
    assert disk.share(1, 50) > 0.9


def test_what_fails_together_is_done_one_by_one_and_tried_less_often() -> None:
    disk = Disk(0.0002, 0.0002)
    disk.fails = True
    done = [disk.harden(2) for _ in range(1000)]
    assert done[0] == "together+each"
    assert set(done) == {"together+each", "each"}
    assert done.count("each") > 900
    disk.fails = False
    disk.share(2, 10_000)
    assert disk.share(2) > 0.97


def test_all_that_is_waited_for_is_counted() -> None:
    disk = Disk(1.0, 10.0)
    assert disk.harden(2) == "together"
    assert disk.ways.spent == 1.0
    disk.fails = True
    assert disk.harden(2) == "together+each"
    assert disk.ways.spent == 22.0

    def step() -> None:
        disk.time += 5.0

    disk.ways.take(step)
    assert disk.ways.spent == 27.0


def test_a_clock_that_stands_still_is_no_trouble() -> None:
    disk = Disk(0.0, 0.0)
    for files in (1, 128) * 5000:
        assert disk.harden(files) in {"together", "each"}


def test_without_a_clock_the_number_decides_for_ever() -> None:
    disk = Disk(1.0, 0.0)
    disk.ways = Ways(None)
    for _ in range(20):
        assert disk.harden(GROUP) == "together"
        assert disk.harden(GROUP - 1) == "each"
    disk.fails = True
    assert disk.harden(GROUP) == "together+each"
    disk.ways.take(lambda: disk.done.append("step"))
    assert disk.done[-1] == "step"
    assert disk.ways.spent == 0.0

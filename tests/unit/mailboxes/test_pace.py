"""How large groups are, by what writing and syncing took lately."""

import pytest

from mailserver.mailboxes.pace import LEAST, Pace

MOST = 128


def learnt(work: float, sync: float, groups: int = 300) -> Pace:
    """After so many groups of 20 in which one message took ``work`` and each sync ``sync`` seconds."""
    pace = Pace(MOST)
    for _ in range(groups):
        pace.note(20, 20 * work, sync)
    return pace


def test_the_first_ones_are_large() -> None:
    assert Pace(MOST).note(1, 1e-4, MOST * 1e-4) == MOST


@pytest.mark.parametrize(
    ("work", "sync", "size"),
    [
        (1e-4, 0.0001, LEAST),  # memory, or a disk that answers before it has written
        (1e-4, 0.0012, LEAST),
        (1e-4, 0.00501, 50),
        (1e-4, 0.025, MOST),  # a disk that turns
        (4e-4, 0.025, 62),  # … and larger messages
        (0.0, 0.0, LEAST),
    ],
)
def test_as_many_as_are_written_while_the_disk_is_waited_for(work: float, sync: float, size: int) -> None:
    assert learnt(work, sync).note(20, 20 * work, sync) == pytest.approx(size, abs=1)


def test_a_single_accident_changes_little() -> None:
    assert learnt(1e-4, 0.004).note(20, 0.002, 10.0) < 60
    assert 30 < learnt(1e-4, 0.004).note(20, 10.0, 0.004) <= 40


def test_a_disk_that_becomes_slow_is_noticed() -> None:
    pace = learnt(1e-4, 0.0005)
    for _ in range(40):
        size = pace.note(20, 0.002, 0.02)
    assert size == MOST

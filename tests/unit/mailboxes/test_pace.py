"""How large groups are, by what writing and syncing took lately."""

import pytest

from mailserver.mailboxes.pace import LEAST, Pace

MOST = 128


def learnt(work: float, wait: float, groups: int = 300) -> Pace:
    """After so many groups of 20 in which one message took ``work`` and the disk ``wait`` seconds."""
    pace = Pace(MOST)
    for _ in range(groups):
        pace.learn(20, 20 * work + wait, wait)
    return pace


def test_the_first_ones_are_large() -> None:
    assert Pace(MOST).size == MOST


@pytest.mark.parametrize(
    ("work", "wait", "size"),
    [
        (1e-4, 0.0001, LEAST),  # memory, or a disk that answers before it has written
        (1e-4, 0.0012, LEAST),
        (1e-4, 0.00501, 50),
        (1e-4, 0.025, MOST),  # a disk that turns
        (4e-4, 0.025, 62),  # … and larger messages
        (0.0, 0.0, LEAST),  # a clock that stands still
    ],
)
def test_as_many_as_are_written_while_the_disk_is_waited_for(work: float, wait: float, size: int) -> None:
    assert learnt(work, wait).size == pytest.approx(size, abs=1)


def test_a_single_accident_changes_little() -> None:
    pace = learnt(1e-4, 0.004)
    pace.learn(20, 10.002, 10.0)
    assert 40 < pace.size < 60
    pace = learnt(1e-4, 0.004)
    pace.learn(20, 10.0, 0.004)
    assert 30 < pace.size <= 40


def test_a_disk_that_becomes_slow_is_noticed() -> None:
    pace = learnt(1e-4, 0.0005)
    assert pace.size == LEAST
    for _ in range(40):
        pace.learn(20, 0.022, 0.02)
    assert pace.size == MOST

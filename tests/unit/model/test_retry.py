"""The retry schedule."""

import pytest

from mailserver.model.retry import Schedule

SCHEDULE = Schedule(waits=(10.0, 60.0, 600.0), lifetime=1000.0, warn_after=300.0)


@pytest.mark.parametrize(
    ("attempts", "now", "due"),
    [
        (1, 0.0, 10.0),
        (2, 10.0, 70.0),
        (3, 70.0, 670.0),
        (4, 300.0, 900.0),
        (9, 700.0, 1000.0),  # the last attempt is at the end of the lifetime, not after it
        (9, 400.0, 1000.0),
        (9, 1000.0, 1600.0),
        (9, 2000.0, 2600.0),
    ],
)
def test_next_attempt(attempts: int, now: float, due: float) -> None:
    assert SCHEDULE.next_attempt(attempts, 0.0, now) == due
    assert SCHEDULE.next_attempt(attempts, 5000.0, now + 5000.0) == due + 5000.0


def test_a_schedule_ends() -> None:
    now, attempts = 0.0, 0
    while not SCHEDULE.is_over(0.0, now):
        attempts += 1
        now = SCHEDULE.next_attempt(attempts, 0.0, now)
    assert now == SCHEDULE.lifetime
    assert attempts == 4


def test_is_over() -> None:
    assert not SCHEDULE.is_over(0.0, 999.9)
    assert SCHEDULE.is_over(0.0, 1000.0)


def test_owes_warning() -> None:
    assert not SCHEDULE.owes_warning(0.0, 299.9)
    assert SCHEDULE.owes_warning(0.0, 300.0)
    assert not Schedule((1.0,), 10.0, 0.0).owes_warning(0.0, 1e9)

"""When a worker that died is replaced. What workers do is played on the real program (tests/functional)."""

import pytest

from mailserver.settings import worker_count
from mailserver.workers.house import pause


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 0.2), (2, 0.4), (5, 3.2), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_the_pause_doubles_and_is_bounded(deaths: int, seconds: float) -> None:
    assert pause(deaths) == seconds


@pytest.mark.parametrize(
    ("workers", "cores", "count"), [(0, 8, 0), (3, 1, 3), ("auto", 1, 0), ("auto", 2, 0), ("auto", 8, 7)]
)
def test_how_many(workers: int | str, cores: int, count: int) -> None:
    assert worker_count(workers, cores) == count

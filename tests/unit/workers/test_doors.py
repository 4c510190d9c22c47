"""Whose a door is, and how long the others wait there."""

import pytest

from mailserver.workers.doors import takers, wait_before


@pytest.mark.parametrize("service", ["smtp", "submission", "submissions"])
@pytest.mark.parametrize(
    ("workers", "count", "number"), [(1, 1, 1), (3, 3, 3), ("auto", 2, 1), ("auto", 8, 7)]
)
def test_how_many_take_mail(workers: int | str, count: int, number: int, service: str) -> None:
    assert takers(workers, count, service) == number


@pytest.mark.parametrize("service", ["pop3", "pop3s"])
@pytest.mark.parametrize(("workers", "count"), [(1, 1), (3, 3), ("auto", 2), ("auto", 8)])
def test_mail_is_fetched_from_all(workers: int | str, count: int, service: str) -> None:
    assert takers(workers, count, service) == count


def test_a_door_is_for_the_first_ones() -> None:
    def refuse(number: int) -> bool:
        raise AssertionError("nobody is asked")

    assert wait_before(1, 1, refuse) is None
    helping = wait_before(2, 1, refuse)
    assert helping is not None
    assert helping() == 0.1


def test_those_whose_door_it_is_share() -> None:
    for number in (1, 2):
        sharing = wait_before(number, 2, lambda those: those == 2)
        assert sharing is not None
        assert sharing() == 0.001
        at_once = wait_before(number, 3, lambda those: those == 2)
        assert at_once is not None
        assert at_once() == 0.0

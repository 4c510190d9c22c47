"""Rates: what the last 60 minutes hold, who is counted where, and when it is news."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mailserver.access.profiles import Allowance, Over, Profile
from mailserver.access.rates import RateRules, Rates, allowances
from mailserver.model.envelope import Origin
from mailserver.model.source import Source

LINE = Source("mailserver.toml", 30)
TEN = Allowance(10, 0, Over.DELAY, LINE)
KEY = ("user", "alice@example.lan")
STRANGER = Origin("192.0.2.1")
ALICE = Origin("192.0.2.1", login="alice@example.lan")


@pytest.mark.parametrize(
    ("rules", "profile", "origin", "keys"),
    [
        (RateRules(), None, STRANGER, []),
        (RateRules(user=TEN), None, STRANGER, []),
        (RateRules(user=TEN, address=TEN), None, ALICE, [KEY]),
        (RateRules(address=TEN), None, STRANGER, [("address", "192.0.2.1")]),
        (RateRules(address=TEN), None, Origin("2001:db8::1"), [("address", "2001:db8::/64")]),
        (RateRules(), Profile("lan", allowance=TEN), STRANGER, [("network", "lan")]),
        (RateRules(), Profile("lan", allowance=TEN), ALICE, []),
        (
            RateRules(address=TEN),
            Profile("lan", allowance=Allowance(recipients=5)),
            STRANGER,
            [("address", "192.0.2.1"), ("network", "lan")],
        ),
    ],
)
def test_who_is_counted_where(
    rules: RateRules, profile: Profile | None, origin: Origin, keys: list[tuple[str, str]]
) -> None:
    assert [key for key, _ in allowances(rules, profile, origin)] == keys


def test_over_the_rate_names_the_rule() -> None:
    rates = Rates(Clock().seconds)
    for _ in range(10):
        assert rates.take([(KEY, TEN)], 1, 1) is None
    excess = rates.take([(KEY, TEN)], 1, 1)
    assert excess is not None
    assert (excess.verdict.allowed, excess.verdict.source) == (False, LINE)
    assert excess.verdict.reason == "user alice@example.lan: over 10 messages an hour"
    assert excess.over is Over.DELAY
    assert rates.take([(KEY, TEN)], 0, 1) is None, "another recipient of a message is no message"


def test_recipients_are_counted_apart() -> None:
    rates = Rates(Clock().seconds)
    few = Allowance(0, 3)
    assert [rates.take([(KEY, few)], int(not n), 1) is None for n in range(5)] == [True] * 3 + [False] * 2


def test_the_hour_slides() -> None:
    clock = Clock()
    rates = Rates(clock.seconds)
    clock.advance(1800)
    assert sum(rates.take([(KEY, TEN)], 1, 1) is None for _ in range(20)) == 10
    clock.advance(1800)
    assert rates.take([(KEY, TEN)], 1, 1) is not None, "half an hour later it is all within the last hour"
    clock.advance(1800)
    assert sum(rates.take([(KEY, TEN)], 1, 1) is None for _ in range(20)) == 5
    clock.advance(7200)
    assert sum(rates.take([(KEY, TEN)], 1, 1) is None for _ in range(20)) == 10


@given(st.lists(st.floats(0, 4000), max_size=60))
def test_no_clock_hour_holds_more_than_the_rate(waits: list[float]) -> None:
    clock = Clock()
    rates = Rates(clock.seconds)
    taken: dict[int, int] = {}
    for wait in waits:
        clock.advance(wait)
        if rates.take([(KEY, Allowance(3))], 1, 1) is None:
            hour = int(clock.seconds() // 3600)
            taken[hour] = taken.get(hour, 0) + 1
    assert all(count <= 3 for count in taken.values())


def test_all_allowances_are_asked_before_any_is_counted() -> None:
    rates = Rates(Clock().seconds)
    both = [(KEY, TEN), (("network", "lan"), Allowance(1))]
    assert rates.take(both, 1, 1) is None
    for _ in range(20):
        assert rates.take(both, 1, 1) is not None
    assert sum(rates.take([(KEY, TEN)], 1, 1) is None for _ in range(20)) == 9


def test_held_mail_is_counted_and_is_news_once() -> None:
    clock = Clock()
    rates = Rates(clock.seconds)
    hold = [(KEY, Allowance(2, 0, Over.HOLD))]
    found = [rates.take(hold, 1, 1) for _ in range(6)]
    assert [it is not None and it.news for it in found] == [False, False, True, False, False, False]
    clock.advance(3600)
    again = rates.take(hold, 1, 1)
    assert again is not None
    assert not again.news
    clock.advance(2 * 3600)
    found = [rates.take(hold, 1, 1) for _ in range(4)]
    assert [it is not None and it.news for it in found] == [False, False, True, False]


def test_memory_is_bounded() -> None:
    rates = Rates(Clock().seconds, remembered=100)
    for number in range(1000):
        assert rates.take([(("address", str(number)), TEN)], 1, 1) is None
    assert len(rates) == 100

"""Who is locked out, and who is not, as stories on a clock."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from mailserver.access import lockout as module
from mailserver.access.lockout import Lockout, LockoutRules, network_of
from mailserver.interfaces import ILockout
from mailserver.model.source import Source

HERE, THERE = "192.0.2.1", "192.0.2.2"
ALICE, BOB = "alice@example.lan", "bob@example.lan"
RULES = LockoutRules(3, 90.0, lambda client: client.startswith("10."), Source("mailserver.toml", 7))


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def lockout(time: Time) -> Lockout:
    return Lockout(RULES, time)


@pytest.fixture
def locked() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []

    def observe(event: Any) -> None:
        if event.get("mail_event") == "locked":
            events.append(event["mail_fields"])

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def fail(lockout: Lockout, client: str, account: str, times: int, first: int = 0) -> list[float]:
    return [lockout.failed(client, account, b"guess %d" % n) for n in range(first, first + times)]


def free(lockout: Lockout, client: str, account: str) -> bool:
    return lockout.judge(client, account).allowed


def test_contract(lockout: Lockout) -> None:
    verifyObject(ILockout, lockout)


def test_the_third_guess_locks_the_account_for_that_address_alone(
    lockout: Lockout, locked: list[Any]
) -> None:
    fail(lockout, HERE, ALICE, 2)
    assert free(lockout, HERE, ALICE)
    fail(lockout, HERE, ALICE, 1, 2)
    verdict = lockout.judge(HERE, ALICE)
    assert (verdict.allowed, verdict.reason) == (False, f"{ALICE} from {HERE} is locked out for 90 s")
    assert verdict.source == RULES.source
    assert free(lockout, HERE, BOB)
    assert free(lockout, THERE, ALICE), "guessing must not lock its owner out"
    assert locked == [{"client": HERE, "account": ALICE, "seconds": "90"}]


def test_many_accounts_lock_the_address(lockout: Lockout) -> None:
    for n in range(8):
        fail(lockout, HERE, f"user{n}", 1)
    assert free(lockout, HERE, BOB)
    fail(lockout, HERE, "user8", 1)
    assert lockout.judge(HERE, BOB).reason == f"{HERE} is locked out for 90 s"
    assert free(lockout, THERE, BOB)


def test_a_lock_ends_and_the_count_begins_again(lockout: Lockout, time: Time) -> None:
    fail(lockout, HERE, ALICE, 3)
    time.now += 89.5
    assert lockout.judge(HERE, ALICE).reason.endswith("for 1 s")
    time.now += 0.5
    assert free(lockout, HERE, ALICE)
    fail(lockout, HERE, ALICE, 2)
    assert free(lockout, HERE, ALICE)
    fail(lockout, HERE, ALICE, 1, 2)
    assert not free(lockout, HERE, ALICE)


def test_counts_drain_away(lockout: Lockout, time: Time) -> None:
    for n in range(50):
        fail(lockout, HERE, ALICE, 1, n)
        time.now += 31
        assert free(lockout, HERE, ALICE), n
    fail(lockout, HERE, ALICE, 3, 100)
    assert not free(lockout, HERE, ALICE)


def test_the_same_wrong_password_is_no_new_guess(lockout: Lockout) -> None:
    for _ in range(100):
        lockout.failed(HERE, ALICE, b"the old one")
    assert free(lockout, HERE, ALICE)


def test_what_cannot_be_told_apart_is_a_guess_each_time(lockout: Lockout) -> None:
    for _ in range(3):
        lockout.failed(HERE, ALICE)
    assert not free(lockout, HERE, ALICE)


def test_success_clears_the_account_and_not_the_address(lockout: Lockout) -> None:
    for n in range(9):
        assert free(lockout, HERE, BOB)
        fail(lockout, HERE, ALICE, 1, n)
        lockout.succeeded(HERE, ALICE)
        lockout.succeeded(HERE, "mallory@example.lan")
    assert not free(lockout, HERE, BOB)


def test_the_delay_grows_and_ends_growing(lockout: Lockout) -> None:
    lockout.rules = LockoutRules(100, 1e9)
    assert fail(lockout, HERE, ALICE, 6) == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert fail(lockout, THERE, ALICE, 1) == [1.0]


@pytest.mark.parametrize("client", ["10.1.2.3", "", "unix"])
def test_never_locked(lockout: Lockout, client: str) -> None:
    assert fail(lockout, client, ALICE, 100) == [0.0] * 100
    assert free(lockout, client, ALICE)
    lockout.succeeded(client, ALICE)
    assert lockout.locks() == ()


def test_no_limit_no_lock(lockout: Lockout) -> None:
    lockout.rules = LockoutRules(0)
    fail(lockout, HERE, ALICE, 100)
    assert free(lockout, HERE, ALICE)


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("example.org", ""),
    ],
)
def test_what_is_counted_as_one_client(client: str, network: str) -> None:
    assert network_of(client) == network


def test_an_ipv6_client_cannot_change_its_address(lockout: Lockout) -> None:
    for n in range(3):
        fail(lockout, f"2001:db8::{n + 1}", ALICE, 1, n)
    assert not free(lockout, "2001:db8::ffff", ALICE)
    assert free(lockout, "2001:db8:0:1::1", ALICE)


def test_locks_are_listed_and_lifted(lockout: Lockout, time: Time) -> None:
    fail(lockout, HERE, ALICE, 3)
    fail(lockout, "2001:db8::1", BOB, 3)
    fail(lockout, THERE, BOB, 1)
    time.now += 30
    assert [(it.client, it.account, it.seconds) for it in lockout.locks()] == [
        (HERE, ALICE, 60.0),
        ("2001:db8::/64", BOB, 60.0),
    ]
    assert lockout.lift(HERE) == 1
    assert free(lockout, HERE, ALICE)
    assert lockout.lift("2001:db8::/64") == 1
    assert lockout.lift("nobody") == lockout.lift(THERE) == 0
    assert lockout.locks() == ()


def test_memory_is_bounded(lockout: Lockout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 100)
    for n in range(10_000):
        lockout.failed(f"192.0.{n // 250}.{n % 250}", "x" * 5000, b"")
    assert len(lockout._counts) <= 100
    assert all(len(account) <= 100 for _, account in lockout._counts)


def test_an_account_without_a_name_is_not_all_of_them(lockout: Lockout) -> None:
    fail(lockout, HERE, "", 3)
    assert not free(lockout, HERE, "")
    assert free(lockout, HERE, ALICE)

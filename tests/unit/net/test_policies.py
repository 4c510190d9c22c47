"""When policies of MTA-STS are looked for, fetched, kept and gone by."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from mailserver.interfaces import NoSuchData, NoSuchName, Unanswered
from mailserver.net.https import NotFetched
from mailserver.net.policies import DomainPolicies
from mailserver.net.policyfile import Row
from mailserver.wire.mta_sts import Mode, Policy

TEXT = b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 864000\n"
POLICY = Policy(Mode.ENFORCE, 864000, ("mx.example.org",))
TESTING = Policy(Mode.TESTING, 864000, ("mx.example.org",))
DAY = 86400.0


class FakeFile:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.trouble: Exception | None = None

    def read(self) -> list[Row]:
        if self.trouble is not None:
            raise self.trouble
        return list(self.rows.values())

    def put(self, row: Row) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.rows[row.domain] = row


class World:
    """DNS, the policy host, a disk and two clocks."""

    def __init__(self) -> None:
        self.record: bytes | Exception = b"v=STSv1; id=1"
        self.text: bytes | Exception | Deferred[bytes] = TEXT
        self.file = FakeFile()
        self.clock = Clock()
        self.now = 1e9
        self.fetched: list[str] = []
        self.asked = 0
        self.restart()

    def restart(self, **options: Any) -> None:
        file: Any = self.file
        resolver: Any = self
        self.policies = DomainPolicies(
            resolver, self.fetch, file, self.in_thread, lambda: self.now, self.clock.seconds, **options
        )

    async def txt(self, name: str) -> tuple[bytes, ...]:
        assert name.startswith("_mta-sts.")
        self.asked += 1
        if isinstance(self.record, Exception):
            raise self.record
        return (b"v=spf1 -all", self.record)

    async def fetch(self, host: str, path: str) -> bytes:
        assert path == "/.well-known/mta-sts.txt"
        self.fetched.append(host)
        if isinstance(self.text, Exception):
            raise self.text
        return await self.text if isinstance(self.text, Deferred) else self.text

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return work()

    def ask(self, domain: str = "example.org") -> Policy | None:
        found: list[Policy | None] = []
        _ = Deferred.fromCoroutine(self.policies.policy(domain)).addCallback(found.append)
        return found[0]

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.now += seconds


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("record", [NoSuchName("x"), NoSuchData("x"), Unanswered("x"), b"v=STSv1; id=-"])
def test_no_record_no_policy(world: World, record: bytes | Exception) -> None:
    world.record = record
    assert world.ask() is None
    assert world.fetched == []


@pytest.mark.parametrize("text", [NotFetched("no"), b"<html>", b"", RuntimeError("a bug")])
def test_a_policy_that_is_not_to_be_had_is_none(world: World, text: Any) -> None:
    world.text = text
    assert world.ask() is None
    # … and it is not asked for by every message (RFC 8461 §3.3).
    world.later(299)
    assert world.ask() is None
    assert len(world.fetched) == 1
    world.later(2)
    world.text = TEXT
    assert world.ask() == POLICY


def test_fetched_once_and_again_when_the_id_changes(world: World) -> None:
    for _ in range(3):
        assert world.ask() == POLICY
        world.later(61)
    assert world.fetched == ["mta-sts.example.org"]
    world.record, world.text = b"v=STSv1; id=2", TEXT.replace(b"enforce", b"testing")
    assert world.ask() == TESTING
    assert len(world.fetched) == 2


@pytest.mark.parametrize("record", [NoSuchName("x"), Unanswered("x"), b"v=STSv1; id=2"])
def test_what_was_fetched_holds_whatever_comes(world: World, record: bytes | Exception) -> None:
    """Who can forge DNS, or cut connections, must not be able to end a policy."""
    world.ask()
    world.record, world.text = record, NotFetched("cut off")
    for _ in range(9):
        world.later(DAY)
        assert world.ask() == POLICY
    world.later(DAY + 1)
    assert world.ask() is None


def test_fetched_again_long_before_it_ends(world: World) -> None:
    for _ in range(20):
        assert world.ask() == POLICY
        world.later(DAY + 1)
    assert len(world.fetched) == 20


def test_a_clock_that_is_set_back_ends_nothing(world: World) -> None:
    world.ask()
    world.clock.advance(61)
    world.now -= 30 * DAY
    world.text = NotFetched("x")
    assert world.ask() == POLICY
    assert len(world.fetched) == 2


def test_a_policy_of_no_age_is_none(world: World) -> None:
    world.text = TEXT.replace(b"864000", b"0")
    assert world.ask() is None


def test_outlives_a_restart(world: World) -> None:
    world.ask()
    world.restart()
    world.record, world.text = Unanswered("x"), NotFetched("x")
    assert world.ask() == POLICY
    world.restart()
    world.later(10 * DAY + 1)
    assert world.ask() is None
    assert len(world.fetched) == 1


def test_what_cannot_be_read_any_more_is_fetched(world: World) -> None:
    world.file.rows["example.org"] = Row("example.org", "1", world.now, b"<html>")
    assert world.ask() == POLICY


@pytest.mark.parametrize("trouble", [sqlite3.OperationalError("disk I/O error"), OSError(28, "no space")])
def test_a_disk_that_fails_keeps_nothing_from_working(world: World, trouble: Exception) -> None:
    world.file.trouble = trouble
    assert world.ask() == POLICY
    world.later(61)
    assert world.ask() == POLICY
    assert len(world.fetched) == 1


def test_who_comes_meanwhile_waits_and_who_leaves_leaves_alone(world: World) -> None:
    world.text = Deferred()
    waiting = [Deferred.fromCoroutine(world.policies.policy("example.org")) for _ in range(3)]
    left: list[Any] = []
    _ = waiting[0].addErrback(left.append)
    waiting[0].cancel()
    left[0].trap(CancelledError)
    assert len(world.fetched) == 1
    world.text.callback(TEXT)
    found: list[Policy | None] = []
    for one in waiting[1:]:
        _ = one.addCallback(found.append)
    assert found == [POLICY, POLICY]


def test_bounded(world: World) -> None:
    world.restart(most=10)
    for number in range(30):
        world.ask(f"d{number}.example")
    assert len(world.policies._kept) == len(world.policies._rests) == 10

"""One memory in several processes: what one learns all know, and a worker that ends leaves nothing behind."""

import marshal
from collections import deque
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from mailserver.access.connections import ConnectionRules, Connections
from mailserver.access.lockout import Lockout, LockoutRules
from mailserver.access.profiles import Allowance, Over
from mailserver.access.rates import Rates
from mailserver.interfaces import IShared
from mailserver.pop3.delay import LoginDelay, LoginTooEarly
from mailserver.smtp.usage import Usage
from mailserver.workers.sharing import Hub, share

CLIENT, OTHER = "192.0.2.7", "192.0.2.8"


class Process:
    """One process' memories."""

    def __init__(self, now: Any) -> None:
        self.locked: list[tuple[str, str]] = []
        self.lockout = Lockout(LockoutRules(failures=3), now, lambda *lock: self.locked.append(lock[:2]))
        self.connections = Connections(ConnectionRules(most=5, per_address=3))
        self.rates = Rates(now)
        self.delay = LoginDelay(10.0, now)
        self.usage = Usage(self.rates, now=now)
        self.all: dict[str, IShared] = {
            "lockout": self.lockout,
            "connections": self.connections,
            "rates": self.rates,
            "delay": self.delay,
            "usage": self.usage,
        }


class House:
    """A parent and its workers; messages are delivered when asked for, in the spelling of the channel."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.parent = Process(lambda: self.time)
        self.workers: dict[int, Process] = {}
        self._under_way: deque[Any] = deque()
        self._said: dict[int, Any] = {}
        self.hub = Hub(self.parent.all, lambda: list(self._said.items()))

    def start(self, number: int) -> Process:
        worker = self.workers[number] = Process(lambda: self.time)
        memory = marshal.loads(marshal.dumps(self.hub.remember()))
        for name, part in worker.all.items():
            part.recall(memory[name])

        def up(kind: str, *facts: Any) -> None:
            self._under_way.append((self.hub.hear, number, *marshal.loads(marshal.dumps(facts))))

        heard = share(worker.all, up)

        def down(kind: str, *facts: Any) -> None:
            self._under_way.append((heard[kind], *marshal.loads(marshal.dumps(facts))))

        self._said[number] = down
        return worker

    def end(self, number: int) -> None:
        del self._said[number], self.workers[number]
        self.hub.lost(number)

    def settle(self) -> None:
        while self._under_way:
            call, *facts = self._under_way.popleft()
            call(*facts)

    def everybody(self) -> list[Process]:
        return [self.parent, *self.workers.values()]


@pytest.fixture
def house() -> House:
    house = House()
    house.start(1)
    house.start(2)
    return house


@pytest.mark.parametrize("name", ["lockout", "connections", "rates", "delay", "usage"])
def test_each_keeps_its_promise(house: House, name: str) -> None:
    assert verifyObject(IShared, house.parent.all[name])


def test_guesses_in_all_processes_lock_out_in_all_and_are_told_once(house: House) -> None:
    for n, worker in enumerate([1, 2, 1]):
        house.workers[worker].lockout.failed(CLIENT, "alice@example.lan", b"guess%d" % n)
        house.settle()
    late = house.start(3)
    for process in house.everybody():
        assert not process.lockout.judge(CLIENT, "alice@example.lan").allowed
        assert process.lockout.judge(OTHER, "alice@example.lan").allowed
    assert house.parent.locked == [(CLIENT, "alice@example.lan")]
    assert late.lockout.locks() == house.parent.lockout.locks()
    assert house.parent.lockout.lift(CLIENT) == 1
    house.settle()
    assert all(it.lockout.judge(CLIENT, "alice@example.lan").allowed for it in house.everybody())


def test_the_same_guess_elsewhere_is_no_new_one(house: House) -> None:
    for worker in (1, 2, 1, 2):
        house.workers[worker].lockout.failed(CLIENT, "alice@example.lan", b"the old password")
        house.settle()
    assert house.parent.lockout.judge(CLIENT, "alice@example.lan").allowed


def test_a_right_password_clears_the_count_everywhere(house: House) -> None:
    for n in range(2):
        house.workers[1].lockout.failed(CLIENT, "alice@example.lan", b"%d" % n)
        house.settle()
    house.workers[2].lockout.succeeded(CLIENT, "alice@example.lan")
    house.settle()
    house.workers[1].lockout.failed(CLIENT, "alice@example.lan", b"another")
    assert house.workers[1].lockout.judge(CLIENT, "alice@example.lan").allowed


def test_connections_of_all_count_and_those_of_the_dead_do_not(house: House) -> None:
    one, two = house.workers[1].connections, house.workers[2].connections
    assert one.admit(CLIENT).allowed
    assert one.admit(CLIENT).allowed
    assert two.admit(CLIENT).allowed
    house.settle()
    assert not two.admit(CLIENT).allowed
    assert two.admit(OTHER).allowed
    house.settle()
    assert [len(it.connections) for it in house.everybody()] == [4, 4, 4]
    assert (one.own, two.own) == (2, 2)
    assert (house.parent.connections.of(1), house.parent.connections.of(2)) == (2, 2)
    house.end(1)
    house.settle()
    assert [len(it.connections) for it in house.everybody()] == [2, 2]
    assert two.admit(CLIENT).allowed
    late = house.start(1).connections
    house.settle()
    assert (len(late), late.own) == (3, 0)
    two.leave(CLIENT)
    two.leave(CLIENT)
    two.leave(OTHER)
    house.settle()
    assert [len(it.connections) for it in house.everybody()] == [0, 0, 0]
    assert all(it.connections.remember() == {} for it in house.everybody())


def test_rates_hold_over_all(house: House) -> None:
    asked = [(("user", "alice"), Allowance(messages=3, over=Over.HOLD))]
    for worker in (1, 2, 1):
        assert house.workers[worker].rates.take(asked, 1, 1) is None
        house.settle()
    late = house.start(3)
    house.settle()
    excess = house.workers[2].rates.take(asked, 1, 1)
    assert excess is not None
    assert excess.news
    house.settle()
    for process in house.everybody():
        again = process.rates.take(asked, 1, 1)
        assert again is not None
        assert not again.news, "the admin has been told"
        house.settle()
    # What was counted in the hour before is half forgotten in the midst of this one, in all processes alike.
    house.time += 2 * 3600
    assert late.rates.take(asked, 1, 1) is None
    house.settle()
    excess = house.workers[1].rates.take(asked, 3, 1)
    assert excess is not None
    assert excess.news, "it had come down meanwhile, elsewhere"


async def _a_maildrop() -> str:
    return "maildrop"


def test_a_login_elsewhere_counts_for_the_delay(house: House) -> None:
    from twisted.internet.defer import Deferred
    from twisted.trial.unittest import SynchronousTestCase

    case = SynchronousTestCase()

    def open_at(worker: int) -> Any:
        return Deferred.fromCoroutine(house.workers[worker].delay.open("alice", _a_maildrop))

    assert case.successResultOf(open_at(1)) == "maildrop"
    house.settle()
    house.start(3)
    case.failureResultOf(open_at(2), LoginTooEarly)
    case.failureResultOf(open_at(3), LoginTooEarly)
    house.time += 11
    assert case.successResultOf(open_at(2)) == "maildrop"


def test_whom_the_admin_has_been_told_of(house: House) -> None:
    house.workers[1].usage.hear(["alice", 1000.0], 0)
    house.hub.hear(1, "usage", ["alice", 1000.0])
    house.settle()
    assert [it.usage.remember() for it in house.everybody()] == [[("alice", 1000.0)]] * 3
    assert house.start(3).usage.remember() == [("alice", 1000.0)]


def test_memory_is_bounded_by_the_same_measure(house: House) -> None:
    for n in range(30_000):
        house.workers[1].lockout.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "alice", b"x")
        house.settle()
    sizes = {len(it.lockout.remember()) for it in house.everybody()}
    assert sizes == {20_000}

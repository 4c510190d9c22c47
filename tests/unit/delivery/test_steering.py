"""Steering, on a real spool with a runner that only notes what it is told."""

import secrets

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from mailserver.delivery.bounce import ReportWriter
from mailserver.delivery.destinations import Destinations
from mailserver.delivery.recording import Recorder
from mailserver.delivery.steering import Steering
from mailserver.delivery.timing import Time
from mailserver.interfaces import Declined, StorageFull
from mailserver.model.address import Address
from mailserver.model.retry import Schedule
from tests.support.spooling import ALICE, DELAYED, DELIVERED, SpoolTestCase

HOUR = 3600.0


class Runner:
    def __init__(self):
        self.woken = 0
        self.parked = []
        self.destinations = Destinations(lambda: 0.0)

    def give_back(self):
        for release in self.parked:
            release()
        self.wake()

    def wake(self):
        self.woken += 1


class SteeringTests(SpoolTestCase):
    def setUp(self):
        super().setUp()
        self.make_steering()

    def make_steering(self):
        time = Time(reactor, self.clock.seconds, lambda: 0.0)
        writer = ReportWriter("mail.example.lan", lambda: secrets.randbits(64))
        recorder = Recorder(self.spool, writer, Schedule((60.0,), lifetime=86400.0, warn_after=0.0), time)
        self.runner = Runner()
        self.time = time
        self.verbs = Steering(self.spool, recorder, self.runner, time).verbs()
        self.told = []

    async def say(self, verb, **request):
        return await self.verbs[verb](request, self.told.append)

    async def names(self):
        return sorted(
            str(waiting.recipient.address) for duty in await self.take() for waiting in duty.waiting
        )

    async def a_turn(self):
        await deferLater(reactor, 0.02)


class StateTests(SteeringTests):
    async def test_held_mail_is_not_handed_out_until_it_is_released(self):
        await self.store("a@one.example", "b@two.example")
        await self.store("c@two.example")
        assert await self.say("queue.hold", domain="two.example") == {"messages": 2, "recipients": 2}
        assert await self.names() == ["a@one.example"]
        assert await self.spool.next_due() is None
        assert await self.say("queue.release", recipient="C@two.example") == {"messages": 1, "recipients": 1}
        assert await self.names() == ["c@two.example"]
        assert self.runner.woken == 2

    async def test_who_is_under_way_obeys_when_he_is_done(self):
        await self.store("a@one.example")
        await self.store("b@one.example")
        first, second = await self.take()
        await self.say("queue.hold", all=True)
        await self.settle(first, DELAYED, self.clock.seconds())
        await self.settle(second, DELIVERED)
        assert await self.take() == []
        assert (await self.say("queue.release", all=True))["recipients"] == 1
        assert await self.names() == ["a@one.example"]

    async def test_retry_makes_due_now(self):
        await self.store("a@one.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, self.clock.seconds() + HOUR)
        assert await self.take() == []
        assert (await self.say("queue.retry", error="try later"))["recipients"] == 1
        assert await self.names() == ["a@one.example"]

    async def test_who_is_made_due_while_under_way_is_due_when_that_ends(self):
        for verb, request in (("queue.retry", {}), ("queue.reroute", {"host": "mx.example.net"})):
            fresh = []
            self.spool.on_arrival = fresh.extend
            envelope = await self.store(f"{verb}@one.example")
            (duty,) = fresh
            self.clock.advance(1)
            await self.say(verb, ids=[envelope.id], **request)
            pokes = []
            self.spool.on_arrival = pokes.append
            self.clock.advance(1)
            await self.settle(duty, DELAYED, self.clock.seconds() + HOUR)
            assert pokes == [()]
            self.spool.on_arrival = None
            (again,) = await self.take()
            assert again.envelope.id == envelope.id
            await self.settle(again, DELAYED, self.clock.seconds() + HOUR)
            assert await self.take() == []

    async def test_who_is_rerouted_is_handed_out_with_his_host(self):
        await self.store("a@one.example")
        for host, spelled in (
            ("[2001:db8::1]:2525", "[2001:db8::1]:2525"),
            ("smtps://MX.example", "smtps://mx.example:465"),
            ("unix:/run/lmtp", "unix:/run/lmtp"),
        ):
            await self.say("queue.reroute", all=True, host=host)
            (duty,) = await self.take()
            assert [waiting.reroute for waiting in duty.waiting] == [spelled]
            self.spool.release(duty)
        await self.say("queue.reroute", all=True, host="")
        assert [waiting.reroute for waiting in (await self.take())[0].waiting] == [""]

    async def test_long_work_is_done_in_portions_that_are_told(self):
        for _ in range(6):
            await self.store(*(f"r{number}@one.example" for number in range(200)))
        assert (await self.say("queue.hold", all=True))["recipients"] == 1200
        assert self.told == [{"recipients": 500}, {"recipients": 1000}]

    async def test_what_cannot_be_meant_is_declined(self):
        for verb, request in (
            ("queue.hold", {}),
            ("queue.drop", {"sender": ""}),
            ("queue.hold", {"ids": "x"}),
            ("queue.hold", {"state": "delivered"}),
            ("queue.hold", {"domain": 7}),
            ("queue.reroute", {"all": True, "host": "mx.example:0"}),
            ("queue.pause", {"domain": "no domain"}),
            ("queue.resume", {"domain": "one.example"}),
            ("queue.edit", {"id": "X"}),
            ("queue.edit", {"id": "X", "add": ["a@b@c d"]}),
            ("queue.edit", {"id": "X", "add": ["a@one.example"]}),
            ("rule.add", {"field": "size", "value": "1"}),
            ("rule.add", {"field": "domain", "value": "no domain"}),
            ("rule.remove", {"number": 1}),
        ):
            with pytest.raises(Declined):
                await self.say(verb, **request)


class EndTests(SteeringTests):
    async def test_a_bounce_tells_the_sender(self):
        await self.store("a@one.example", "b@two.example")
        done = await self.say("queue.bounce", domain="two.example")
        assert done == {"messages": 1, "recipients": 1, "under_way": 0}
        duties = {duty.destination: duty for duty in await self.take()}
        assert set(duties) == {"one.example", "example.lan"}
        report = await self.octets(duties["example.lan"].envelope.id)
        assert b"b@two.example" in report
        assert b"Status: 5.7.0" in report
        assert b"cancelled by the administrator" in report

    async def test_a_drop_tells_nobody(self):
        await self.store("a@one.example", "b@one.example")
        await self.say("queue.hold", all=True)
        assert (await self.say("queue.drop", state="held"))["recipients"] == 2
        assert await self.take() == []
        await self.reopen()
        assert await self.take() == []

    async def test_an_end_waits_for_what_is_under_way(self):
        await self.store("a@one.example")
        await self.store("b@one.example")
        first, second = await self.take()
        ending = Deferred.fromCoroutine(self.say("queue.drop", all=True))
        await self.a_turn()
        assert not ending.called
        await self.settle(first, DELIVERED)
        await self.settle(second, DELAYED, self.clock.seconds())
        assert await ending == {"messages": 2, "recipients": 1, "under_way": 0}
        await self.reopen()
        assert await self.take() == []

    async def test_what_stays_under_way_for_too_long_stays_held(self):
        await self.store("a@one.example")
        (duty,) = await self.take()
        timers = Clock()
        recorder = self.verbs  # not used by a drop
        steering = Steering(self.spool, recorder, self.runner, Time(timers, self.clock.seconds, lambda: 0.0))
        ending = Deferred.fromCoroutine(steering.verbs()["queue.drop"]({"all": True}, self.told.append))
        while not ending.called:
            await self.a_turn()
            timers.advance(10)
        assert await ending == {"messages": 1, "recipients": 0, "under_way": 1}
        await self.settle(duty, DELAYED, self.clock.seconds())
        assert await self.take() == []

    async def test_what_waited_for_a_slot_is_ended_at_once(self):
        await self.store("a@one.example")
        (duty,) = await self.take()
        self.runner.parked.append(lambda: self.spool.release(duty))
        assert (await self.say("queue.drop", all=True))["recipients"] == 1


class EditTests(SteeringTests):
    async def test_another_sender_and_other_recipients(self):
        envelope = await self.store("a@one.example", "b@two.example", "c@two.example")
        await self.say(
            "queue.edit",
            id=envelope.id.lower(),
            sender="bob@example.lan",
            replace=[["<A@one.example>", "z@three.example"]],
            add=["d@four.example"],
            remove=["c@two.example"],
        )
        duties = await self.take()
        assert sorted(duty.destination for duty in duties) == ["four.example", "three.example", "two.example"]
        assert {duty.envelope.sender for duty in duties} == {Address("bob", "example.lan")}
        for duty in duties:
            await self.settle(duty, DELIVERED)
        await self.reopen()
        assert await self.take() == []

    async def test_a_wrong_edit_changes_nothing(self):
        envelope = await self.store("a@one.example")
        for change in ({"remove": ["a@one.example"]}, {"replace": [["x@one.example", "y@one.example"]]}):
            with pytest.raises(Declined):
                await self.say("queue.edit", id=envelope.id, sender="<>", **change)
        (duty,) = await self.take()
        assert duty.envelope.sender == ALICE

    async def test_who_is_held_stays_held(self):
        envelope = await self.store("a@one.example")
        await self.say("queue.hold", all=True)
        await self.say("queue.edit", id=envelope.id, sender="<>")
        assert await self.take() == []
        await self.say("queue.release", ids=[envelope.id])
        assert (await self.take())[0].envelope.sender.is_null


class StandingTests(SteeringTests):
    async def test_a_pause_stands_until_it_is_ended(self):
        await self.say("queue.pause", domain="One.example")
        await self.store("a@one.example", "b@two.example")
        assert await self.names() == ["b@two.example"]
        assert await self.spool.next_due() is None
        await self.reopen()
        self.make_steering()
        assert await self.names() == ["b@two.example"]
        await self.say("queue.resume", domain="one.example")
        assert await self.names() == ["a@one.example"]

    async def test_everything_is_paused(self):
        await self.store("a@one.example")
        await self.say("queue.pause")
        assert await self.take() == []
        assert await self.spool.next_due() is None
        await self.say("queue.resume")
        assert await self.names() == ["a@one.example"]

    async def test_rules_hold_what_comes(self):
        table = (
            ("domain", "One.example", "a@one.example"),
            ("recipient", "B@two.example", "b@two.example"),
            ("recipient", "@three.example", "c@three.example"),
        )
        for field, value, _ in table:
            await self.say("rule.add", field=field, value=value)
        await self.store(*(address for _, _, address in table), "x@two.example")
        assert await self.names() == ["x@two.example"]
        await self.reopen()
        self.make_steering()
        await self.say("rule.remove", number=1)
        await self.store("a@one.example", "b@two.example")
        assert await self.names() == ["a@one.example", "x@two.example"]

    async def test_rules_about_the_sender(self):
        for value in ("alice@example.lan", "example.lan", "<>"):
            number = (await self.say("rule.add", field="sender", value=value))["rule"]
            envelope = await self.store("a@one.example")
            held = [duty for duty in await self.take() if duty.envelope.id == envelope.id] == []
            assert held is (value != "<>")
            await self.say("rule.remove", number=number)


class TroubleTests(SteeringTests):
    async def test_a_full_disk_is_said_and_nothing_is_changed(self):
        await self.store("a@one.example")

        def small(connection):
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")

        await self.spool.order(small)
        with pytest.raises(StorageFull):
            await self.say("queue.hold", all=True, reason="x" * 100_000)
        assert await self.names() == ["a@one.example"]


class DestinationTests(SteeringTests):
    async def test_destinations_in_trouble(self):
        assert await self.say("queue.troubles") == []
        self.runner.destinations.failed("dead.example", "no connection", 60.0)
        (trouble,) = await self.say("queue.troubles")
        assert trouble == {"domain": "dead.example", "error": "no connection", "rests": 60.0, "lasts": 0.0}

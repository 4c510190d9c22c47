"""The runner, on a queue in memory and a clock that is turned by hand."""

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.delivery import runner as runner_module
from mailserver.delivery.bounce import ReportWriter
from mailserver.delivery.recording import Recorder
from mailserver.delivery.routing import Local, Nowhere, Remote
from mailserver.delivery.runner import Directions, Runner
from mailserver.delivery.slots import Slots, Window
from mailserver.delivery.timing import Time
from mailserver.interfaces import Account, IContent, IQueue
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.model.retry import Schedule
from mailserver.model.source import BUILT_IN
from tests.support.fakequeue import BytesContent, FakeQueue

OK = Delivered("250 Ok")
LATER = Delayed(Scope.HOST, "connection refused", "4.4.1", "mx.example")
NEVER = Failed(Scope.RECIPIENT, "550 no such user", "5.1.1", "mx.example", 550)
START = 1_700_000_000.0
DAY = 86400.0


class Courier:
    """Answers from a script: by address, by domain, else delivered; a Deferred is waited for."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.under_way = self.most_under_way = 0

    def addresses(self):
        return [str(recipient.address) for _, recipients in self.asked for recipient in recipients]

    async def deliver(self, envelope, content, recipients):
        self.asked.append((envelope, tuple(recipients)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return {one: answer for one in recipients if (answer := await self._answer(one)) is not None}
        finally:
            self.under_way -= 1

    async def _answer(self, recipient):
        answer = self.answers.get(str(recipient.address), self.answers.get(recipient.address.domain, OK))
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return await answer if isinstance(answer, Deferred) else answer


def route(recipient, envelope):
    if recipient.address.domain != "here.example":
        return Remote(recipient.address.domain)
    if recipient.address.local == "nobody":
        return Nowhere(BUILT_IN)
    return Local(Account(str(recipient.address)))


class World:
    """A runner and all it needs."""

    def __init__(self, schedule=None, local=None, remote=None, chance=0.0):
        self.clock = Clock()
        self.step = 0.0
        self.queue = FakeQueue(self.clock, longest_wait=3600.0)
        self.local, self.remote = Courier(), Courier()
        self.schedule = schedule or Schedule((60.0, 300.0), lifetime=5 * DAY, warn_after=DAY / 6)
        time = Time(self.clock, self.now, lambda: chance)
        self.recorder = Recorder(
            self.queue, ReportWriter("mail.here.example", self.entropy), self.schedule, time
        )
        directions = Directions(route, {Local: self.local, Remote: self.remote}, None)
        slots = Slots(
            lambda name: name == "here.example", local or Window(250, 250), remote or Window(500, 20)
        )
        self.runner = Runner(self.queue, directions, self.recorder, slots, time)
        self.queue.on_arrival = self.runner.arrived
        self.count = 0

    def now(self):
        return START + self.step + self.clock.seconds()

    def entropy(self):
        self.count += 1
        return self.count

    def add(self, *addresses, sender="alice@here.example", content=b"Subject: x\r\n\r\nx\r\n"):
        self.count += 1
        recipients = tuple(Recipient(Address(*one.split("@"))) for one in addresses)
        origin = Address(*sender.split("@")) if sender else NULL_SENDER
        client = Origin("192.0.2.1")
        envelope = Envelope(QueueID(f"Q{self.count}"), origin, recipients, client, self.now())
        self.queue.add(envelope, content)
        return envelope

    def arrive(self, *addresses):
        """One message for each."""
        envelopes = [self.add(address) for address in addresses]
        self.queue.arrive(*envelopes)
        return envelopes

    def run(self, seconds, step=0.5):
        self.clock.pump([0.001] * 20)
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
        self.clock.pump([0.001] * 20)


class Base(TestCase):
    def setUp(self):
        self.events = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event):
        if "mail_event" in event:
            self.events.append((event["mail_event"], event["mail_fields"]))

    def said(self, name):
        return [fields for event, fields in self.events if event == name]

    def stop(self, world, grace=1.0):
        stopping = Deferred.fromCoroutine(world.runner.stop(grace))
        world.run(grace + 10)
        self.successResultOf(stopping)
        assert not world.clock.getDelayedCalls(), world.clock.getDelayedCalls()


class DeliveryTest(Base):
    def test_the_fake_is_a_queue(self):
        assert verifyObject(IQueue, FakeQueue())
        assert verifyObject(IContent, BytesContent(b""))

    def test_what_waits_at_start_is_delivered_and_removed(self):
        world = World()
        world.add("bob@here.example", "carol@far.example")
        world.runner.start()
        world.run(1)
        assert world.local.addresses() == ["bob@here.example"]
        assert world.remote.addresses() == ["carol@far.example"]
        assert world.queue.removed == ["Q1"]
        assert len(self.said("delivered")) == 2
        self.stop(world)

    def test_a_poke_brings_mail_at_once_and_many_pokes_cost_one_scan(self):
        world = World()
        world.runner.start()
        world.run(1)
        takes = world.queue.takes
        world.add("bob@here.example")
        for _ in range(100):
            world.runner.wake()
        world.clock.pump([0.001] * 20)
        assert world.queue.removed == ["Q1"]
        assert world.queue.takes - takes <= 4
        self.stop(world)

    def test_a_lost_poke_costs_a_minute(self):
        world = World()
        world.runner.start()
        world.run(1)
        world.add("bob@here.example")
        world.run(58)
        assert world.queue.removed == []
        world.run(2)
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_a_poke_during_a_scan_is_not_forgotten(self):
        world = World()
        world.runner.start()
        world.clock.advance(0.001)  # take() has looked; next_due() is on its way
        world.add("bob@here.example")
        world.runner.wake()
        world.clock.pump([0.001] * 20)
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_recipients_of_one_duty_go_their_own_ways(self):
        world = World()
        world.add("bob@here.example", "nobody@here.example")
        world.runner.start()
        world.run(1)
        outcomes = {str(one.address): s.outcome for one, s in world.queue.settled[0][1].items()}
        assert outcomes["bob@here.example"] == OK
        assert isinstance(outcomes["nobody@here.example"], Failed)
        assert outcomes["nobody@here.example"].status == "5.1.1"
        self.stop(world)

    def test_a_failure_is_reported_by_the_same_door(self):
        world = World()
        world.remote.answers["far.example"] = NEVER
        world.add("a@far.example", "b@far.example")
        world.runner.start()
        world.run(1)
        assert len(world.queue.reports) == 1
        assert world.local.addresses() == ["alice@here.example"]
        envelope, _ = world.local.asked[0]
        assert envelope.sender == NULL_SENDER
        assert b"Final-Recipient: rfc822; b@far.example" in world.queue.reports[0].content
        assert b"Subject: x" in world.queue.reports[0].content
        assert len(world.queue.removed) == 2
        assert [fields["kind"] for fields in self.said("reported")] == ["failed"]
        self.stop(world)

    def test_nothing_is_reported_about_the_null_sender(self):
        world = World()
        world.remote.answers["far.example"] = NEVER
        world.add("a@far.example", sender="")
        world.runner.start()
        world.run(1)
        assert world.queue.reports == []
        assert len(world.queue.removed) == 1
        self.stop(world)


class ScheduleTest(Base):
    def test_delayed_mail_is_tried_by_the_schedule_warned_about_once_and_given_up(self):
        schedule = Schedule((60.0, 300.0), lifetime=3600.0, warn_after=600.0)
        world = World(schedule)
        world.remote.answers["far.example"] = LATER
        world.add("bob@far.example")
        world.runner.start()
        times = []
        for second in range(4000):
            before = len(world.remote.asked)
            world.clock.advance(1)
            times += [second] * (len(world.remote.asked) - before)
        assert all(abs(a - b) < 10 for a, b in zip(times, [0, 60, 360, 660], strict=False))
        assert abs(times[-1] - 3600) <= 5
        kinds = [fields["kind"] for fields in self.said("reported")]
        assert kinds == ["delayed", "failed"]
        assert b"Status: 4.4.7" in world.queue.reports[1].content
        assert b"x-local; connection refused" in world.queue.reports[1].content
        assert world.queue.states == {}
        self.stop(world)

    def test_what_is_settled_while_a_scan_ends_is_not_overslept(self):
        world = World(Schedule((5.0,), DAY, 0))
        answers = [Deferred()]
        world.remote.answers["far.example"] = lambda: answers.pop() if answers else OK
        waiting = answers[0]
        world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        world.queue.delay = 0.5
        world.runner.wake()
        world.clock.advance(0.5)  # take() has looked; next_due() is asked
        world.queue.delay = 0.001
        waiting.callback(LATER)
        world.clock.advance(0.001)  # settled
        assert len(world.queue.settled) == 1
        world.run(7)
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_who_falls_due_while_another_of_the_message_is_asked_for_is_not_overslept(self):
        world = World()
        answer = Deferred()
        world.remote.answers["bob@far.example"] = answer
        envelope = world.add("bob@far.example", "carol@far.example")
        _, carol = envelope.recipients
        world.queue.states[envelope.id][carol].due = START + 3
        world.runner.start()
        world.run(2)
        assert world.remote.addresses() == ["bob@far.example"]
        answer.callback(OK)
        world.run(3)
        assert world.remote.addresses() == ["bob@far.example", "carol@far.example"]
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_what_the_administrator_rerouted_says_nothing_of_the_destination(self):
        world = World()
        world.runner.directions.rerouted = lambda to: world.local
        world.local.answers["far.example"] = LATER
        envelope = world.add("bob@far.example", "carol@far.example")
        waits = world.queue.states[envelope.id][envelope.recipients[0]]
        waits.waiting = evolve(waits.waiting, reroute="elsewhere:25")
        world.runner.start()
        world.run(1)
        assert len(world.queue.settled) == 1
        assert world.runner.destinations.told() == []
        self.stop(world)

    def test_trouble_of_our_own_says_nothing_of_the_destination(self):
        world = World()
        world.remote.answers["far.example"] = Delayed(Scope.DOUBT, "the process ended", "4.3.2")
        world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        assert len(world.queue.settled) == 1
        assert world.runner.destinations.told() == []
        self.stop(world)

    def test_what_comes_within_a_moment_is_found_together(self):
        world = World()
        world.runner.start()
        world.run(1)
        world.queue.delay = 0.0
        before = world.queue.takes
        for _ in range(20):
            world.add("bob@here.example")
            world.runner.wake()
            world.clock.advance(0.001)
            assert world.queue.takes > before, "the first is found at once"
        assert 6 <= world.queue.takes - before <= 8
        world.clock.pump([0.001] * 5)
        assert len(world.local.asked) == 20, "the last is not left lying"
        self.stop(world)

    def test_what_is_broken_off_is_tried_again_at_once(self):
        """As when a process that spoke for us ends in order, while the server runs on."""
        world = World()
        answers = [CancelledError(), OK]
        world.remote.answers["far.example"] = lambda: answers.pop(0)
        world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        assert len(world.queue.released) == 1
        assert world.queue.removed == ["Q1"]
        assert answers == []
        self.stop(world)

    def test_waits_are_spread(self):
        world = World(chance=1.0)
        world.remote.answers["far.example"] = LATER
        world.add("bob@far.example")
        world.runner.start()
        world.run(56)
        assert len(world.remote.asked) == 2
        self.stop(world)

    def test_the_schedule_may_be_replaced(self):
        world = World()
        world.remote.answers["far.example"] = LATER
        world.recorder.schedule = Schedule((5.0,), DAY, 0)
        world.add("bob@far.example")
        world.runner.start()
        world.run(24)
        assert len(world.remote.asked) == 5
        self.stop(world)

    def test_a_destination_may_have_a_schedule_of_its_own(self):
        """So mail that a backup MX keeps waits longer than other mail."""
        world = World(Schedule((60.0,), lifetime=300.0, warn_after=0))
        world.recorder.schedules = {"far.example": Schedule((60.0,), lifetime=DAY, warn_after=0)}
        world.remote.answers |= {"far.example": LATER, "near.example": LATER}
        world.add("bob@far.example")
        world.add("bob@near.example")
        world.runner.start()
        world.run(400)
        assert [fields["recipient"] for fields in self.said("failed")] == ["<bob@near.example>"]
        self.stop(world)

    def test_the_clock_steps_a_day_forth_and_back(self):
        world = World()
        world.remote.answers["far.example"] = LATER
        world.add("bob@far.example")
        world.runner.start()
        world.run(10)
        world.step = DAY
        world.run(70)
        assert len(world.remote.asked) == 2  # due by the new calendar
        world.add("carol@here.example")
        world.step = 0.0
        world.add("dave@here.example")
        world.runner.wake()
        world.run(1)
        assert world.local.addresses()[-1:] == ["dave@here.example"]
        world.remote.answers.clear()
        world.run(600)  # the queue recalls who waits for a day too long, the runner takes them
        assert world.queue.states == {}
        self.stop(world)


class FaultTest(Base):
    def test_a_disk_full_at_delivery_is_a_delay(self):
        world = World()
        full = [Delayed(Scope.HOST, "no space", "4.3.1")] * 2
        world.local.answers["here.example"] = lambda: full.pop() if full else OK
        world.add("bob@here.example")
        world.runner.start()
        world.run(400)
        assert len(world.local.asked) == 3
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_settling_is_retried_and_nothing_delivered_twice(self):
        world = World()
        world.queue.failures["settle"] = 5
        world.add("bob@here.example")
        world.runner.start()
        world.run(20)
        assert world.queue.settled == []
        world.run(15)
        assert len(world.queue.settled) == 1
        assert len(world.local.asked) == 1
        assert len(self.said("trouble")) == 5
        assert len(self.said("delivered")) == 1
        self.stop(world)

    def test_content_that_cannot_be_read_is_a_delay(self):
        world = World()
        world.queue.failures["content"] = 1
        world.add("bob@here.example")
        world.runner.start()
        world.run(61)
        assert world.queue.removed == ["Q1"]
        assert [fields["status"] for fields in self.said("delayed")] == ["4.3.0"]
        self.stop(world)

    def test_a_report_whose_original_cannot_be_read_is_made_without_it(self):
        world = World()
        world.remote.answers["far.example"] = NEVER
        world.add("bob@far.example", content=BytesContent(b"Subject: x\r\n\r\n", trouble=0))
        world.runner.start()
        world.run(1)
        assert len(world.queue.reports) == 1
        self.stop(world)

    def test_a_queue_that_cannot_be_read_is_read_again(self):
        for method in ("take", "next_due"):
            world = World()
            world.queue.failures[method] = 2
            world.runner.start()
            world.run(1)
            world.add("bob@here.example")
            world.run(25)
            assert world.queue.removed == ["Q1"]
            self.stop(world)

    def test_a_courier_that_breaks_its_contract_delays(self):
        world = World()
        world.remote.answers["raises.example"] = RuntimeError("bug")
        world.remote.answers["b@forgets.example"] = lambda: None
        world.add("a@raises.example")
        world.add("a@forgets.example", "b@forgets.example")
        world.runner.start()
        world.run(1)
        assert [str(fields["recipient"]) for fields in self.said("delayed")] == [
            "<a@raises.example>",
            "<b@forgets.example>",
        ]
        assert [str(fields["recipient"]) for fields in self.said("delivered")] == ["<a@forgets.example>"]
        assert len(self.said("trouble")) == 2
        self.stop(world)

    def test_a_route_that_raises_delays(self):
        world = World()

        def broken(recipient, envelope):
            raise RuntimeError("bug")

        world.runner.directions.route = broken
        world.add("a@far.example")
        world.runner.start()
        world.run(1)
        assert len(self.said("delayed")) == 1
        world.runner.directions.route = route
        world.run(61)
        assert world.queue.removed == ["Q1"]
        self.stop(world)


class FairnessTest(Base):
    def test_a_dead_destination_with_10000_messages_holds_up_nobody(self):
        world = World()
        world.remote.answers["dead.example"] = lambda: Deferred()
        for number in range(10_000):
            world.add(f"u{number}@dead.example")
        world.runner.start()
        world.run(1)
        assert world.remote.under_way == 20
        for number in range(100):
            world.add("bob@here.example")
            world.add(f"u@far{number}.example")
        world.runner.wake()
        world.run(1)
        assert len(world.queue.removed) == 200
        assert world.remote.most_under_way <= 20 + 100
        # What falls due behind a full destination is seen within seconds, without a poke.
        world.add("late@far.example")
        world.run(2)
        assert len(world.queue.removed) == 201
        world.runner.wake()
        takes = world.queue.takes
        world.run(10)
        assert world.queue.takes - takes < 30
        self.stop(world)

    def test_a_busy_destination_uses_its_slots_to_the_end(self):
        world = World(remote=Window(500, 20))
        for number in range(1000):
            world.add(f"u{number}@far.example")
        world.runner.start()
        world.run(2, step=0.001)
        assert len(world.queue.removed) == 1000
        assert world.remote.most_under_way <= 20
        assert world.queue.takes < 60
        self.stop(world)

    def test_local_mail_does_not_wait_for_a_full_remote_window(self):
        world = World(remote=Window(5, 2, hand=10))
        stuck = []
        for number in range(300):
            name = f"dead{number}.example"
            world.remote.answers[name] = lambda: stuck.append(Deferred()) or stuck[-1]
            world.add(f"u@{name}")
        world.runner.start()
        world.run(1)
        assert world.remote.under_way == 5
        world.add("bob@here.example")
        world.runner.wake()
        world.run(1)
        assert world.queue.removed == ["Q301"]
        while stuck:
            stuck.pop(0).callback(OK)
            world.run(0.1, step=0.01)
        assert len(world.queue.removed) == 301
        self.stop(world)

    def test_couriers_that_answer_at_once_do_not_pile_up_the_stack(self):
        world = World(remote=Window(1, 1, hand=5000))
        world.queue.clock = None
        for number in range(3000):
            world.add(f"u@d{number}.example")
        world.runner.start()
        world.run(1)
        assert len(world.queue.removed) == 3000
        self.stop(world)


class StopTest(Base):
    def test_stop_waits_for_what_is_under_way(self):
        world = World()
        answer = Deferred()
        world.remote.answers["far.example"] = answer
        world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        stopping = Deferred.fromCoroutine(world.runner.stop(30))
        world.run(5)
        self.assertNoResult(stopping)
        answer.callback(OK)
        world.run(1)
        self.successResultOf(stopping)
        assert world.queue.removed == ["Q1"]
        assert not world.clock.getDelayedCalls()

    def test_a_courier_that_never_returns_is_interrupted_and_its_duty_given_back(self):
        world = World()
        world.remote.answers["far.example"] = lambda: Deferred()
        world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        self.stop(world, grace=5)
        assert world.queue.settled == []
        assert len(world.queue.released) == 1

    def test_what_was_answered_for_before_the_interruption_is_recorded(self):
        world = World()
        world.runner.directions.couriers = {Local: world.local, Remote: world.remote}
        world.runner.directions.route = lambda r, e: (
            Remote("far.example") if r.address.local == "slow" else Local(Account("x"))
        )
        world.remote.answers["far.example"] = lambda: Deferred()
        world.add("bob@far.example", "slow@far.example")
        world.runner.start()
        world.run(1)
        self.stop(world, grace=5)
        ((_, settlements),) = world.queue.settled
        by_name = {one.address.local: settlement for one, settlement in settlements.items()}
        assert by_name["bob"].next_attempt is None
        assert by_name["slow"].next_attempt is not None

    def test_it_rests_and_what_is_under_way_goes_on(self):
        world = World(remote=Window(1, 1))
        answer = Deferred()
        world.remote.answers["far.example"] = lambda: answer
        for _ in range(3):
            world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        world.runner.rest()
        assert len(world.queue.released) == 2
        answer.callback(OK)
        world.add("bob@far.example")
        world.runner.wake()
        world.run(70)
        assert len(world.remote.asked) == 1
        assert world.queue.removed == ["Q1"]
        self.stop(world)

    def test_what_is_being_recorded_at_a_stop_is_recorded(self):
        """Only who is still being asked is interrupted."""
        world = World()
        world.add("bob@far.example")
        world.queue.delay = 3.0
        world.runner.start()
        world.run(7)  # taken, read, asked: being settled
        assert len(world.remote.asked) == 1
        assert world.queue.settled == []
        self.stop(world, grace=0.5)
        assert world.queue.removed == ["Q1"]
        assert self.said("trouble") == []

    def test_stop_gives_back_what_is_parked_and_what_is_just_taken(self):
        world = World(remote=Window(1, 1))
        world.remote.answers["far.example"] = lambda: Deferred()
        for _ in range(3):
            world.add("bob@far.example")
        world.runner.start()
        world.run(1)
        world.add("bob@other.example")
        world.runner.wake()  # a scan is under way when the stop comes
        self.stop(world)
        assert len(world.queue.released) == 4
        assert not any(waits.taken for waits in world.queue._all())

    def test_stop_while_settling_fails_returns(self):
        world = World()
        world.queue.failures["settle"] = 1000
        world.add("bob@here.example")
        world.runner.start()
        world.run(1)
        self.stop(world, grace=5)

    def test_stop_without_start_and_wake_after_stop(self):
        world = World()
        self.stop(world)
        world.runner.wake()
        world.run(1)
        assert world.queue.takes == 0


class DestinationTest(Base):
    def test_a_dead_destination_rests_and_costs_one_attempt(self):
        world = World(remote=Window(500, 20, first=1))
        world.remote.answers["dead.example"] = Delayed(Scope.HOST, "no connection", "4.4.1", "mx")
        for n in range(50):
            world.add(f"u{n}@dead.example")
        world.add("bob@far.example")
        world.runner.start()
        world.run(30)
        assert len(world.queue.settled) == 2, "one for each domain"
        assert world.runner.destinations.resting() == {"dead.example"}

    def test_one_success_wakes_what_waits(self):
        world = World()
        hastened = []

        async def hasten(destination):
            hastened.append(destination)

        world.runner.hasten = hasten
        world.remote.answers["far.example"] = Delayed(Scope.HOST, "no connection", "4.4.1", "mx")
        world.add("a@far.example")
        world.runner.start()
        world.run(1)
        assert hastened == []
        del world.remote.answers["far.example"]
        world.run(90)
        assert hastened == ["far.example"]
        assert world.runner.destinations.trouble("far.example") is None


class UnrecordedTest(Base):
    """A destination with one slot, and a disk that does not answer."""

    def world(self):
        world = World(remote=Window(500, 1))
        for n in range(5):
            world.add(f"u{n}@far.example")
        self.recorded, settle = Deferred(), world.queue.settle

        async def wait_and_settle(*what):
            await self.shared()
            await settle(*what)

        world.queue.settle = wait_and_settle
        return world

    async def shared(self):
        waiting = Deferred()
        self.recorded.addCallback(lambda _: waiting.callback(None))
        await waiting

    def test_the_next_is_asked_while_the_disk_is_waited_for(self):
        world = self.world()
        world.runner.start()
        world.run(1)
        assert len(world.remote.addresses()) == 5
        assert world.remote.most_under_way == 1
        assert world.queue.settled == []
        self.recorded.callback(None)
        world.run(1)
        assert len(world.queue.settled) == len(world.queue.removed) == 5
        assert len(world.remote.addresses()) == 5
        self.stop(world)

    def test_what_waits_for_the_disk_is_bounded(self):
        self.patch(runner_module, "_MOST_UNRECORDED", 2)
        world = self.world()
        world.runner.start()
        world.run(1)
        assert len(world.remote.addresses()) == 3, "two beyond the slot, and the one that keeps it"
        self.recorded.callback(None)
        world.run(1)
        assert len(world.queue.removed) == 5
        self.stop(world)

    def test_a_stop_waits_for_what_is_being_recorded(self):
        world = self.world()
        world.runner.start()
        world.run(1)
        stopping = Deferred.fromCoroutine(world.runner.stop(5.0))
        world.run(1)
        self.assertNoResult(stopping)
        self.recorded.callback(None)
        world.run(1)
        self.successResultOf(stopping)
        assert len(world.queue.removed) == 5

    def test_where_nobody_speaks_the_slot_is_kept_until_that_is_known(self):
        world = self.world()
        world.remote.answers["far.example"] = LATER
        world.runner.start()
        world.run(1)
        assert len(world.remote.addresses()) == 1
        self.recorded.callback(None)
        self.stop(world)


class ArrivalTest(Base):
    """Mail that has just been stored, and what goes before it."""

    def world(self, **facts):
        world = World(**facts)
        world.runner.start()
        world.run(1)
        self.takes = world.queue.takes
        return world

    def test_it_is_delivered_without_being_looked_for(self):
        world = self.world()
        world.queue.arrive(world.add("bob@here.example", "carol@far.example", "dave@far.example"))
        world.clock.advance(0.001)  # its content is there
        assert world.local.addresses() == ["bob@here.example"]
        assert world.remote.addresses() == ["carol@far.example", "dave@far.example"]
        world.clock.advance(0.001)
        assert len(world.queue.settled) == 2
        assert world.queue.takes == self.takes
        self.stop(world)

    def test_more_than_fits_is_parked_and_delivered_in_order(self):
        world = self.world(remote=Window(500, 3, hand=40))
        names = [f"u{n}@far.example" for n in range(20)]
        world.arrive(*names)
        assert world.queue.released == []
        world.run(1)
        assert world.remote.addresses() == names
        assert world.queue.takes == self.takes
        self.stop(world)

    def test_what_finds_no_room_is_found_later_and_what_comes_then_goes_behind_it(self):
        world = self.world(remote=Window(500, 1, hand=4))
        first = [f"u{n}@far.example" for n in range(9)]
        holding = world.remote.answers["u0@far.example"] = Deferred()
        world.arrive(*first)
        assert len(world.queue.released) == 6, "one begins, two have places in the hand"
        world.arrive("late@far.example", "bob@here.example")
        world.clock.advance(0.001)
        world.clock.advance(0.001)
        assert world.queue.takes == self.takes, "there is nothing to be looked for yet"
        assert world.remote.addresses() == ["u0@far.example"]
        assert world.local.addresses() == ["bob@here.example"]
        holding.callback(OK)
        world.run(1)
        assert world.remote.addresses() == [*first, "late@far.example"]
        assert not world.queue.envelopes
        takes = world.queue.takes
        world.arrive("again@far.example")
        world.run(1)
        assert world.remote.addresses()[-1] == "again@far.example"
        assert world.queue.takes == takes, "nothing is left behind"
        self.stop(world)

    def test_a_slot_that_was_just_earned_has_somebody_look(self):
        world = self.world(remote=Window(500, 3, hand=1, first=1))
        holding = world.remote.answers["u0@far.example"] = Deferred()
        world.arrive("u0@far.example", "u1@far.example", "x1@other.example", "x2@other.example")
        assert len(world.queue.released) == 1, "the hand is full"
        world.run(0.1)
        assert world.remote.addresses() == ["u0@far.example", "x1@other.example", "x2@other.example"]
        holding.callback(OK)
        world.run(1)
        assert not world.queue.envelopes
        self.stop(world)

    def test_before_the_first_look_what_waited_goes_first(self):
        world = World()
        world.add("old@far.example")
        world.arrive("early@far.example")
        assert world.remote.addresses() == []
        world.runner.start()
        world.arrive("new@far.example")
        assert world.remote.addresses() == []
        world.run(1)
        assert world.remote.addresses() == ["old@far.example", "early@far.example", "new@far.example"]
        self.stop(world)

    def test_where_the_queue_could_not_be_read_nothing_goes_first(self):
        world = self.world()
        world.queue.failures["take"] = 1
        world.add("old@far.example")
        world.runner.wake()
        world.run(1)
        world.arrive("new@far.example")
        assert world.remote.addresses() == []
        world.run(0.1)
        assert world.remote.addresses() == ["old@far.example", "new@far.example"]
        self.stop(world)

    def test_what_is_given_back_while_somebody_looks_is_looked_for_again(self):
        world = self.world()
        world.add("old@far.example")
        world.queue.failures["take"] = 1
        world.runner.wake()
        world.run(1)
        world.runner.wake()
        world.clock.advance(0.0005)  # take() is asked; nothing is known of any destination
        world.arrive("new@far.example")
        assert len(world.queue.released) == 1
        world.run(0.1)
        assert world.remote.addresses() == ["old@far.example", "new@far.example"]
        self.stop(world)

    def test_a_slot_that_becomes_free_while_somebody_looks_is_used_at_once(self):
        world = self.world(remote=Window(500, 1, hand=10))
        holding = world.remote.answers["u0@far.example"] = Deferred()
        world.arrive("u0@far.example")
        world.run(0.1)
        world.add("u1@far.example")
        world.runner.wake()
        world.clock.advance(0.0005)  # take() is asked, for any destination but this
        holding.callback(OK)
        world.run(0.1)
        assert world.remote.addresses() == ["u0@far.example", "u1@far.example"]
        self.stop(world)

    def test_where_nobody_can_be_spoken_to_it_waits_with_the_others(self):
        world = self.world()
        world.remote.answers["dead.example"] = LATER
        world.arrive("one@dead.example")
        world.run(1)
        world.arrive("two@dead.example", "three@dead.example")
        world.run(2)
        assert world.remote.addresses() == ["one@dead.example"]
        world.remote.answers.clear()
        world.run(70)
        assert sorted(world.remote.addresses()[1:]) == [
            "one@dead.example",
            "three@dead.example",
            "two@dead.example",
        ]
        self.stop(world)

    def test_parked_mail_of_a_dead_destination_is_given_back_and_found(self):
        world = self.world(remote=Window(500, 1, hand=40))
        world.remote.answers["dead.example"] = LATER
        world.arrive("one@dead.example", "two@dead.example")
        world.run(1)
        assert [duty.waiting[0].recipient.address.local for duty in world.queue.released] == ["two"]
        world.remote.answers.clear()
        world.run(70)
        assert len(world.queue.removed) == 2
        self.stop(world)

    def test_what_is_given_back_for_the_administrator_is_taken_again(self):
        world = self.world(remote=Window(500, 1, hand=40))
        holding = world.remote.answers["u0@far.example"] = Deferred()
        world.arrive("u0@far.example", "u1@far.example")
        world.runner.give_back()
        world.run(1)
        holding.callback(OK)
        world.run(1)
        assert world.remote.addresses() == ["u0@far.example", "u1@far.example"]
        self.stop(world)

    def test_what_is_given_back_is_looked_for_although_nothing_there_ends(self):
        """Whoever has the slots of the destination may take minutes."""
        world = self.world(remote=Window(500, 1, hand=0))
        holding = world.remote.answers["u0@far.example"] = Deferred()
        world.arrive("u0@far.example", "u1@far.example")
        world.run(2)
        assert world.queue.takes > self.takes
        holding.callback(OK)
        world.run(2)
        assert not world.queue.envelopes
        self.stop(world)

    def test_a_bug_keeps_nothing_taken(self):
        world = self.world()
        offer, slots = world.runner._slots.offer, world.runner._slots
        self.patch(slots, "offer", lambda duty, is_fresh=False: 1 / 0 if is_fresh else offer(duty))
        world.arrive("a@far.example", "b@far.example")
        world.run(2)
        assert len(world.queue.removed) == 2
        assert [fields["id"] for fields in self.said("trouble")]
        self.stop(world)

    def test_a_call_with_none_is_a_poke(self):
        world = self.world()
        world.add("bob@here.example")
        world.runner.arrived(())
        world.run(1)
        assert world.local.addresses() == ["bob@here.example"]
        self.stop(world)

    def test_what_comes_while_it_stops_is_given_back(self):
        world = self.world()
        self.stop(world)
        world.arrive("bob@here.example")
        assert len(world.queue.released) == 1
        assert world.local.addresses() == []
        assert not world.clock.getDelayedCalls()

    def test_who_falls_due_is_not_forgotten_when_nothing_is_looked_for(self):
        """Delayed mail, with mail that comes all the time and never gives a reason to look."""
        world = self.world()
        world.remote.answers["slow@far.example"] = Delayed(
            Scope.RECIPIENT, "450 later", "4.2.0", "mx.example", 450
        )
        world.arrive("slow@far.example")
        for n in range(70):
            world.arrive(f"u{n}@far.example")
            world.run(1)
        assert world.remote.addresses().count("slow@far.example") == 2
        self.stop(world)

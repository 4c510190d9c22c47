"""Random operations on the tables, held against a model of a few lines: writer and reader without threads."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailserver.interfaces import Settlement
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.spool import opening, schema
from mailserver.spool.body import Sealed
from mailserver.spool.claims import Claims
from mailserver.spool.disk import Disk
from mailserver.spool.reader import Reader
from mailserver.spool.recent import Recent
from mailserver.spool.writer import Settle, Store, Writer

DOMAINS = ("a.example", "b.example", "c.example")
RECIPIENTS = st.lists(
    st.builds(Recipient, st.builds(Address, st.sampled_from("xyz"), st.sampled_from(DOMAINS))),
    min_size=1,
    max_size=4,
    unique=True,
)
DELAYED = Delayed(Scope.HOST, "later")
OUTCOMES = st.sampled_from([Delivered("ok"), Failed(Scope.MESSAGE, "no"), DELAYED])


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.now = 1000.0
        self.count = 0
        self.waiting = {}  # message -> recipient -> (next attempt, attempts)
        self.about = {}
        self.taken = {}
        self.complaints = []
        opening.prepare(self.directory, Disk(), "stamp", self.complaints.append)
        self.connect()

    def connect(self):
        self.writing = opening.open_writer(self.directory)
        self.reading = schema.connect(self.directory / opening.DATABASE)
        contents = self.directory / opening.CONTENT
        claims = Claims()
        self.writer = Writer(self.writing, Disk(), contents, claims, self.committed, self.complaints.append)
        self.reader = Reader(self.reading, Recent(0), claims, self.complaints.append)

    def committed(self, changes):
        for envelope, _ in changes.stored:
            self.about[envelope.id] = envelope
        for duty, place in changes.fresh:
            self.taken[duty.envelope.id, duty.destination] = duty, place
        self.removed = {id for id, _ in changes.removed}

    def disconnect(self):
        self.reading.close()
        self.writing.close()

    def teardown(self):
        self.disconnect()
        shutil.rmtree(self.directory)

    def new(self, recipients):
        self.count += 1
        id = QueueID(f"ID{self.count}")
        octets = id.encode()
        envelope = Envelope(id, NULL_SENDER, tuple(recipients), Origin(), self.now, len(octets))
        return Store(envelope, Sealed(len(octets), (octets,)), self.now)

    def expect(self, store):
        self.waiting[store.envelope.id] = dict.fromkeys(store.envelope.recipients, (self.now, 0))

    @rule(messages=st.lists(RECIPIENTS, min_size=1, max_size=4))
    def store(self, messages):
        stores = [self.new(recipients) for recipients in messages]
        assert self.writer.perform(stores) == [None] * len(stores)
        for each in stores:
            self.expect(each)

    @rule(recipients=RECIPIENTS)
    def store_between_two_that_fail(self, recipients):
        first = self.new(recipients)
        results = self.writer.perform([first, first, self.new(()), first])
        assert [result is None for result in results] == [True, False, True, False]
        self.complaints.clear()
        self.expect(first)

    def due(self, full):
        found = {}
        for id, recipients in self.waiting.items():
            for recipient, (time, attempts) in recipients.items():
                place = id, recipient.address.domain
                if time <= self.now and place[1] not in full and place not in self.taken:
                    found.setdefault(place, {})[recipient] = attempts
        return found

    @rule(full=st.frozensets(st.sampled_from(DOMAINS), max_size=2), limit=st.integers(1, 6))
    def take(self, full, limit):
        expected = self.due(full)
        duties, left = self.reader.take(self.now, full, limit)
        assert len(duties) == min(limit, len(expected))
        rest = expected.keys() - {(duty.envelope.id, duty.destination) for duty, _ in duties}
        assert left >= {destination for _, destination in rest}
        assert left <= full or len(duties) == limit
        assert left & full == {destination for _, destination in self.due(frozenset())} & full
        if len(duties) >= len({destination for _, destination in expected}):
            assert {duty.destination for duty, _ in duties} == {destination for _, destination in expected}
        for duty, place in duties:
            key = duty.envelope.id, duty.destination
            assert duty.envelope == self.about[key[0]]
            assert {each.recipient: each.attempts for each in duty.waiting} == expected.pop(key)
            assert key not in self.taken
            self.taken[key] = duty, place

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), report=st.booleans())
    def settle(self, data, report):
        key = data.draw(st.sampled_from(sorted(self.taken)))
        duty, place = self.taken[key]
        settlements = {}
        for each in duty.waiting:
            outcome = data.draw(OUTCOMES)
            wait = data.draw(st.sampled_from([0.0, 10.0, 100.0])) if outcome is DELAYED else None
            settlements[each.recipient] = Settlement(outcome, None if wait is None else self.now + wait)
        reports = (self.new([duty.waiting[0].recipient]),) if report else ()
        job = Settle(duty, place, settlements, reports, self.now)
        assert self.writer.perform([job]) == [None]
        self.reader.forget([(duty.destination, place.message)])
        del self.taken[key]
        recipients = self.waiting[key[0]]
        for recipient, settlement in settlements.items():
            _, attempts = recipients.pop(recipient)
            if settlement.next_attempt is not None:
                recipients[recipient] = settlement.next_attempt, attempts + 1
        assert self.removed == (set() if recipients else {key[0]})
        for each in reports:
            self.expect(each)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def release(self, data):
        duty, place = self.taken.pop(data.draw(st.sampled_from(sorted(self.taken))))
        self.reader.forget([(duty.destination, place.message)])

    @rule(seconds=st.sampled_from([1.0, 50.0, -20.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def restart(self):
        self.disconnect()
        opening.prepare(self.directory, Disk(), "stamp", self.complaints.append)
        self.connect()
        self.taken.clear()

    @invariant()
    def the_earliest_is_known(self):
        times = [
            time
            for id, recipients in self.waiting.items()
            for recipient, (time, _) in recipients.items()
            if (id, recipient.address.domain) not in self.taken
        ]
        assert self.reader.next_due() == (min(times) if times else None)

    @invariant()
    def contents_are_there_exactly_as_long_as_somebody_waits(self):
        for id, recipients in self.waiting.items():
            if recipients:
                assert self.reader.content(id).octets == id.encode()
        with closing(schema.connect(self.directory / opening.DATABASE, read_only=True)) as connection:
            found = connection.execute(
                "SELECT count(DISTINCT message) FROM recipient WHERE state = 'waiting'"
            ).fetchone()
        assert found == (sum(1 for recipients in self.waiting.values() if recipients),)
        assert self.complaints == []


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=40, stateful_step_count=30)

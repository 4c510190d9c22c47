"""Duties are read many at a time, and one by one where that fails; what is at hand was whole on the disk."""

import sqlite3
from zlib import crc32

import pytest
from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailserver.interfaces import Settlement
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.spool import opening, schema
from mailserver.spool.body import Sealed
from mailserver.spool.claims import Claims
from mailserver.spool.disk import Disk
from mailserver.spool.reader import Reader
from mailserver.spool.recent import Recent
from mailserver.spool.writer import Settle, Store, Writer
from tests.support.spooling import DELAYED, DELIVERED, temporary


class Watched:
    """A connection that counts what it is asked, and breaks where it is told to."""

    def __init__(self, connection):
        self._connection = connection
        self.asked = []
        self.broken = ""

    def execute(self, statement, *arguments):
        self.asked.append(statement)
        if self.broken and self.broken in statement:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        return self._connection.execute(statement, *arguments)

    def executemany(self, statement, rows):
        self.asked.append(statement)
        return self._connection.executemany(statement, rows)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def store(id, *addresses, octets=b"\r\n"):
    recipients = tuple(Recipient(Address(*text.split("@"))) for text in addresses)
    envelope = Envelope(id, NULL_SENDER, recipients, Origin(), 1.0, len(octets))
    return Store(envelope, Sealed(len(octets), (octets,)), 1.0)


class ManyTests(SynchronousTestCase):
    def setUp(self):
        directory = temporary(self)
        self.complaints = []
        self.changes = []
        opening.prepare(directory, Disk(), "stamp", self.complaints.append)
        self.writing = Watched(opening.open_writer(directory))
        self.reading = Watched(schema.connect(directory / opening.DATABASE))
        self.recent = Recent(10_000_000)
        # Claims of its own: nobody wants what it stores, and the reader finds all of it.
        self.writer = Writer(
            self.writing, Disk(), directory, Claims(), self.changes.append, self.complaints.append
        )
        self.reader = Reader(self.reading, self.recent, Claims(), self.complaints.append)
        self.addCleanup(self.writing.close)
        self.addCleanup(self.reading.close)

    def fill(self, *stores):
        assert self.writer.perform(stores) == [None] * len(stores)

    def take(self):
        taken, _ = self.reader.take(2.0, frozenset(), 100)
        return {duty.envelope.id: (duty, place) for duty, place in taken}

    def settles(self, taken, outcome=DELIVERED, next_attempt=None):
        return [
            Settle(
                duty,
                place,
                {one.recipient: Settlement(outcome, next_attempt) for one in duty.waiting},
                (),
                3.0,
            )
            for duty, place in taken.values()
        ]

    def count(self, table):
        return self.writing.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def test_many_cost_no_more_statements_than_a_few(self):
        costs = []
        for count in (3, 60):
            self.writing.asked.clear()
            self.reading.asked.clear()
            self.fill(*(store(f"{count}-{n}", f"a{n}@x.example") for n in range(count)))
            taken = self.take()
            assert len(taken) == count
            assert self.writer.perform(self.settles(taken)) == [None] * count
            costs.append((len(self.writing.asked), len(self.reading.asked)))
        assert costs[1] <= costs[0]  # the first reads the rules, too
        assert self.count("message") == self.count("content") == self.count("recipient") == 0

    def test_one_message_for_many_is_one_duty_beside_those_for_one(self):
        self.fill(
            store("A", "a@x.example"),
            store("B", "a@x.example", "b@x.example", "c@y.example"),
            store("C", "c@x.example", octets=b"Message-ID: <c@x>\r\n\r\n"),
        )
        duties, _ = self.reader.take(2.0, frozenset(), 100)
        found = sorted(
            (duty.envelope.id, duty.destination, [one.recipient.address.local for one in duty.waiting])
            for duty, _ in duties
        )
        assert found == [
            ("A", "x.example", ["a"]),
            ("B", "x.example", ["a", "b"]),
            ("B", "y.example", ["c"]),
            ("C", "x.example", ["c"]),
        ]
        assert {duty.envelope.id: place.message_id for duty, place in duties}["C"] == "c@x"

    def test_mixed_ends_leave_what_waits_and_nothing_else(self):
        self.fill(*(store(id, f"{id}@x.example") for id in "abcd"))
        taken = self.take()
        later = self.settles({"b": taken.pop("b")}, DELAYED, 9.0)
        ended = self.settles(taken)
        assert self.writer.perform([ended[0], *later, *ended[1:], store("e", "e@x.example")]) == [None] * 5
        ids = self.writing.execute("SELECT id FROM message ORDER BY id").fetchall()
        assert ids == [("b",), ("e",)]
        assert self.count("content") == self.count("recipient") == 2
        assert sorted(story.id for story in self.changes[-1].stories) == ["a", "c", "d"]

    def test_attempts_of_before_are_in_the_story_and_removed_with_the_message(self):
        self.fill(store("A", "a@x.example"))
        first = [evolve(one, attempts=[{"host": "mx1"}]) for one in self.settles(self.take(), DELAYED, 1.5)]
        assert self.writer.perform(first) == [None]
        self.reader.forget([("x.example", first[0].taken.message)])
        self.fill(store("B", "b@x.example"))
        assert self.writer.perform(self.settles(self.take())) == [None, None]
        story = next(story for story in self.changes[-1].stories if story.id == "A")
        assert story.attempts == [{"host": "mx1"}]
        assert self.count("attempt") == 0

    def test_damage_that_breaks_the_query_for_many_holds_up_nobody(self):
        self.fill(*(store(id, f"{id}@x.example") for id in "abc"))
        self.reading.broken = "LEFT JOIN message"
        assert sorted(self.take()) == ["a", "b", "c"]

    def test_damage_where_it_is_full_holds_up_nobody(self):
        self.fill(store("A", "a@x.example"), store("B", "b@x.example"), store("C", "c@y.example"))
        taken, left = self.reader.take(2.0, frozenset({"y.example"}), 1)
        assert left == {"x.example", "y.example"}
        assert len(taken) == 1
        self.reading.broken = "SELECT message, next_attempt"
        assert self.reader.next_due() == 1.0
        taken, left = self.reader.take(2.0, frozenset({"x.example"}), 10)
        assert [duty.envelope.id for duty, _ in taken] == ["C"]
        assert left == {"x.example"}, "there may be something"
        assert "malformed" in str(self.complaints[0])

    def test_what_is_stored_and_claimed_while_a_look_begins_is_not_in_it(self):
        claims = self.writer._claims

        class Late(Claims):
            """A message is stored between the begin of the snapshot and what is done next."""

            def heed(late):
                while claims._news:
                    late._news.append(claims._news.popleft())
                super().heed()
                self.fill(store(f"Q{len(self.changes)}", "a@x.example"))

        self.reader._claims = Late()
        self.fill(store("A", "a@x.example"))
        assert self.take() == {}
        assert self.take() == {}
        assert len(self.changes) == 3

    def test_where_it_is_full_it_says_whether_something_is_due(self):
        self.fill(store("A", "a@x.example"), store("B", "b@y.example"))
        first = self.reader.take(2.0, frozenset({"y.example"}), 10)
        assert ([duty.envelope.id for duty, _ in first[0]], first[1]) == (["A"], {"y.example"})
        full = frozenset({"x.example", "y.example", "z.example"})
        assert self.reader.take(2.0, full, 10) == ([], {"y.example"})
        self.fill(store("C", "c@x.example"))
        assert self.reader.take(2.0, full, 10) == ([], {"x.example", "y.example"})
        assert self.reader.take(0.5, full, 10) == ([], frozenset())

    def test_what_a_look_took_before_it_failed_is_found_by_the_next(self):
        self.fill(store("A", "a@x.example"), store("B", "b@x.example"))
        fetch = self.reader._fetch
        self.reader._fetch = self.fail_once
        with pytest.raises(OSError, match="EIO"):
            self.take()
        self.reader._fetch = fetch
        assert set(self.take()) == {"A", "B"}

    def fail_once(self, duties):
        assert len(duties) == 2
        raise OSError("EIO")

    def test_small_contents_are_at_hand_when_a_duty_is(self):
        small, large = b"x" * 2000 + b"\r\n", b"x" * 20_000 + b"\r\n"
        self.fill(store("A", "a@x.example", octets=small), store("B", "b@x.example", octets=large))
        assert set(self.take()) == {"A", "B"}
        assert self.recent.octets("A") == small
        assert self.recent.octets("B") is None

    def test_damaged_content_is_not_at_hand(self):
        self.fill(store("A", "a@x.example"), store("B", "b@x.example"))
        self.writing.execute("UPDATE content SET octets = ? WHERE message = 1", (b"\0\0",))
        assert crc32(b"\0\0") != crc32(b"\r\n")
        self.take()
        assert self.recent.octets("A") is None
        assert self.recent.octets("B") == b"\r\n"

    def test_damage_among_contents_is_left_to_who_asks_for_one(self):
        self.fill(store("A", "a@x.example"))
        self.reading.broken = "FROM content"
        assert set(self.take()) == {"A"}
        assert self.recent.octets("A") is None

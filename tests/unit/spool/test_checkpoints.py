"""The log goes into the database while others commit, and begins anew before it is too long."""

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.spool import opening, schema
from mailserver.spool.body import Sealed
from mailserver.spool.checkpoints import Checkpoints, checkpoint
from mailserver.spool.claims import Claims
from mailserver.spool.disk import Disk
from mailserver.spool.writer import Store, Writer
from tests.support.spooling import temporary

RECIPIENTS = (Recipient(Address("bob", "x.example")),)
OCTETS = b"x" * 8000


class CheckpointTests(SynchronousTestCase):
    def setUp(self):
        self.directory = temporary(self)
        self.complaints = []
        opening.prepare(self.directory, Disk(), "stamp", self.complaints.append)
        self.writing = opening.open_writer(self.directory)
        self.copying = opening.open_checkpointer(self.directory)
        self.addCleanup(self.writing.close)
        self.addCleanup(self.copying.close)
        contents = self.directory / opening.CONTENT
        self.writer = Writer(self.writing, Disk(), contents, Claims(), lambda _: None, self.complaints.append)
        self.number = 0

    def commit(self, count=1):
        for _ in range(count):
            self.number += 1
            envelope = Envelope(f"Q{self.number}", NULL_SENDER, RECIPIENTS, Origin(), 1.0, len(OCTETS))
            assert self.writer.perform([Store(envelope, Sealed(len(OCTETS), (OCTETS,)), 1.0)]) == [None]

    def log(self):
        return self.directory.joinpath("spool.db-wal").stat().st_size // schema.PAGE

    def test_a_commit_never_copies_the_log(self):
        self.commit(2000)
        assert self.log() > 6000

    def test_all_is_copied_where_nobody_stands_in_the_way(self):
        self.commit(50)
        checkpoints = Checkpoints(self.copying, self.complaints.append, longest=10)
        assert checkpoints.perform([None, None]) == [None, None]
        assert not checkpoints.overdue
        before = self.log()
        self.commit(5)
        assert self.log() == before  # it has begun anew

    def test_what_a_snapshot_needs_stays_and_makes_it_overdue_in_the_end(self):
        reading = schema.connect(self.directory / opening.DATABASE)
        self.addCleanup(reading.close)
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM message").fetchone()
        self.commit(20)
        patient = Checkpoints(self.copying, self.complaints.append, longest=10_000)
        patient.perform([None])
        assert not patient.overdue
        strict = Checkpoints(self.copying, self.complaints.append, longest=10)
        strict.perform([None])
        assert strict.overdue

    def test_the_log_stays_bounded_under_load(self):
        """Somebody commits before each checkpoint has ended: only who commits can end it."""
        checkpoints = Checkpoints(self.copying, self.complaints.append, longest=60)
        self.writer.checkpoints = checkpoints
        longest = 0
        for _ in range(40):
            self.commit(10)
            checkpoints.overdue = checkpoint(self.copying) > 60 or self.log() > 60
            self.commit()
            longest = max(longest, self.log())
        assert self.complaints == []
        assert longest < 150

    def test_it_is_time_by_what_was_committed(self):
        checkpoints = Checkpoints(self.copying, self.complaints.append, often=100)
        told = [checkpoints.count(1, 3 * schema.PAGE) for _ in range(34)]
        assert told == ([False] * 16 + [True]) * 2

    def test_an_error_is_told_and_keeps_no_commit_from_being_made(self):
        closed = sqlite3.connect(":memory:")
        closed.close()
        checkpoints = Checkpoints(closed, self.complaints.append)
        assert checkpoints.perform([None]) == [None]
        assert len(self.complaints) == 1
        assert not checkpoints.overdue
        self.writer.checkpoints = checkpoints
        checkpoints.overdue = True
        self.commit()
        assert not checkpoints.overdue

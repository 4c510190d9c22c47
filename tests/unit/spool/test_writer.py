"""One transaction for many jobs: each is whole or not at all, and the commit is the last word."""

import sqlite3
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.spool import opening, orders
from mailserver.spool.body import Sealed
from mailserver.spool.claims import Claims
from mailserver.spool.disk import Disk
from mailserver.spool.selecting import Selection
from mailserver.spool.writer import Order, Store, Writer
from tests.support.spooling import temporary


class RefusingConnection:
    """A connection whose COMMIT fails."""

    def __init__(self, connection, error):
        self._connection = connection
        self.error = error

    def execute(self, statement, *arguments):
        if statement == "COMMIT" and self.error is not None:
            raise self.error
        return self._connection.execute(statement, *arguments)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def store(id, *locals, file=None):
    recipients = tuple(Recipient(Address(local, "x.example")) for local in locals)
    content = Sealed(2, (b"\r\n",)) if file is None else Sealed(2, file=file)
    return Store(Envelope(id, NULL_SENDER, recipients, Origin(), 1.0, 2), content, 1.0)


class WriterTests(SynchronousTestCase):
    def setUp(self):
        self.directory = temporary(self)
        self.contents = self.directory / opening.CONTENT
        self.complaints = []
        self.changes = []
        self.claims = Claims()
        opening.prepare(self.directory, Disk(), "stamp", self.complaints.append)
        self.connection = opening.open_writer(self.directory)
        self.addCleanup(self.connection.close)

    def writer(self, connection=None):
        return Writer(
            connection or self.connection,
            Disk(),
            self.contents,
            self.claims,
            self.changes.append,
            self.complaints.append,
        )

    def ids(self):
        return [id for (id,) in self.connection.execute("SELECT id FROM message ORDER BY number")]

    def test_every_commit_is_synced(self):
        assert self.connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert self.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_job_that_fails_half_way_leaves_nothing(self):
        """Its second recipient cannot be stored when its message and content already are."""
        (self.contents / "FILE").write_bytes(b"\r\n")
        jobs = [store("A", "a"), store("B", "b", "\ud800", file="FILE"), store("C", "c")]
        first, second, third = self.writer().perform(jobs)
        assert (first, third) == (None, None)
        assert isinstance(second, StorageTrouble)
        assert self.ids() == ["A", "C"]
        assert self.connection.execute("SELECT count(*) FROM recipient").fetchone() == (2,)
        assert self.connection.execute("SELECT count(*) FROM content").fetchone() == (2,)
        assert list(self.contents.iterdir()) == []
        assert [envelope.id for envelope, _ in self.changes[0].stored] == ["A", "C"]

    def test_an_order_whose_commit_fails_is_told_and_changes_nothing(self):
        """EIO at the fsync: it is not tried again, and the rules are as they were."""
        add = partial(orders.add_rule, field="domain", value="x.example", now=1.0)
        broken = RefusingConnection(self.connection, sqlite3.OperationalError("disk I/O error"))
        writer = self.writer(broken)
        (result,) = writer.perform([Order(add)])
        assert isinstance(result, StorageTrouble)
        assert orders.read_rules(self.connection) == ()
        broken.error = None
        assert writer.perform([store("A", "a"), Order(add), store("B", "b")]) == [None, 1, None]
        states = self.connection.execute("SELECT state FROM recipient ORDER BY message").fetchall()
        assert states == [("waiting",), ("held",)]

    def test_what_is_stored_is_claimed_and_renounced_where_its_commit_fails(self):
        connection = RefusingConnection(self.connection, sqlite3.OperationalError("disk I/O error"))
        writer = self.writer(connection)
        writer.perform([store("A", "a"), store("B", "b")])
        self.claims.heed()
        assert self.claims.of("x.example") == set()
        connection.error = None
        # One that fails by itself uses no number.
        results = writer.perform([store("C", "c"), store("D", "d", "\ud800"), store("E", "e")])
        assert [result is None for result in results] == [True, False, True]
        assert [duty.envelope.id for duty, _ in self.changes[0].fresh] == ["C", "E"]
        self.claims.heed()
        numbers = {number for (number,) in self.connection.execute("SELECT number FROM message")}
        assert self.claims.of("x.example") == numbers

    def test_it_is_claimed_before_anybody_can_see_it(self):
        claims, connection = self.claims, self.connection

        class Looking:
            """Looks at the claims when the transaction ends."""

            def execute(self, statement, *arguments):
                if statement == "COMMIT":
                    claims.heed()
                    self.claimed = set(claims.of("x.example"))
                return connection.execute(statement, *arguments)

            def __getattr__(self, name):
                return getattr(connection, name)

        looking = Looking()
        assert self.writer(looking).perform([store("A", "a")]) == [None]
        assert looking.claimed == {1}

    def test_what_an_order_may_be_about_is_looked_for_instead(self):
        """It was stored by the same transaction: the duty would go before the hold."""
        hold = partial(
            orders.steer, order="hold", selection=Selection(), after=(-1, -1), limit=9, now=1.0, value="why"
        )
        assert self.writer().perform([store("A", "a"), Order(hold)])[0] is None
        assert self.changes[0].fresh == []
        assert self.changes[0].due == [1]
        self.claims.heed()
        assert self.claims.of("x.example") == set()

    def test_a_commit_that_fails_fails_all_and_the_next_works(self):
        (self.contents / "FILE").write_bytes(b"\r\n")
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        connection = RefusingConnection(self.connection, full)
        writer = self.writer(connection)
        results = writer.perform([store("A", "a"), store("B", "b", file="FILE")])
        assert [type(result) for result in results] == [StorageFull, StorageFull]
        assert self.ids() == []
        assert self.changes == []
        assert list(self.contents.iterdir()) == []
        connection.error = sqlite3.OperationalError("disk I/O error")
        assert [type(result) for result in writer.perform([store("A", "a")])] == [StorageTrouble]
        connection.error = None
        assert writer.perform([store("A", "a")]) == [None]
        assert self.ids() == ["A"]

"""The layout of the database: made new, and brought up from version 1."""

import sqlite3
from contextlib import closing
from functools import partial

from mailserver.spool import orders, schema
from mailserver.spool.listing import Listing
from tests.support.spooling import SpoolTestCase

_OLD = (
    "INSERT INTO message VALUES (1, '0123456789BCDFGHJ', 1699999999.0, 'alice@example.lan', 7,"
    """ '{"origin":["192.0.2.7",4711,"pc7","ESMTP","",""]}', NULL)""",
    "INSERT INTO content VALUES (1, 1187941036, X'68656C6C6F0D0A')",
    "INSERT INTO recipient (message, number, address, original, destination, state, next_attempt)"
    " VALUES (1, 0, 'bob@example.org', '', 'example.org', 'waiting', 1699999999.0)",
    "INSERT INTO destination VALUES ('example.org', 1699999999.0)",
)


def layout(connection):
    return connection.execute("SELECT type, name, tbl_name, rootpage FROM sqlite_master").fetchall()


def make_version_1(connection):
    for statement in schema._VERSION_1.split(";\n"):
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")


def test_an_upgraded_database_has_its_tables_where_a_new_one_has_them():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        make_version_1(old)
        schema.upgrade(old)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
            schema.create(new)
            assert layout(new) == layout(old)
        schema.probe(old)
        schema.upgrade(old)  # nothing to do
        assert old.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


class UpgradeTests(SpoolTestCase):
    async def make_old(self):
        await self.spool.stop()
        database = self.directory / "spool.db"
        for path in self.directory.glob("spool.db*"):
            path.unlink()
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            make_version_1(connection)
            for statement in _OLD:
                connection.execute(statement)
        return database

    async def test_the_mail_of_a_version_1_spool_is_delivered(self):
        await self.make_old()
        self.spool = self.open()
        (duty,) = await self.take()
        assert duty.envelope.id == "0123456789BCDFGHJ"
        assert duty.envelope.origin.helo == "pc7"
        assert not list(self.directory.glob("*corrupt*"))

    async def test_what_was_ordered_outlives_a_mending(self):
        envelope = await self.store("bob@one.example", "carol@two.example", marks={"hold": "look at it"})
        await self.spool.order(partial(orders.pause, name="one.example", now=1.0))
        await self.spool.order(partial(orders.add_rule, field="domain", value="three.example", now=1.0))
        await self.spool.stop()
        with closing(sqlite3.connect(self.directory / "spool.db", isolation_level=None)) as connection:
            connection.execute("DROP INDEX destination_due")
        self.spool = self.open()
        assert len(list(self.directory.glob("spool.db.corrupt-*"))) >= 1
        with closing(schema.connect(self.directory / "spool.db", read_only=True)) as connection:
            listing = Listing(connection)
            assert {entry.hold for entry in listing.recipients(envelope.id)} == {"look at it"}
            assert listing.paused() == {"one.example": 1.0}
            assert list(listing.rules()) == [(1, "domain", "three.example", 1.0)]

    async def test_a_damaged_version_1_spool_is_mended(self):
        database = await self.make_old()
        (self.directory / "damaged").touch()
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("DROP INDEX destination_due")
        self.spool = self.open()
        (duty,) = await self.take()
        assert duty.destination == "example.org"
        assert await self.octets(duty.envelope.id) == b"hello\r\n"
        self.flushLoggedErrors()

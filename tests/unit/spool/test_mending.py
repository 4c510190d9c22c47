"""A damaged database is set aside and said, what can be read of it is saved, and the server starts."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from mailserver.interfaces import StorageTrouble
from mailserver.spool.body import SMALL
from mailserver.spool.store import SpoolUnusable
from tests.support.spooling import DELAYED, DELIVERED, SpoolTestCase

LARGE = os.urandom(SMALL + 1)
COUNT = 60


class DamageTestCase(SpoolTestCase):
    def setUp(self):
        self.said = []
        globalLogPublisher.addObserver(self.listen)
        self.addCleanup(globalLogPublisher.removeObserver, self.listen)
        super().setUp()

    def listen(self, event):
        if event.get("mail_event") == "trouble":
            self.said.append(event["mail_fields"]["what"])

    @property
    def database(self):
        return self.directory / "spool.db"

    def aside(self):
        return sorted(path.name for path in self.directory.iterdir() if ".corrupt-" in path.name)

    async def fill(self):
        """Messages of all kinds: small, large, partly delivered, delayed; their IDs and contents."""
        contents = {}
        for number in range(COUNT):
            content = LARGE if number == 3 else os.urandom(5000)
            envelope = await self.store("a@x.example", f"b@d{number}.example", content=content)
            contents[envelope.id] = content
        duties = await self.take(limit=COUNT)
        for duty in duties[:20]:
            await self.settle(duty, DELIVERED)
        for duty in duties[20:]:
            await self.settle(duty, DELAYED, self.clock.seconds() + 5)
        self.clock.advance(10)
        return contents

    async def check(self, contents, at_least):
        duties = await self.take(limit=1000)
        found = {duty.envelope.id for duty in duties}
        assert found <= set(contents)
        assert len(found) >= at_least
        for id in found:
            assert await self.octets(id) == contents[id]
        await self.store("new@x.example")
        assert len(await self.take()) == 1


class DamageAtStartTests(DamageTestCase):
    async def test_a_sound_database_is_left_alone(self):
        contents = await self.fill()
        await self.reopen()
        assert self.said == []
        assert self.aside() == []
        await self.check(contents, COUNT)

    async def start_with(self, damage, at_least):
        contents = await self.fill()
        await self.spool.stop()
        damage()
        before = self.database.read_bytes()
        self.spool = self.open()
        assert len(self.said) == 1, self.said
        assert "set aside" in self.said[0]
        aside = [name for name in self.aside() if name.startswith("spool.db.") and name.endswith("Z")]
        assert len(aside) == 1
        assert (self.directory / aside[0]).read_bytes() == before
        await self.check(contents, at_least)
        await self.reopen()
        assert len(self.said) == 1

    def overwrite(self, start, octets):
        with self.database.open("r+b") as file:
            file.seek(start)
            file.write(octets)

    async def test_not_a_database_at_all(self):
        await self.start_with(lambda: self.database.write_bytes(b"From bob\n" * 1000), 0)
        assert any(name.startswith("content.corrupt-") for name in self.aside())

    async def test_an_empty_file(self):
        await self.start_with(lambda: self.database.write_bytes(b""), 0)

    async def test_the_header_overwritten_loses_nothing(self):
        await self.start_with(lambda: self.overwrite(0, os.urandom(100)), COUNT)
        assert not any(name.startswith("content.corrupt-") for name in self.aside())

    async def test_the_first_page_overwritten_loses_nothing(self):
        await self.start_with(lambda: self.overwrite(0, bytes(4096)), COUNT)

    async def test_a_page_in_the_middle(self):
        self.pages = None

        def damage():
            pages = self.database.stat().st_size // 4096
            self.overwrite(4096 * (pages // 2), b"\xff" * 4096)

        await self.start_with(damage, COUNT // 2)

    async def test_the_second_half_cut_off(self):
        def damage():
            os.truncate(self.database, self.database.stat().st_size // 2)

        await self.start_with(damage, 0)  # what goes first is chance

    async def test_a_table_missing(self):
        def damage():
            with closing(sqlite3.connect(self.database)) as connection:
                connection.execute("DROP TABLE destination")

        await self.start_with(damage, COUNT)

    async def test_a_cut_log_starts_with_what_is_whole(self):
        contents = await self.fill()
        copy = self.directory.with_name("copy")
        shutil.copytree(self.directory, copy)  # as a crash would leave it
        log = copy / "spool.db-wal"
        os.truncate(log, log.stat().st_size // 2)
        self.directory = copy
        self.spool = self.open()
        await self.check(contents, 1)

    async def test_a_log_of_noise(self):
        contents = await self.fill()
        await self.spool.stop()
        (self.directory / "spool.db-wal").write_bytes(os.urandom(100_000))
        (self.directory / "spool.db-shm").write_bytes(os.urandom(32768))
        self.spool = self.open()
        await self.check(contents, COUNT)

    async def test_a_crash_between_the_two_renames(self):
        contents = await self.fill()
        await self.spool.stop()
        self.database.rename(self.directory / "spool.db.new")
        self.spool = self.open()
        await self.check(contents, COUNT)

    async def test_a_database_that_is_gone_leaves_its_content_aside(self):
        envelope = await self.store("a@x.example", content=LARGE)
        await self.spool.stop()
        self.database.unlink()
        self.spool = self.open()
        (aside,) = self.aside()
        assert (self.directory / aside / envelope.id).read_bytes() == LARGE
        assert self.contents() == []
        assert aside in self.said[0]

    async def test_a_first_start_says_nothing(self):
        await self.spool.stop()
        shutil.rmtree(self.directory)
        self.spool = self.open()
        assert (self.aside(), self.said) == ([], [])

    async def test_a_crash_while_the_new_one_was_filled(self):
        contents = await self.fill()
        await self.spool.stop()
        (self.directory / "spool.db.new").write_bytes(self.database.read_bytes()[:9000])
        self.overwrite(0, bytes(100))
        self.spool = self.open()
        await self.check(contents, COUNT)

    async def test_a_newer_layout_is_refused_untouched(self):
        await self.spool.stop()
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA user_version = 99")
        before = self.database.read_bytes()
        with pytest.raises(SpoolUnusable, match="newer version"):
            self.make().start()
        assert self.database.read_bytes() == before
        assert self.aside() == []

    async def test_a_directory_that_cannot_be_made_is_refused(self):
        await self.spool.stop()
        shutil.rmtree(self.directory)
        self.directory.write_bytes(b"")
        with pytest.raises(SpoolUnusable):
            self.make().start()

    async def test_litter_is_swept_and_a_missing_file_is_said(self):
        envelope = await self.store("a@x.example", content=LARGE)
        other = await self.store("a@x.example", content=LARGE)
        await self.spool.stop()
        (self.directory / "content" / "0LITTER").write_bytes(b"half a mess")
        (self.directory / "content" / envelope.id).unlink()
        self.spool = self.open()
        assert self.contents() == [other.id]
        assert len(self.said) == 1
        assert envelope.id in self.said[0]


class DamageAtRunTimeTests(DamageTestCase):
    def execute(self, statement, *arguments):
        self.spool._connections[0].execute(statement, arguments)

    async def test_a_missing_content_file_is_trouble_to_its_reader(self):
        envelope = await self.store("a@x.example", content=LARGE)
        content = await self.spool.content(envelope.id)
        (self.directory / "content" / envelope.id).unlink()
        with pytest.raises(StorageTrouble):
            await content.read(0, 10)

    async def test_a_content_file_cut_short_is_trouble_where_it_ends(self):
        envelope = await self.store("a@x.example", content=LARGE)
        os.truncate(self.directory / "content" / envelope.id, 1000)
        content = await self.spool.content(envelope.id)
        assert len(await content.read(0, 5000)) == 1000
        with pytest.raises(StorageTrouble):
            await content.read(1000, 5000)

    async def test_a_missing_small_content_is_trouble(self):
        envelope = await self.store("a@x.example")
        await self.reopen()
        self.execute("DELETE FROM content")
        with pytest.raises(StorageTrouble):
            await self.spool.content(envelope.id)
        with pytest.raises(StorageTrouble):
            await self.spool.content("NOSUCHID")

    async def test_an_unreadable_message_keeps_no_other_waiting(self):
        await self.store("a@x.example")
        good = await self.store("a@x.example")
        await self.reopen()
        self.execute("UPDATE message SET facts = '{' WHERE number = 1")
        assert [duty.envelope.id for duty in await self.take()] == [good.id]
        assert len(self.said) == 1
        assert "message number 1" in self.said[0]
        assert await self.spool.next_due() is None
        assert await self.take() == []

    async def test_a_damaged_page_is_said_and_what_can_be_served_is_served(self):
        """Met while running: trouble to callers, no crash; the next start mends."""
        contents = await self.fill()
        await self.reopen(memory=0)
        with closing(sqlite3.connect(self.database)) as connection:
            # The leaf pages that hold small contents; the tables that find them stay as they are.
            pages = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = 'content' AND pagetype = 'leaf'"
            ).fetchall()
        with self.database.open("r+b") as file:
            for (page,) in pages[: len(pages) // 2]:
                file.seek((page - 1) * 4096)
                file.write(b"\xff" * 4096)
        read = []
        for id in contents:
            try:
                assert await self.octets(id) == contents[id]
            except StorageTrouble:
                continue
            read.append(id)
        assert 0 < len(read) < COUNT
        assert self.said
        assert (self.directory / "damaged").exists()
        await self.store("new@x.example")
        del self.said[:]
        await self.reopen()
        assert "set aside" in self.said[0]
        assert not (self.directory / "damaged").exists()
        duties = await self.take(limit=1000)
        assert len({duty.envelope.id for duty in duties}) >= len(read)

    async def test_an_error_that_repeats_is_said_once_a_minute(self):
        self.execute("PRAGMA query_only = ON")
        for _ in range(3):
            storing = Deferred.fromCoroutine(self.store("a@x.example"))
            with pytest.raises(StorageTrouble):
                await storing
        assert len(self.said) == 1
        self.clock.advance(61)
        with pytest.raises(StorageTrouble):
            await self.store("a@x.example")
        assert len(self.said) == 2

"""The queue's commands without a server: what they show, and what they say when they cannot."""

import json
import secrets
import sqlite3
import time
from contextlib import closing

import pytest
from click.testing import CliRunner
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from mailserver.cli.main import main
from mailserver.cli.steering import clock, printable, since, size
from mailserver.spool.history import FILE, History
from mailserver.spool.store import Spool
from tests.support.spooling import DELAYED, FAILED, SpoolTestCase


class QueueTests(SpoolTestCase):
    def setUp(self):
        super().setUp()
        self.clock.advance(time.time() - self.clock.seconds())
        (self.directory.parent / "domains").mkdir()
        self.config = self.directory.parent / "mailserver.toml"
        self.config.write_text('hostname = "mail.example.lan"\nstate = "."\n')

    def make(self, **options):
        spool = Spool(self.directory, self.clock.seconds, reactor.callFromThread, secrets.randbits)
        spool.history = History(
            self.directory / FILE, self.clock.seconds, reactor.callFromThread, reactor.callLater, 86400.0
        )
        return spool

    async def ctl(self, *command, status=0):
        arguments = ["--config", str(self.config), *command]
        done = await deferToThread(CliRunner().invoke, main, arguments)
        assert done.exit_code == status, done.output
        return done.output

    async def fill(self):
        self.late = await self.store("bob@one.example", content=b"Message-ID: <late@client>\r\n\r\n")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, self.clock.seconds() + 600)
        self.held = await self.store("carol@two.example", marks={"hold": "too \x1b[31mfast"})
        self.gone = await self.store("dan@three.example")
        (duty,) = await self.take()
        self.spool.history(
            {"mail_event": "refused", "mail_fields": {"what": "RCPT <eve@four.example>", "client": "192.0.2.9",
             "reply": "550 5.7.1", "reason": "no relay", "rule": "m.toml:3", "sender": "<x@y.example>"}}
        )  # fmt: skip
        await self.settle(duty, FAILED)

    async def test_a_queue_of_an_older_version(self):
        await self.spool.stop()
        with closing(sqlite3.connect(self.directory / "spool.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA user_version = 1")
            connection.execute("ALTER TABLE recipient DROP COLUMN hold")
        for command in (("queue", "list"), ("queue", "summary"), ("trace", "bob@one.example")):
            assert "start the server, which converts it" in await self.ctl(*command, status=1)

    async def test_lists(self):
        assert await self.ctl("queue", "list") == "nothing is queued\n"
        await self.fill()
        head, late, held = (await self.ctl("queue", "list")).splitlines()
        assert head.split() == ["ID", "AGE", "FROM", "TO", "TRIED", "NEXT", "WHY"]
        assert late.split()[:5] == [self.late.id, "0s", "alice@example.lan", "bob@one.example", "1"]
        assert late.endswith("mx.example.org: 4.2.0 Try later")
        assert held.split()[5:] == ["held", "too", "?[31mfast"]
        more = (await self.ctl("queue", "list", "--limit", "1")).splitlines()[-1].split()
        assert more[:2] == ["More:", "--after"]
        assert self.held.id in await self.ctl("queue", "list", "--after", more[2])
        (entry,) = (await self.ctl("queue", "list", "--json", "--state", "held")).splitlines()
        assert json.loads(entry)["recipient"] == "carol@two.example"

    async def test_counts(self):
        await self.fill()
        lines = (await self.ctl("queue", "summary")).splitlines()
        assert [line.split()[:3] for line in lines[1:]] == [
            ["one.example", "1", "0"],
            ["two.example", "1", "1"],
            ["2", "domains", "2"],
        ]
        counts = [
            json.loads(line) for line in (await self.ctl("queue", "list", "--count", "--json")).splitlines()
        ]
        assert counts[0]["ages"] == {"1h": 1, "4h": 0, "1d": 0, "5d": 0, "older": 0}

    async def test_shows_one(self):
        await self.fill()
        shown = await self.ctl("queue", "show", self.late.id)
        for words in ("from alice@example.lan", "by ESMTP from 192.0.2.7 (pc7)", "late@client", "(in 9m)"):
            assert words in shown, shown
        assert "held: too ?[31mfast" in await self.ctl("queue", "show", self.held.id)
        assert "mailctl trace" in await self.ctl("queue", "show", self.gone.id, status=1)
        shown = json.loads(await self.ctl("queue", "show", "--json", self.late.id))
        assert shown["recipients"][0]["attempts"] == 1

    async def test_traces(self):
        await self.fill()
        await self.spool.stop()
        assert "next attempt: " in await self.ctl("trace", "<late@client>")
        assert "is held" in await self.ctl("trace", "carol@two.example")
        assert "<dan@three.example> failed by mx.example.org: 5.1.1" in await self.ctl("trace", self.gone.id)
        assert "refused: 192.0.2.9" in await self.ctl("trace", "eve@four.example")
        stories = (await self.ctl("trace", "--json", "alice@example.lan")).splitlines()
        assert {json.loads(line)["id"] for line in stories} == {self.late.id, self.held.id, self.gone.id}
        assert "nothing is known" in await self.ctl("trace", "nobody@five.example", status=1)

    async def test_without_a_server_nothing_is_steered(self):
        for command in (
            ("hold", "--all"),
            ("release", "X"),
            ("retry", "X"),
            ("bounce", "X"),
            ("drop", "X", "--yes"),
            ("reroute", "X", "--via", "mx.example"),
            ("edit", "X", "--from", "<>"),
            ("pause", "--all"),
            ("resume", "one.example"),
            ("rule", "add", "hold", "--domain", "one.example"),
            ("rule", "remove", "1"),
        ):
            assert "no server listens" in await self.ctl("queue", *command, status=1)

    async def test_what_makes_no_sense_is_a_usage_error(self):
        for command in (
            ("reroute", "X"),
            ("pause",),
            ("pause", "one.example", "--all"),
            ("rule", "add", "hold"),
            ("list", "--older", "long"),
        ):
            await self.ctl("queue", *command, status=2)

    async def test_there_is_no_queue(self):
        self.config.write_text('hostname = "mail.example.lan"\nstate = "elsewhere"\n')
        assert "there is no queue" in await self.ctl("queue", "list", status=1)
        assert "there is no queue" in await self.ctl("trace", "X", status=1)

    async def test_a_database_that_cannot_be_read_is_said(self):
        await self.spool.stop()
        (self.directory / "spool.db").write_bytes(b"no database" * 1000)
        assert "not a database" in await self.ctl("queue", "list", status=1)


def test_lengths_of_time():
    for seconds, expected in (
        (-5, "0s"),
        (59, "59s"),
        (60, "1m"),
        (7199, "119m"),
        (7200, "2h"),
        (200_000, "2d"),
    ):
        assert since(seconds) == expected


@pytest.mark.parametrize(("octets", "expected"), [(0, "0"), (2048, "2KB"), (1536, "1.5KB"), (5 << 30, "5GB")])
def test_sizes(octets, expected):
    assert size(octets) == expected


def test_text_from_the_wire_moves_no_cursor():
    assert printable("a\x1b[2J\r\nb") == "a?[2J??b"
    assert printable("abcdef", 4) == "abc…"


def test_another_days_time_has_its_date():
    now = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    assert clock(now + 3600, now) == "13:00:00"
    assert clock(now + 86400, now) == "2026-11-24 12:00:00"

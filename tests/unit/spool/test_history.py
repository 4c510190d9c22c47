"""What is remembered of mail that is gone, and of mail that never came."""

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface.verify import verifyObject

from mailserver import journal
from mailserver.model.envelope import Origin
from mailserver.model.exchanger import Demand, Exchanger
from mailserver.model.source import Source
from mailserver.spool import history as module
from mailserver.spool.history import FILE, Event, History, find, open_for_reading
from mailserver.spool.story import find_message_id
from tests.support.spooling import ALICE, DELAYED, DELIVERED, FAILED, SpoolTestCase

DAY = 86400.0


class HistoryTests(SpoolTestCase):
    def make(self, **options):
        self.history = History(
            self.directory / FILE, self.clock.seconds, reactor.callFromThread, reactor.callLater, 30 * DAY
        )
        spool = super().make(**options)
        spool.history = self.history
        return spool

    def find(self, word, most=20):
        connection = open_for_reading(self.directory / FILE)
        try:
            return find(connection, word, most)
        finally:
            connection.close()

    def happened(self, kind, /, **fields):
        self.history({"mail_event": kind, "mail_fields": fields})

    async def test_it_observes_the_log(self):
        verifyObject(ILogObserver, self.history)
        self.history({"log_text": "anything else"})
        await self.spool.stop()
        assert self.find("anything") == []

    async def test_what_no_text_can_hold_keeps_nobody_out(self):
        self.happened("steered", order="hold", id="x\udc80", recipients=1, detail="")
        self.happened("refused", what="RCPT <\udc80@a>", sender="")
        self.happened("steered", order="hold", id="1B2", recipients=1, detail="")
        await self.spool.stop()
        assert [len(self.find(word)) for word in ("x\udc80", "<\udc80@a>", "1b2")] == [1, 1, 1]

    async def test_a_message_that_is_delivered_at_once(self):
        content = b"Subject: x\r\nMessage-ID: <One.1@client>\r\n\r\nhello\r\n"
        envelope = await self.store("Bob@example.org", content=content)
        (duty,) = await self.take()
        self.happened("attempted", id=envelope.id, host="mx.example.org", seconds="0.5", tls="TLSv1.3")
        await self.settle(duty, DELIVERED)
        await self.spool.stop()
        for word in (envelope.id, "one.1@client", "<One.1@client>", "bob@example.org", "alice@example.lan"):
            (event,) = self.find(word)
            assert event.kind == "finished"
        facts = event.facts
        assert facts["recipients"] == [
            ["Bob@example.org", "", "delivered", self.clock.seconds(), 1, "2.0.0", "Ok", "mx.example.org"]
        ]
        assert facts["attempts"][0]["tls"] == "TLSv1.3"
        assert facts["message_id"] == "One.1@client"
        assert facts["origin"][2] == "pc7"

    async def test_a_message_that_took_several_attempts(self):
        envelope = await self.store("bob@example.org", "carol@example.net")
        for number in range(2):
            self.clock.advance(1)
            for duty in await self.take():
                self.happened("attempted", id=envelope.id, host=f"mx{number}.{duty.destination}")
                last = number or duty.destination == "example.net"
                await self.settle(duty, FAILED if last else DELAYED, None if last else self.clock.seconds())
            await self.reopen()  # it is on the disk
        await self.spool.stop()
        (event,) = self.find(envelope.id)
        hosts = [one["host"] for one in event.facts["attempts"]]
        assert sorted(hosts) == ["mx0.example.net", "mx0.example.org", "mx1.example.org"]
        assert hosts[-1] == "mx1.example.org"
        assert [(row[0], row[2], row[4]) for row in event.facts["recipients"]] == (
            [("bob@example.org", "failed", 2), ("carol@example.net", "failed", 1)]
        )

    async def test_only_the_latest_attempts_are_kept_while_it_waits(self):
        envelope = await self.store("bob@example.org")
        for number in range(40):
            (duty,) = await self.take()
            self.happened("attempted", id=envelope.id, host=str(number))
            await self.settle(duty, DELAYED, self.clock.seconds())
        (duty,) = await self.take()
        await self.settle(duty, DELIVERED)
        await self.spool.stop()
        (event,) = self.find(envelope.id)
        assert [one["host"] for one in event.facts["attempts"]] == [str(number) for number in range(10, 40)]

    async def test_refusals_are_found_by_the_addresses_in_them(self):
        self.happened(
            "refused", what="RCPT <Bob@example.org>", sender="<eve@example.net>", login="", rule="x"
        )
        await self.spool.stop()
        for word in ("bob@example.org", "<eve@example.net>"):
            assert [event.kind for event in self.find(word)] == ["refused"]

    async def test_a_flood_of_refusals_is_dropped_and_told(self):
        troubles = []
        self.patch(journal, "trouble", lambda where, what, **_: troubles.append((where, what)))
        for number in range(module._MOST_REFUSALS + 500):
            self.happened("refused", what=f"RCPT <b{number}@example.org>")
        self.happened("reported", id="X1", report="X2", kind="failed", to="<a@b>")
        while not troubles:
            await deferLater(reactor, 0.02)
        ((where, what),) = troubles
        assert where == "history"
        assert what in ("500 events dropped: they came too fast", "499 events dropped: they came too fast")
        await self.spool.stop()
        assert [event.kind for event in self.find("x2")] == ["reported"]

    async def test_what_is_old_is_swept_with_its_words(self):
        self.happened("refused", what="RCPT <old@example.org>")
        await self.reopen()
        self.clock.advance(31 * DAY)
        self.happened("refused", what="RCPT <new@example.org>")
        await self.reopen()
        assert self.find("old@example.org") == []
        assert len(self.find("new@example.org")) == 1
        connection = open_for_reading(self.directory / FILE)
        self.addCleanup(connection.close)
        assert connection.execute("SELECT count(*) FROM word").fetchone() == (1,)

    async def test_nothing_is_recorded_where_nothing_is_kept(self):
        self.history.keep = 0
        self.happened("refused", what="RCPT <old@example.org>")
        await self.spool.stop()
        assert self.find("old@example.org") == []

    async def test_a_damaged_history_is_set_aside(self):
        await self.spool.stop()
        (self.directory / FILE).write_bytes(b"no database" * 1000)
        self.spool = self.open()
        self.happened("refused", what="RCPT <bob@example.org>")
        await self.spool.stop()
        assert len(self.find("bob@example.org")) == 1
        assert len(list(self.directory.glob("history.db.corrupt-*"))) == 1

    async def test_a_history_that_cannot_be_written_keeps_no_mail_waiting(self):
        await self.spool.stop()
        (self.directory / FILE).unlink()
        (self.directory / FILE).mkdir()
        troubles = []
        self.patch(journal, "trouble", lambda where, what, **_: troubles.append(where))
        self.spool = self.open()
        await self.store("bob@example.org")
        (duty,) = await self.take()
        await self.settle(duty, DELIVERED)
        await self.spool.stop()
        assert "history" in troubles

    async def test_attempts_of_mail_that_never_settles_do_not_pile_up(self):
        self.patch(module, "_MOST_UNDER_WAY", 3)
        for number in range(5):
            self.happened("attempted", id=f"X{number}", host="mx")
        assert [bool(self.history.attempts(f"X{number}")) for number in range(5)] == [False] * 2 + [True] * 3

    async def test_an_event_has_a_bounded_number_of_words(self):
        rows = [[f"r{number}@x", "rfc822;o@x"] for number in range(1000)]
        assert len(Event(0.0, "finished", {"sender": "", "recipients": rows}).words()) == 200


class JournalTests(SpoolTestCase):
    async def test_the_journal_tells_what_is_needed(self):
        history = History(
            self.directory / FILE, self.clock.seconds, reactor.callFromThread, reactor.callLater, DAY
        )
        globalLogPublisher.addObserver(history)
        self.addCleanup(globalLogPublisher.removeObserver, history)
        history.start()
        origin = Origin("192.0.2.7", 1, "pc7")
        journal.refused(origin, "RCPT <bob@example.org>", "no relay", Source("m.toml", 3), "550 5.7.1", ALICE)
        journal.attempted("X1", Exchanger("mx", "192.0.2.1", 25), "1 delivered", 0.5, "TLSv1.3", Demand())
        journal.reported("X1", "failed", "X2", ALICE)
        journal.steered("hold", "X1", 2, "spam")
        attempts = history.attempts("X1")
        assert [(one["host"], one["tls"]) for one in attempts] == [("mx", "TLSv1.3")]
        await history.stop()
        connection = open_for_reading(self.directory / FILE)
        self.addCleanup(connection.close)
        (refused,) = find(connection, "bob@example.org", 5)
        assert refused.facts["rule"] == "m.toml:3"
        assert find(connection, str(ALICE), 5)[0].facts == refused.facts
        assert [event.kind for event in find(connection, "x1", 5)] == ["reported", "steered"]


def test_there_is_no_history_yet(tmp_path):
    assert open_for_reading(tmp_path / FILE) is None
    (tmp_path / FILE).touch()  # the server was stopped while it made it
    assert open_for_reading(tmp_path / FILE) is None


def test_the_message_id_is_found():
    for content, expected in (
        (b"Message-ID: <a@b>\r\n\r\n", "a@b"),
        (b"Subject: x\r\nMESSAGE-id:\r\n <A.1@b>\r\nTo: y\r\n\r\nbody", "A.1@b"),
        (b"Subject: x\r\nMessage-ID: <a@b>", "a@b"),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", None),
        (b"Message-ID: none\r\nTo: <x@y>\r\n\r\n", None),
        (b"Message-ID: <" + b"x" * 2000 + b">\r\n\r\n", None),
        (b"X-Message-ID: <a@b>\r\n\r\n", None),
        ("Message-ID: <ä@b>\r\n\r\n".encode(), "ä@b"),
        (b"Message-ID: <\xff@b>\r\n\r\n", "\\xff@b"),
        (b"", None),
    ):
        assert find_message_id(content) == expected, content

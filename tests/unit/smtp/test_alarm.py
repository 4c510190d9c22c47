"""The letter to postmaster when somebody sends too much."""

from twisted.trial.unittest import TestCase

from mailserver import journal
from mailserver.interfaces import StorageTrouble, Verdict
from mailserver.model.envelope import Origin
from mailserver.model.source import Source
from mailserver.smtp.alarm import Alarm
from mailserver.wire.trace import field_values
from tests.support.fakes import FakeDirectory, FakeSpool

OVER = Verdict(False, "1001 messages an hour, 1000 allowed", Source("etc/mailserver.toml", 12))


class AlarmTests(TestCase):
    def setUp(self):
        self.spool = FakeSpool()
        self.said = []
        self.patch(journal, "trouble", lambda *what, **fields: self.said.append((what[0], fields)))

    def alarm(self, *users):
        return Alarm("mail.example.lan", FakeDirectory(users), self.spool, lambda: 1_700_000_000.0)

    async def test_the_letter(self):
        await self.alarm("alice@example.lan").send(Origin(address="192.0.2.7"), OVER)
        ((envelope, content),) = self.spool.messages
        assert envelope.sender.is_null
        assert (envelope.size, envelope.body, envelope.smtputf8) == (len(content), "7BIT", False)
        header, _, body = content.partition(b"\r\n\r\n")
        assert field_values(header, "Subject") == [b"Mail is held: 192.0.2.7"]
        assert b"1001 messages an hour, 1000 allowed" in body
        assert b"etc/mailserver.toml:12" in body

    async def test_a_login_cannot_write_a_header_field(self):
        await self.alarm("alice@example.lan").send(Origin(login="a\r\nBcc: b@c\u00fc"), OVER)
        ((_, content),) = self.spool.messages
        assert field_values(content.partition(b"\r\n\r\n")[0], "Bcc") == []
        assert content.isascii()

    async def test_where_no_domain_is_hosted_nobody_is_told(self):
        await self.alarm().send(Origin(), OVER)
        assert self.spool.messages == []

    async def test_a_spool_in_trouble_is_told(self):
        self.spool.trouble = StorageTrouble("no disk")
        await self.alarm("alice@example.lan").send(Origin(), OVER)
        assert [where for where, _ in self.said] == ["alarm"]

    def test_sounding_it_says_which_rule(self):
        self.alarm("alice@example.lan").sound(Origin(address="192.0.2.7"), OVER)
        assert self.said == [("held", {"rule": OVER.source, "client": "192.0.2.7"})]
        assert len(self.spool.messages) == 1

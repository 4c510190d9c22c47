"""The letter to a user whose mailbox fills up."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailserver import journal
from mailserver.delivery.notice import QuotaNotices
from mailserver.interfaces import Account, StorageTrouble
from mailserver.wire.trace import field_values
from tests.support.fakes import FakeSpool


class NoticeTests(TestCase):
    async def send(self, account, spool):
        await QuotaNotices("mail.example.lan", spool, lambda: 1_700_000_000.0).send(account, 95)

    async def test_the_letter(self):
        spool = FakeSpool()
        await self.send(Account("jörg@example.lan", 50 * 2**20, messages=1000), spool)
        ((envelope, content),) = spool.messages
        assert envelope.sender.is_null
        assert [str(one.address) for one in envelope.recipients] == ["jörg@example.lan"]
        assert (envelope.size, envelope.body, envelope.smtputf8) == (len(content), "8BITMIME", True)
        header, _, body = content.partition(b"\r\n\r\n")
        assert field_values(header, "Subject") == [b"Your mailbox is 95 % full"]
        assert field_values(header, "Auto-Submitted") == [b"auto-generated"]
        assert b"50MB and 1000 messages" in body
        assert b"\n" not in content.replace(b"\r\n", b"")

    async def test_a_slow_spool_is_waited_for(self):
        spool = FakeSpool()
        spool.writing.shut()
        sending = Deferred.fromCoroutine(self.send(Account("a@example.lan", messages=5), spool))
        assert not spool.messages
        spool.writing.open()
        await sending
        assert spool.messages[0][0].body == "7BIT"

    async def test_a_spool_in_trouble_is_told(self):
        said = []
        self.patch(journal, "trouble", lambda *what, **fields: said.append(fields))
        spool = FakeSpool()
        spool.trouble = StorageTrouble("no disk")
        await self.send(Account("a@example.lan", 1000), spool)
        assert said == [{"account": "a@example.lan"}]

"""The courier that follows an alias: a new message, once, with a mark against loops."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.forward import ForwardCourier
from mailserver.interfaces import ICourier, StorageFull, StorageTrouble
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed
from tests.support.fakequeue import BytesContent
from tests.support.fakes import FakeDirectory, FakeSpool, address

STAFF = Recipient(address("Staff@example.lan"))
BODY = b"Subject: x\r\n\r\nHello\r\n"


class ForwardTest(TestCase):
    def setUp(self):
        targets = {"staff@example.lan": ["alice@example.lan", "bob@far.example"]}
        self.directory = FakeDirectory(["alice@example.lan"], targets)
        self.spool = FakeSpool()
        self.courier = ForwardCourier(self.directory, self.spool)

    async def deliver(self, content, recipient=STAFF):
        if isinstance(content, bytes):
            content = BytesContent(content, at_hand=False, chunk=7)
        envelope = Envelope(
            QueueID("Q9"), NULL_SENDER, (recipient,), Origin(), 5.0, size=content.size, ret="FULL"
        )
        (outcome,) = (await self.courier.deliver(envelope, content, [recipient])).values()
        return outcome

    async def test_a_new_message_to_the_targets(self):
        assert verifyObject(ICourier, self.courier)
        outcome = await self.deliver(BODY)
        assert outcome == Delivered("forwarded as Q0001", "2.1.5")
        ((envelope, content),) = self.spool.messages
        assert content == b"Delivered-To: Staff@example.lan\r\n" + BODY
        assert [str(one.address) for one in envelope.recipients] == ["alice@example.lan", "bob@far.example"]
        assert envelope.recipients[0].original == "rfc822;Staff@example.lan"
        assert (envelope.id, envelope.sender, envelope.arrived) == ("Q0001", NULL_SENDER, 5.0)
        assert envelope.size == len(content)
        assert envelope.ret == "FULL"

    async def test_who_tells_of_success(self):
        self.directory.aliases["one@example.lan"] = ("bob@far.example",)
        notify = frozenset({"SUCCESS"})
        for name, reports, expanded, passed_on in (
            ("staff@example.lan", False, True, frozenset({"NEVER"})),
            ("one@example.lan", True, False, notify),
        ):
            outcome = await self.deliver(BODY, Recipient(address(name), "", notify))
            assert (outcome.reports, outcome.expanded) == (reports, expanded)
            assert {one.notify for one in self.spool.messages[-1][0].recipients} == {passed_on}

    async def test_a_loop_fails(self):
        outcome = await self.deliver(b"Received: a\r\nDelivered-To:\r\n staff@EXAMPLE.lan\r\n" + BODY)
        assert (type(outcome), outcome.status) == (Failed, "5.4.6")
        outcome = await self.deliver(b"Received: a\r\n" * 51 + BODY)
        assert (type(outcome), outcome.status) == (Failed, "5.4.6")
        assert isinstance(await self.deliver(b"Delivered-To: other@example.lan\r\n" + BODY), Delivered)
        assert isinstance(await self.deliver(BODY + b"Delivered-To: staff@example.lan\r\n"), Delivered)

    async def test_nobody(self):
        outcome = await self.deliver(BODY, Recipient(address("gone@example.lan")))
        assert (type(outcome), outcome.status) == (Failed, "5.1.1")

    async def test_storage_trouble_delays_and_leaves_nothing(self):
        for trouble, status in ((StorageFull(), "4.3.1"), (StorageTrouble("EIO"), "4.3.0")):
            self.spool.trouble = trouble
            outcome = await self.deliver(BODY)
            assert (type(outcome), outcome.status) == (Delayed, status)
        self.spool.trouble = None
        big = b"Subject: x\r\n\r\n" + b"y" * 200_000 + b"\r\n"
        for broken in (BytesContent(big, trouble=100_000), BytesContent(big, trouble=0)):
            outcome = await self.deliver(broken)
            assert (type(outcome), outcome.status) == (Delayed, "4.3.0")
        assert self.spool.messages == []
        assert all(draft.ended for draft in self.spool.drafts)

    def test_it_waits_for_a_slow_disk(self):
        self.spool.writing.shut()
        delivering = Deferred.fromCoroutine(self.deliver(BODY))
        assert len(self.spool.drafts[0].chunks) == 1
        self.spool.writing.open()
        assert isinstance(self.successResultOf(delivering), Delivered)

    def test_cancelled_it_abandons(self):
        from twisted.internet.defer import CancelledError

        self.spool.writing.shut()
        delivering = Deferred.fromCoroutine(self.deliver(BODY))
        delivering.cancel()
        self.failureResultOf(delivering, CancelledError)
        assert self.spool.drafts[0].abandoned

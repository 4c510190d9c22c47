"""What an alias sends outside: whose sender it bears, its mark against loops, and what is left alone."""

from types import SimpleNamespace

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.outside import OutsideCourier
from mailserver.domains.senders import Senders
from mailserver.interfaces import IContent, ICourier
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from tests.support.fakequeue import BytesContent
from tests.support.fakes import FakeDirectory, address

BODY = b"Received: x\r\nSubject: x\r\n\r\nHello\r\n"
MARK = b"Delivered-To: away@example.lan\r\n"
TAKEN = Delivered("250 ok", "2.0.0", "mx")
CAROL = address("carol@home.example")


def recipient(original="", to="dave@far.example"):
    return Recipient(address(to), original)


@implementer(ICourier)
@define
class Way:
    """The courier that knows the way: takes everything and remembers it."""

    taken: list = field(factory=list)

    async def deliver(self, envelope, content, recipients):
        data = b""
        while more := await content.read(len(data), 5):
            data += more
        assert content.whole() in (None, data)
        assert content.size == envelope.size == len(data)
        assert verifyObject(IContent, content)
        self.taken.append((str(envelope.sender), data, [str(one.address) for one in recipients]))
        return dict.fromkeys(recipients, TAKEN)


class OutsideTest(TestCase):
    def setUp(self):
        self.way = Way()
        directory = FakeDirectory(["alice@example.lan"], {"away@example.lan": ["dave@far.example"]})
        self.senders = Senders(lambda: 1.7e9, b"secret")
        self.courier = OutsideCourier(self.way, directory, self.senders)

    async def deliver(self, *recipients, sender=CAROL, content=BODY):
        if isinstance(content, bytes):
            content = BytesContent(content, at_hand=False, chunk=7)
        envelope = Envelope(QueueID("Q9"), sender, recipients, Origin(), 5.0, size=content.size)
        outcomes = await self.courier.deliver(envelope, content, recipients)
        assert list(outcomes) == list(recipients)
        return list(outcomes.values())

    async def test_forwarded(self):
        assert verifyObject(ICourier, self.courier)
        assert await self.deliver(recipient("rfc822;away@example.lan")) == [TAKEN]
        ((sender, data, to),) = self.way.taken
        assert sender.startswith("SRS0=")
        assert sender.endswith("=home.example=carol@example.lan")
        assert data == MARK + BODY
        assert to == ["dave@far.example"]

    async def test_at_hand(self):
        await self.deliver(recipient("rfc822;away@example.lan"), content=BytesContent(BODY))
        assert self.way.taken[0][1] == MARK + BODY

    async def test_broken_off_between_two(self):
        """What was said of the first counts; of the other, it is known that nobody was asked."""
        asked = []

        async def deliver(envelope, content, recipients):
            asked.append(recipients)
            if len(asked) > 1:
                raise CancelledError
            return dict.fromkeys(recipients, TAKEN)

        self.courier = OutsideCourier(SimpleNamespace(deliver=deliver), self.courier.directory, self.senders)
        one, other = recipient(), recipient("rfc822;away@example.lan", "erin@far.example")
        first, second = await self.deliver(one, other)
        assert first == TAKEN
        assert (type(second), second.scope, second.status) == (Delayed, Scope.HOST, "4.3.2")
        with pytest.raises(CancelledError):
            await self.deliver(one)

    async def test_left_alone(self):
        for original in ("", "rfc822;dave@far.example", "rfc822;away@other.example", "x400;C=US", "rfc822;"):
            await self.deliver(recipient(original))
            assert self.way.taken.pop() == ("carol@home.example", BODY, ["dave@far.example"])

    async def test_kept_senders(self):
        for sender in (NULL_SENDER, address("alice@example.lan")):
            await self.deliver(recipient("rfc822;away@example.lan"), sender=sender)
            assert self.way.taken.pop()[0] == str(sender)
        self.senders.rewrites = False
        await self.deliver(recipient("rfc822;away@example.lan"))
        assert self.way.taken.pop()[:2] == ("carol@home.example", MARK + BODY)

    async def test_recipients_of_one_alias_stay_together(self):
        originals = ("rfc822;away@example.lan", "", "rfc822;away@example.lan", "")
        recipients = [recipient(original, f"{n}@far.example") for n, original in enumerate(originals)]
        await self.deliver_all(recipients)
        assert [to for _, _, to in self.way.taken] == [
            ["0@far.example", "2@far.example"],
            ["1@far.example", "3@far.example"],
        ]

    async def deliver_all(self, recipients):
        envelope = Envelope(QueueID("Q9"), CAROL, tuple(recipients), Origin(), 5.0, size=len(BODY))
        outcomes = await self.courier.deliver(envelope, BytesContent(BODY), recipients)
        assert set(outcomes) == set(recipients)

    async def test_a_loop_fails(self):
        for content in (b"Received: x\r\n" + MARK + BODY, b"Received: x\r\n" * 51 + BODY):
            (outcome,) = await self.deliver(recipient("rfc822;away@example.lan"), content=content)
            assert (type(outcome), outcome.status) == (Failed, "5.4.6")
        assert self.way.taken == []

    async def test_a_mark_of_the_forward_courier_is_no_loop_and_stands_once(self):
        assert await self.deliver(recipient("rfc822;away@example.lan"), content=MARK + BODY) == [TAKEN]
        assert self.way.taken[0][1] == MARK + BODY

    async def test_an_alias_beyond_ascii_leaves_no_mark(self):
        await self.deliver(recipient("utf-8;büro@example.lan"))
        assert self.way.taken[0][1] == BODY

    async def test_storage_trouble_delays(self):
        broken = BytesContent(BODY, trouble=0)
        (outcome,) = await self.deliver(recipient("rfc822;away@example.lan"), content=broken)
        assert (type(outcome), outcome.status) == (Delayed, "4.3.0")
        assert self.way.taken == []

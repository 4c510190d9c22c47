"""The courier to mailboxes: outcomes by trouble, one recipient's trouble is nobody else's."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.interfaces import Account, ICourier, MailboxFull, StorageFull, StorageTrouble
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from tests.support.fakes import FakeContent, FakeDirectory, address

CONTENT = FakeContent(b"Subject: x\r\n\r\nx\r\n")


class Store:
    """A mail store that raises by account."""

    def __init__(self, **troubles):
        self.troubles = troubles
        self.delivered = []
        self.pending = None

    async def deliver_copies(self, accounts, content, header):
        if self.pending is not None:
            self.pending.append(waiting := Deferred())
            await waiting
        failures = [self.troubles.get(account.name.partition("@")[0]) for account in accounts]
        for account, trouble in zip(accounts, failures, strict=True):
            if trouble is None:
                self.delivered.append((account.name, header + content.whole()))
        return failures


def recipients(*names):
    return [Recipient(address(f"{name}@example.lan")) for name in names]


def deliver(store, *names):
    directory = FakeDirectory(["alice@example.lan", "bob@example.lan", "carol@example.lan"])
    to = recipients(*names)
    envelope = Envelope(QueueID("Q1"), address("s@outside.example"), tuple(to), Origin(), 0.0)
    courier = MailboxCourier(directory, store)
    assert verifyObject(ICourier, courier)
    return Deferred.fromCoroutine(courier.deliver(envelope, CONTENT, to))


class MailboxTest(TestCase):
    async def test_the_header_on_top(self):
        store = Store()
        outcomes = await deliver(store, "Alice")
        assert outcomes == {recipients("Alice")[0]: Delivered("delivered to mailbox", "2.1.5")}
        top = b"Return-Path: <s@outside.example>\r\nDelivered-To: Alice@example.lan\r\n"
        assert store.delivered == [("alice@example.lan", top + CONTENT.data)]

    async def test_each_trouble_is_its_own_recipients(self):
        store = Store(alice=MailboxFull(), bob=RuntimeError("bug"))
        a, b, c, n = (await deliver(store, "alice", "bob", "carol", "nobody")).values()
        assert (type(a), a.status, a.scope) == (Delayed, "4.2.2", Scope.RECIPIENT)
        assert (type(b), b.status) == (Delayed, "4.3.0")
        assert isinstance(c, Delivered)
        assert (type(n), n.status) == (Failed, "5.1.1")

    async def test_a_disk_that_is_full_or_broken_delays(self):
        for trouble, status in ((StorageFull(), "4.3.1"), (StorageTrouble("EIO"), "4.3.0")):
            (outcome,) = (await deliver(Store(alice=trouble), "alice")).values()
            assert (type(outcome), outcome.status, outcome.scope) == (Delayed, status, Scope.HOST)

    async def test_several_share_one_copy_that_names_nobody(self):
        store = Store()
        outcomes = await deliver(store, "alice", "bob", "carol")
        top = b"Return-Path: <s@outside.example>\r\n"
        assert [name.partition("@")[0] for name, _ in store.delivered] == ["alice", "bob", "carol"]
        assert {text for _, text in store.delivered} == {top + CONTENT.data}
        assert {type(outcome) for outcome in outcomes.values()} == {Delivered}

    async def test_a_store_that_breaks_its_contract_delays(self):
        store = Store()
        store.deliver_copies = None
        (outcome,) = (await deliver(store, "alice")).values()
        assert (type(outcome), outcome.status) == (Delayed, "4.3.0")

    async def test_a_disabled_mailbox(self):
        directory = FakeDirectory(["alice@example.lan"])
        directory.accounts["alice@example.lan"] = Account("alice@example.lan", disabled=True)
        (alice,) = recipients("alice")
        envelope = Envelope(QueueID("Q1"), address("s@outside.example"), (alice,), Origin(), 0.0)
        outcomes = await MailboxCourier(directory, Store()).deliver(envelope, CONTENT, [alice])
        assert (type(outcomes[alice]), outcomes[alice].status) == (Failed, "5.2.1")

    def test_cancelled_it_ends(self):
        from twisted.internet.defer import CancelledError

        for names in (("alice",), ("alice", "bob")):
            store = Store()
            store.pending = []
            delivering = deliver(store, *names)
            delivering.cancel()
            self.failureResultOf(delivering, CancelledError)

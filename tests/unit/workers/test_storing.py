"""What a worker accepts is stored by its parent, and acknowledged when that says so."""

import marshal
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailserver.interfaces import Account, IContent, MailboxFull, StorageFull, StorageTrouble
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.spool.body import Sealed
from mailserver.spool.content import MemoryContent
from mailserver.workers.spelling import read_envelope, read_failure, spell_envelope, spell_failure
from mailserver.workers.storing import Storekeeper, Storing

ENVELOPE = Envelope(
    QueueID("1B"),
    Address("jürgen", "example.org"),
    (
        Recipient(Address("bob smith", "example.lan"), "rfc822;b@x", frozenset({"FAILURE", "DELAY"})),
        Recipient(Address("carol", "example.lan"), notify=frozenset()),
        Recipient(Address("dave", "example.lan")),
    ),
    Origin("2001:db8::7", 1, "[x]", "ESMTPSA", "TLSv1.3 X", "alice@example.lan"),
    1_700_000_000.25,
    7,
    "8BITMIME",
    True,
    "HDRS",
    "QQ 314159",
    True,
    {"stranger": "yes"},
)


@pytest.mark.parametrize(
    "envelope",
    [ENVELOPE, evolve(ENVELOPE, sender=NULL_SENDER, marks={}, requiretls=False), evolve(ENVELOPE, ret="")],
)
def test_an_envelope_comes_as_it_went(envelope: Envelope) -> None:
    carried = marshal.loads(marshal.dumps(spell_envelope(envelope)))
    assert read_envelope(carried) == envelope
    assert read_envelope(carried).marks == envelope.marks


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (MailboxFull(), MailboxFull, ""),
        (StorageFull("No space left"), StorageFull, "No space left"),
        (StorageTrouble("EIO"), StorageTrouble, "EIO"),
        (KeyError("x"), StorageTrouble, "KeyError: 'x'"),
    ],
)
def test_a_failure_comes_as_it_went(failure: Exception, kind: type[Exception], text: str) -> None:
    read = read_failure(marshal.loads(marshal.dumps(spell_failure(failure))))
    assert (type(read), str(read)) == (kind, text)


def test_no_failure_is_none() -> None:
    assert read_failure(spell_failure(None)) is None


class Spool:
    def __init__(self) -> None:
        self.stored: list[tuple[Envelope, Sealed]] = []
        self.answers: list[Deferred[None]] = []

    async def store(self, envelope: Envelope, content: Sealed) -> None:
        self.stored.append((envelope, content))
        self.answers.append(Deferred())
        await self.answers[-1]


class Mailboxes:
    def __init__(self) -> None:
        self.delivered: list[tuple[Sequence[Account], bytes | None, bytes]] = []
        self.result: list[Exception | None] | Exception = []

    async def deliver_copies(
        self, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> list[Exception | None]:
        self.delivered.append((accounts, content.whole(), header))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class StoringTests(SynchronousTestCase):
    """Both ends, with what they say carried at once."""

    def setUp(self) -> None:
        self.spool, self.mailboxes = Spool(), Mailboxes()
        storage: Any = SimpleNamespace(spool=self.spool, mailboxes=self.mailboxes)
        channel: Any = SimpleNamespace(say=self.to_parent)
        self.worker = Storing(channel)
        self.heard = Storekeeper(storage, self.to_worker).heard()

    def to_parent(self, kind: str, *facts: Any) -> None:
        self.heard[kind](*marshal.loads(marshal.dumps(facts)))

    def to_worker(self, kind: str, *facts: Any) -> None:
        assert kind == "stored"
        self.worker.answered(*marshal.loads(marshal.dumps(facts)))

    def store(self, content: Sealed) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.worker.store(ENVELOPE, content))

    def deliver(self, *accounts: Account) -> "Deferred[list[Exception | None]]":
        content = MemoryContent(b"x\r\n")
        return Deferred.fromCoroutine(self.worker.deliver_copies(accounts, content, b"Header: x\r\n"))

    def test_it_is_acknowledged_when_it_is_stored(self) -> None:
        storing = self.store(Sealed(6, (b"one", b"two")))
        assert self.spool.stored == [(ENVELOPE, Sealed(6, (b"onetwo",)))]
        self.assertNoResult(storing)
        self.spool.answers[0].callback(None)
        assert self.successResultOf(storing) is None

    def test_of_large_content_the_file_is_named(self) -> None:
        self.store(Sealed(300_000, file="1B", head=b"Subject: x\r\n"))
        assert self.spool.stored == [(ENVELOPE, Sealed(300_000, (), "1B", b"Subject: x\r\n"))]

    def test_answers_may_come_in_any_order(self) -> None:
        first, second = self.store(Sealed(1, (b"1",))), self.store(Sealed(1, (b"2",)))
        self.spool.answers[1].callback(None)
        self.successResultOf(second)
        self.assertNoResult(first)
        self.spool.answers[0].errback(StorageFull("No space left"))
        self.failureResultOf(first, StorageFull)

    def test_who_asked_may_be_gone(self) -> None:
        storing = self.store(Sealed(1, (b"1",)))
        storing.cancel()
        self.failureResultOf(storing)
        self.spool.answers[0].callback(None)

    def test_each_mailbox_has_its_own_answer(self) -> None:
        self.mailboxes.result = [None, MailboxFull()]
        accounts = Account("alice@example.lan"), Account("bob@example.lan", quota=7, messages=2)
        alice, bob = self.successResultOf(self.deliver(*accounts))
        assert alice is None
        assert isinstance(bob, MailboxFull)
        assert self.mailboxes.delivered == [(list(accounts), b"x\r\n", b"Header: x\r\n")]

    def test_what_goes_wrong_there_is_trouble_here(self) -> None:
        self.mailboxes.result = RuntimeError("a bug")
        (failure,) = self.successResultOf(self.deliver(Account("alice@example.lan")))
        assert isinstance(failure, StorageTrouble)
        assert "a bug" in str(failure)
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    def test_without_a_parent_nothing_is_stored(self) -> None:
        before = self.store(Sealed(1, (b"1",)))
        self.worker.parted()
        after = self.store(Sealed(1, (b"2",)))
        for storing in (before, after):
            self.failureResultOf(storing, StorageTrouble)
        assert len(self.spool.stored) == 1

    def test_the_end_waits_for_what_was_handed_over(self) -> None:
        assert self.successResultOf(Deferred.fromCoroutine(self.worker.settle())) is None
        storing = self.store(Sealed(1, (b"1",)))
        failing = self.store(Sealed(1, (b"1",)))
        settled = Deferred.fromCoroutine(self.worker.settle())
        self.spool.answers[0].callback(None)
        self.assertNoResult(settled)
        self.spool.answers[1].errback(StorageTrouble("EIO"))
        self.successResultOf(settled)
        self.successResultOf(storing)
        self.failureResultOf(failing, StorageTrouble)

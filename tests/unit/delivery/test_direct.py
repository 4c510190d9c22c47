"""Direct delivery: what is delivered before the 250, what is queued instead, and what the sender is told."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.direct import LARGEST, Direct
from mailserver.interfaces import (
    Account,
    IDraft,
    ISpool,
    MailboxFull,
    StorageFull,
    StorageTrouble,
    Undelivered,
)
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.model.outcome import Delivered
from mailserver.spool.story import Story
from tests.support.fakes import FakeDirectory, FakeSpool, address

TEXT = b"Message-ID: <1@x.example>\r\n\r\ntext\r\n"
SENDER = address("s@outside.example")
DELIVERED = Delivered("delivered to mailbox", "2.1.5")


class Store:
    """A mail store with troubles by account, which may be asked to wait."""

    def __init__(self) -> None:
        self.troubles: dict[str, Exception] = {}
        self.mail: list[tuple[str, bytes]] = []
        self.in_pairs: list[bool] = []
        self.waiting: Deferred[None] | None = None

    async def deliver_copies(self, accounts: Sequence[Account], content: Any, header: bytes) -> list[Any]:
        if self.waiting is not None:
            await self.waiting
        failures = [self.troubles.get(account.name.partition("@")[0]) for account in accounts]
        for account, failure in zip(accounts, failures, strict=True):
            if failure is None:
                self.mail.append((account.name, header + content.whole()))
                self.in_pairs.append(content.is_in_pairs)
        return failures


class House:
    """Everything around a :class:`Direct`."""

    def __init__(self) -> None:
        users = ["alice@example.lan", "bob@example.lan", "carol@example.lan", "dora@other.lan"]
        self.directory = FakeDirectory(users, {"staff@example.lan": ["alice@example.lan"]})
        self.spool, self.store = FakeSpool(), Store()
        self.stories: list[Story] = []
        courier: Any = MailboxCourier(self.directory, self.store)  # type: ignore[arg-type]
        self.direct = Direct(self.spool, self.directory, courier, self.stories.extend, lambda: 5.0)

    def begin(self, *to: Recipient | str, text: bytes = TEXT) -> tuple[IDraft, Envelope]:
        recipients = tuple(one if isinstance(one, Recipient) else Recipient(address(one)) for one in to)
        draft = self.direct.draft(SENDER, recipients)
        draft.write(text)
        return draft, Envelope(draft.id, SENDER, recipients, Origin("192.0.2.7"), 4.0, len(text))

    def send(self, *to: Recipient | str, text: bytes = TEXT, **changes: Any) -> "Deferred[Any]":
        draft, envelope = self.begin(*to, text=text)
        return Deferred.fromCoroutine(draft.commit(evolve(envelope, **changes)))

    @property
    def queued(self) -> list[str]:
        return [str(one.address) for envelope, _ in self.spool.messages for one in envelope.recipients]


@pytest.fixture
def house() -> House:
    return House()


def now(waiting: "Deferred[Any]") -> Any:
    """What a Deferred that has fired holds, or raises."""
    results: list[Any] = []
    _ = waiting.addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def test_interfaces(house: House) -> None:
    assert verifyObject(ISpool, house.direct)
    assert verifyObject(IDraft, house.direct.draft(SENDER, [Recipient(address("alice@example.lan"))]))


def test_a_message_is_in_its_mailbox_and_not_in_the_queue(house: House) -> None:
    alice = Recipient(address("Alice@example.lan"))
    assert now(house.send(alice)) == {alice: DELIVERED}
    top = b"Return-Path: <s@outside.example>\r\nDelivered-To: Alice@example.lan\r\n"
    assert house.store.mail == [("alice@example.lan", top + TEXT)]
    assert house.store.in_pairs == [True]  # a session has seen to that
    assert not house.spool.messages
    assert house.spool.drafts[0].abandoned


def test_its_story_is_told_as_the_queue_would(house: House) -> None:
    now(house.send(Recipient(address("alice@example.lan"), "rfc822;staff@example.lan")))
    (story,) = house.stories
    assert story.message_id == "1@x.example"
    facts = story.facts()
    assert (facts["id"], facts["arrived"], facts["sender"]) == ("Q0001", 4.0, "s@outside.example")
    assert facts["recipients"] == [
        [
            "alice@example.lan",
            "rfc822;staff@example.lan",
            "delivered",
            5.0,
            1,
            "2.1.5",
            "delivered to mailbox",
            "",
        ]
    ]


def test_copies_of_two_domains_are_told_apart_as_in_the_queue(house: House) -> None:
    assert len(now(house.send("alice@example.lan", "dora@other.lan", "bob@example.lan"))) == 3
    shared = b"Return-Path: <s@outside.example>\r\n"
    assert sorted(house.store.mail) == [
        ("alice@example.lan", shared + TEXT),
        ("bob@example.lan", shared + TEXT),
        ("dora@other.lan", shared + b"Delivered-To: dora@other.lan\r\n" + TEXT),
    ]


def test_a_report_is_delivered_directly_too(house: House) -> None:
    now(house.send("alice@example.lan", sender=NULL_SENDER))
    assert house.store.mail[0][1].startswith(b"Return-Path: <>\r\n")


ALICE = Recipient(address("alice@example.lan"))


@pytest.mark.parametrize(
    "to",
    [
        ["away@elsewhere.example"],
        ["alice@example.lan", "away@elsewhere.example"],
        ["staff@example.lan"],
        [evolve(ALICE, notify=frozenset({"SUCCESS", "FAILURE"}))],
    ],
)
def test_what_is_queued_as_ever(house: House, to: list[Any]) -> None:
    assert now(house.send(*to)) == {}
    assert len(house.queued) == len(to)
    assert house.spool.messages[0][1] == TEXT
    assert not house.store.mail
    assert not house.stories


def test_what_is_to_wait_waits(house: House) -> None:
    house.spool.detaining = True
    now(house.send("alice@example.lan"))
    assert house.queued == ["alice@example.lan"]
    assert house.direct.detains(house.spool.messages[0][0])


def test_notify_without_success_is_no_hindrance(house: House) -> None:
    now(house.send(evolve(ALICE, notify=frozenset({"NEVER"}))))
    assert len(house.store.mail) == 1


def test_what_is_large_goes_to_the_spool_while_it_comes(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan", text=b"x" * LARGEST)
    assert not house.spool.drafts[0].chunks
    house.spool.writing.shut()
    assert draft.write(b"y") is not None  # the disk does not keep up, and the sender is to wait
    assert draft.write(b"z") is not None
    now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert house.spool.messages[0][1] == b"x" * LARGEST + b"yz"
    assert not house.store.mail


def test_the_last_octet_that_is_kept_in_memory(house: House) -> None:
    now(house.send("alice@example.lan", text=b"x" * LARGEST))
    assert len(house.store.mail) == 1


@pytest.mark.parametrize(
    ("troubles", "status"),
    [
        ({"alice": MailboxFull()}, "4.2.2"),
        ({"alice": StorageFull()}, "4.3.1"),
        ({"alice": StorageTrouble("EACCES")}, "4.3.0"),
        ({"alice": RuntimeError("stopped")}, "4.3.0"),
        ({"alice": MailboxFull(), "bob": StorageFull()}, "4.2.2"),
    ],
)
def test_who_cannot_get_it_is_told_to_the_sender(
    house: House, troubles: dict[str, Exception], status: str
) -> None:
    house.store.troubles = troubles
    with pytest.raises(Undelivered) as told:
        now(house.send(*(f"{name}@example.lan" for name in troubles)))
    assert told.value.outcome.status == status
    assert house.spool.drafts[0].abandoned
    assert not house.spool.messages
    assert not house.stories


def test_a_recipient_who_vanished_since_rcpt(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan")
    del house.directory.accounts["alice@example.lan"]
    with pytest.raises(Undelivered) as told:
        now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert told.value.outcome.status == "5.1.1"


def test_a_recipient_who_was_disabled_since_rcpt(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan")
    house.directory.accounts["alice@example.lan"] = Account("alice@example.lan", disabled=True)
    with pytest.raises(Undelivered) as told:
        now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert told.value.outcome.status == "5.2.1"


def test_a_trouble_that_may_pass_is_told_before_one_that_stays(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan", "bob@example.lan")
    del house.directory.accounts["alice@example.lan"]
    house.store.troubles = {"bob": MailboxFull()}
    with pytest.raises(Undelivered) as told:
        now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert told.value.outcome.status == "4.2.2"


def test_a_recipient_who_became_an_alias_since_rcpt(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan")
    house.directory.aliases["alice@example.lan"] = ("away@elsewhere.example",)
    now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert house.queued == ["alice@example.lan"]


def test_a_mailbox_whose_mail_a_route_leads_away(house: House) -> None:
    house.directory.accounts["alice@example.lan"] = Account("alice@example.lan", routed=True)
    now(house.send("alice@example.lan"))
    assert house.queued == ["alice@example.lan"]


def test_the_others_are_queued(house: House) -> None:
    house.store.troubles = {"bob": MailboxFull()}
    draft, envelope = house.begin("alice@example.lan", "bob@example.lan", "carol@example.lan")
    del house.directory.accounts["carol@example.lan"]
    assert now(Deferred.fromCoroutine(draft.commit(envelope))) == {ALICE: DELIVERED}
    assert house.queued == ["bob@example.lan", "carol@example.lan"]
    assert house.spool.messages[0][0].id == envelope.id
    assert house.spool.messages[0][1] == TEXT
    assert [one[0] for one in house.stories[0].ended] == ["alice@example.lan"]


def test_the_others_cannot_be_queued(house: House) -> None:
    house.store.troubles = {"bob": MailboxFull()}
    house.spool.trouble = StorageFull("no room")
    with pytest.raises(StorageFull):
        now(house.send("alice@example.lan", "bob@example.lan"))
    assert len(house.store.mail) == 1
    assert not house.stories


def test_nothing_is_said_before_all_copies_are_durable(house: House) -> None:
    house.store.waiting = Deferred()
    said: list[Any] = []
    _ = house.send("alice@example.lan").addCallback(said.append)
    assert not said
    house.store.waiting.callback(None)
    assert said


def test_abandoned(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan")
    draft.abandon()
    draft.abandon()
    assert house.spool.drafts[0].abandoned
    with pytest.raises(ValueError, match="once"):
        now(Deferred.fromCoroutine(draft.commit(envelope)))
    assert not house.store.mail


def test_abandoned_while_it_is_committed_it_is_delivered(house: House) -> None:
    house.store.waiting = Deferred()
    draft, envelope = house.begin("alice@example.lan")
    committing = Deferred.fromCoroutine(draft.commit(envelope))
    draft.abandon()
    house.store.waiting.callback(None)
    assert now(committing) == {ALICE: DELIVERED}


def test_committed_under_its_own_id(house: House) -> None:
    draft, envelope = house.begin("alice@example.lan")
    with pytest.raises(ValueError, match="own ID"):
        now(Deferred.fromCoroutine(draft.commit(evolve(envelope, id="Q9"))))

"""The reception: who is let in, what is stored of it, and what is said at the end of the data."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory, IMessageSMTP
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailserver import journal
from mailserver.access.networks import Networks
from mailserver.access.profiles import anywhere
from mailserver.interfaces import StorageFull, StorageTrouble, Undelivered
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.model.reply import (
    BAD_CONTENT_554,
    HEADER_TOO_BIG_552,
    NO_SPACE_452,
    NO_SUCH_USER_550,
    RELAYING_DENIED_550,
    TOO_BIG_552,
    TOO_MANY_HOPS_554,
    TOO_MANY_RECIPIENTS_452,
    TROUBLE_451,
    Reply,
)
from mailserver.model.source import Source
from mailserver.smtp.heading import Heading
from mailserver.smtp.message import Limits, Message
from mailserver.smtp.reception import Reception, Refused, Rules
from mailserver.wire.smtp import MailParameters, RcptParameters
from tests.support.fakes import address
from tests.support.reception import ARRIVAL, LAN, Premises

STRANGER = Origin("192.0.2.99", 40000, "client.example", "ESMTP")
NEIGHBOUR = Origin("192.168.1.7", 40000, "printer", "SMTP")


@pytest.fixture
def premises() -> Premises:
    return Premises()


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    seen: list[tuple[str, dict[str, Any]]] = []

    def observe(event: dict[str, Any]) -> None:
        if "mail_event" in event:
            seen.append((event["mail_event"], event["mail_fields"]))

    monkeypatch.setattr(journal, "_log", Logger(observer=observe))
    return seen


def begin(premises: Premises, origin: Origin = STRANGER, sender: str = "") -> Reception:
    reception = premises.office.getMessageDelivery()
    assert reception.validateFrom(origin, address(sender)) is None
    return reception


def begun(premises: Premises, *recipients: str) -> Message:
    reception = begin(premises)
    for recipient in recipients or ("alice@example.lan",):
        reception.validateTo(address(recipient))
    return reception.message()


def refusal(reception: Reception, recipient: str) -> Reply:
    with pytest.raises(Refused) as refused:
        reception.validateTo(address(recipient))
    return refused.value.reply


def answer(message: Message) -> Reply:
    return SynchronousTestCase().successResultOf(message.eomReceived())


def test_interfaces(premises: Premises) -> None:
    assert verifyObject(IMessageDeliveryFactory, premises.office)
    assert verifyObject(IMessageDelivery, begin(premises))
    assert verifyObject(IMessageSMTP, begun(premises))


def test_refusals_are_in_the_journal_with_their_rule(premises: Premises, events: list[Any]) -> None:
    reception = begin(premises)
    assert refusal(reception, "friend@elsewhere.example") == RELAYING_DENIED_550
    assert refusal(reception, "nobody@example.lan") == NO_SUCH_USER_550
    (first, one), (second, two) = events
    assert (first, second) == ("refused", "refused")
    assert one["what"] == "RCPT <friend@elsewhere.example>"
    assert (one["client"], one["helo"], one["reply"]) == ("192.0.2.99", "client.example", "550 5.7.1")
    assert two["rule"] == Source("domains/example.lan")
    assert two["reply"] == "550 5.1.1"


def test_the_network_decides_about_the_outside(premises: Premises) -> None:
    reception = begin(premises, NEIGHBOUR)
    reception.validateTo(address("friend@elsewhere.example"))
    assert refusal(reception, "nobody@example.lan") == NO_SUCH_USER_550
    assert reception.recipients == (Recipient(address("friend@elsewhere.example")),)


def test_a_login_may_send_anywhere(premises: Premises) -> None:
    reception = begin(premises, Origin("192.0.2.99", login="alice@example.lan"))
    reception.validateTo(address("friend@elsewhere.example"))


def test_rules_are_those_of_the_beginning_of_the_transaction(premises: Premises) -> None:
    old = begin(premises, NEIGHBOUR)
    premises.office.rules = Rules(Networks(anywhere([(ip_network("192.0.2.0/24"), LAN)])), Limits(10, 1))
    old.validateTo(address("friend@elsewhere.example"))
    old.validateTo(address("other@elsewhere.example"))
    new = begin(premises, NEIGHBOUR)
    assert refusal(new, "friend@elsewhere.example") == RELAYING_DENIED_550
    begin(premises, STRANGER).validateTo(address("friend@elsewhere.example"))


def test_size_announced(premises: Premises, events: list[Any]) -> None:
    reception = premises.office.getMessageDelivery()
    reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(size=4096))
    with pytest.raises(Refused) as refused:
        reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(size=4097))
    assert refused.value.reply == TOO_BIG_552
    assert events[0][1]["reason"] == "4097 octets announced, 4096 allowed"


def test_too_many_recipients_counts_commands() -> None:
    premises = Premises({"recipients": "2"})
    reception = begin(premises)
    reception.validateTo(address("everybody@example.lan"))
    reception.validateTo(address("alice@example.lan"))
    assert refusal(reception, "bob@example.lan") == TOO_MANY_RECIPIENTS_452
    assert len(reception.recipients) == 3


def test_refused_recipients_do_not_count_as_accepted(premises: Premises) -> None:
    reception = begin(premises)
    assert not reception.hasRecipients
    refusal(reception, "nobody@example.lan")
    assert not reception.hasRecipients


def test_each_final_recipient_once(premises: Premises) -> None:
    reception = begin(premises, NEIGHBOUR)
    names = [
        "Alice@example.lan",
        "staff@example.lan",
        "alice@example.lan",
        "A@out.example",
        "a@out.example",
        "A@out.example",
    ]
    for name in names:
        reception.validateTo(address(name))
    assert [str(recipient.address) for recipient in reception.recipients] == [
        "Alice@example.lan",
        "bob@example.lan",
        "A@out.example",
        "a@out.example",
    ]
    assert reception.recipients[1].original == "rfc822;staff@example.lan"


def test_parameters_reach_the_envelope(premises: Premises) -> None:
    reception = premises.office.getMessageDelivery()
    parameters = MailParameters(body="8BITMIME", smtputf8=True, ret="HDRS", envid="e1")
    reception.validateFrom(STRANGER, address("a@b.example"), parameters)
    reception.validateTo(address("alice@example.lan"), RcptParameters(frozenset({"NEVER"}), "rfc822;x@y"))
    message = reception.message()
    message.write(b"x\r\n")
    assert answer(message).code == 250
    envelope, content = premises.spool.messages[0]
    assert envelope == Envelope(
        id=premises.spool.drafts[0].id,
        sender=address("a@b.example"),
        recipients=(Recipient(address("alice@example.lan"), "rfc822;x@y", frozenset({"NEVER"})),),
        origin=STRANGER,
        arrived=ARRIVAL,
        size=len(content),
        body="8BITMIME",
        smtputf8=True,
        ret="HDRS",
        envid="e1",
    )


@pytest.mark.parametrize("words", ["SUCCESS", "SUCCESS FAILURE"])
def test_an_alias_that_is_to_report_success_is_expanded_in_the_queue(premises: Premises, words: str) -> None:
    premises.directory.aliases["team@example.lan"] = ("alice@example.lan", "bob@example.lan")
    notify = frozenset(words.split())
    reception = begin(premises, sender="a@b.example")
    reception.validateTo(address("team@example.lan"), RcptParameters(notify))
    assert reception.recipients == (Recipient(address("team@example.lan"), "", notify),)


def test_a_single_target_reports_itself(premises: Premises) -> None:
    premises.directory.aliases["away@example.lan"] = ("dave@far.example",)
    reception = begin(premises, sender="a@b.example")
    reception.validateTo(address("away@example.lan"), RcptParameters(frozenset({"SUCCESS"})))
    (recipient,) = reception.recipients
    assert (recipient.address, recipient.notify) == (address("dave@far.example"), frozenset({"SUCCESS"}))


@pytest.mark.parametrize(
    ("origin", "marks"),
    [
        (STRANGER, {"stranger": "yes"}),
        (NEIGHBOUR, {}),
        (Origin("192.0.2.99", login="alice@example.lan"), {}),
    ],
)
def test_strangers_are_marked(premises: Premises, origin: Origin, marks: dict[str, str]) -> None:
    reception = begin(premises, origin, "alice@example.lan")
    reception.validateTo(address("alice@example.lan"))
    message = reception.message()
    message.write(b"From: alice@example.lan\r\n\r\nx\r\n")
    assert answer(message).code == 250
    assert premises.spool.messages[0][0].marks == marks


def test_received_names_the_only_recipient_as_the_client_did(premises: Premises) -> None:
    message = begun(premises, "everybody@example.lan")
    answer(message)
    several = begun(premises, "alice@example.lan", "bob@example.lan")
    answer(several)
    one = begun(premises, "Alice@example.lan")
    answer(one)
    headers = [content.decode() for _, content in premises.spool.messages]
    assert [" for " in header or "\tfor " in header for header in headers] == [False, False, True]
    assert "\tfor <Alice@example.lan>;" in headers[2]
    assert "by mail.example.lan with ESMTP id Q0003" in headers[2]


def test_one_draft_however_many_recipients(premises: Premises, events: list[Any]) -> None:
    message = begun(premises, "alice@example.lan", "bob@example.lan", "carol@example.lan")
    message.lineReceived(b"Subject: x")
    message.write(b"\r\ntext\r\n")
    reply = answer(message)
    assert reply == Reply(250, "2.0.0", "Ok: queued as Q0001")
    assert len(premises.spool.drafts) == 1
    assert premises.spool.messages[0][1].endswith(b"\r\nSubject: x\r\n\r\ntext\r\n")
    assert [event for event, _ in events] == ["accepted"]


def test_the_header_and_what_comes_with_its_end_are_one_write(premises: Premises) -> None:
    message = begun(premises)
    message.write(b"Subject: one\r\n")
    message.write(b"\r\ntwo\r\n")
    message.write(b"three\r\n")
    assert len(premises.spool.drafts[0].chunks) == 2


@pytest.mark.parametrize(
    ("trouble", "reply"),
    [(StorageFull("x"), NO_SPACE_452), (StorageTrouble("x"), TROUBLE_451)],
)
def test_storage_trouble(premises: Premises, events: list[Any], trouble: Exception, reply: Reply) -> None:
    premises.spool.trouble = trouble
    assert answer(begun(premises)) == reply
    assert [event for event, _ in events] == ["trouble"]


class TestUnexpected(SynchronousTestCase):
    def test_a_bug_is_answered_and_logged(self) -> None:
        premises = Premises()
        premises.spool.trouble = ZeroDivisionError("a bug")
        assert self.successResultOf(begun(premises).eomReceived()) == TROUBLE_451
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert premises.spool.drafts[0].abandoned


def test_too_big_drops_the_draft_at_once_and_tells_at_the_end(premises: Premises, events: list[Any]) -> None:
    message = begun(premises)
    message.write(b"x" * 4096)
    assert not premises.spool.drafts[0].abandoned
    message.write(b"y")
    assert premises.spool.drafts[0].abandoned
    message.write(b"z" * 10000)
    assert answer(message) == TOO_BIG_552
    assert events[0][1]["what"] == "DATA from <>"
    assert events[0][1]["reason"] == "14097 octets, 4096 allowed"


def test_bad_content_comes_before_too_big(premises: Premises) -> None:
    message = begun(premises)
    message.write(b"x" * 5000)
    message.spoil()
    assert answer(message) == BAD_CONTENT_554


def test_hops(premises: Premises) -> None:
    for count, reply in ((50, 250), (51, TOO_MANY_HOPS_554.code)):
        message = begun(premises)
        message.write(b"Received: x\r\n" * count + b"\r\n")
        assert answer(message).code == reply
    assert len(premises.spool.messages) == 1


def test_connection_lost_leaves_nothing(premises: Premises) -> None:
    message = begun(premises)
    message.write(b"half")
    message.connectionLost()
    message.connectionLost()
    assert premises.spool.drafts[0].abandoned
    assert answer(message) == TROUBLE_451
    assert not premises.spool.messages


def test_the_commit_goes_on_without_the_client(premises: Premises) -> None:
    premises.spool.committing.shut()
    message = begun(premises)
    answered: Deferred[Reply] = message.eomReceived()
    message.connectionLost()
    assert not answered.called
    premises.spool.committing.open()
    assert answered.called
    assert len(premises.spool.messages) == 1
    assert not premises.spool.drafts[0].abandoned


def test_writing_waits_for_the_disk(premises: Premises) -> None:
    message = begun(premises)
    premises.spool.writing.shut()
    assert message.write(b"Subject: x\r\n") is None
    assert message.write(b"\r\nx") is not None


def test_header_too_big(premises: Premises) -> None:
    premises.office.rules = evolve(premises.office.rules, limits=Limits(10_000, 10, header=1000))
    for octets, code in ((1000, 250), (1001, 552)):
        message = begun(premises)
        message.write(b"A: " + b"x" * (octets - 7) + b"\r\n\r\n" + b"text\r\n" * 100)
        reply = answer(message)
        assert reply.code == code
    assert reply == HEADER_TOO_BIG_552
    assert premises.spool.drafts[1].abandoned


def test_trouble_with_a_header_is_no_silence(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Heading, "rewrite", fail)
    for header in (b"A: b\r\n", b"A: b\r\n\r\n"):
        message = begun(premises)
        message.write(header)
        assert answer(message) == TROUBLE_451
    assert all(draft.abandoned for draft in premises.spool.drafts)


def test_the_disk_keeps_a_reserve(premises: Premises, events: list[Any]) -> None:
    premises.office.rules = evolve(premises.office.rules, reserve=1000)
    for free, size, refused in (
        (None, 4000, False),
        (5000, 4000, False),
        (4999, 4000, True),
        (1000, None, False),
        (999, None, True),
    ):
        premises.office.free = lambda free=free: free
        premises.office.look_at_disk = lambda free=free: succeed(free)
        reception = premises.office.getMessageDelivery()
        if refused:
            waiting = reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(size=size))
            with pytest.raises(Refused) as caught:
                waiting.send(None)
            assert caught.value.reply == NO_SPACE_452
        else:
            assert reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(size=size)) is None
    assert [fields["reason"] for event, fields in events if event == "refused"] == [
        "4999 octets free, 4000 announced, 1000 in reserve",
        "999 octets free, 0 announced, 1000 in reserve",
    ]


def test_room_that_was_made_a_moment_ago_counts(premises: Premises) -> None:
    premises.office.rules = evolve(premises.office.rules, reserve=1000)
    premises.office.free = lambda: 0
    premises.office.look_at_disk = lambda: succeed(5000)
    reception = premises.office.getMessageDelivery()
    waiting = reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(size=10))
    with pytest.raises(StopIteration):
        waiting.send(None)


@pytest.mark.parametrize(
    ("hide", "login", "shown"), [(True, "a", False), (True, "", True), (False, "a", True)]
)
def test_received_hides_who_has_logged_in(premises: Premises, hide: bool, login: str, shown: bool) -> None:
    premises.office.rules = evolve(premises.office.rules, hide_client=hide)
    reception = premises.office.getMessageDelivery()
    header = reception.receivedHeader(evolve(NEIGHBOUR, login=login), NULL_SENDER, ())
    assert (b"192.168.1.7" in header, b"printer" in header) == (shown, shown)
    assert b"by mail.example.lan with SMTP id" in header


def test_requiretls_is_in_the_envelope(premises: Premises) -> None:
    reception = premises.office.getMessageDelivery()
    reception.validateFrom(STRANGER, NULL_SENDER, MailParameters(requiretls=True))
    reception.validateTo(address("alice@example.lan"))
    assert answer(reception.message()).code == 250
    assert premises.spool.messages[0][0].requiretls


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Delayed(Scope.RECIPIENT, "mailbox full", "4.2.2"), 452),
        (Delayed(Scope.HOST, "no space", "4.3.1"), 452),
        (Delayed(Scope.HOST, "trouble", "4.3.0"), 451),
        (Failed(Scope.RECIPIENT, "no such user here", "5.1.1"), 550),
        (Failed(Scope.RECIPIENT, "mailbox disabled", "5.2.1"), 550),
    ],
)
def test_what_no_mailbox_takes_is_refused(
    premises: Premises, events: list[Any], outcome: Delayed | Failed, code: int
) -> None:
    premises.spool.trouble = Undelivered(outcome)
    message = begun(premises)
    message.write(b"\r\n")
    reply = answer(message)
    assert (reply.code, reply.status) == (code, outcome.status)
    ((event, fields),) = events
    assert (event, fields["reason"]) == ("refused", outcome.reply)


def test_the_journal_tells_of_what_is_delivered_already(premises: Premises, events: list[Any]) -> None:
    alice = Recipient(address("alice@example.lan"))
    premises.spool.delivered = {alice: Delivered("delivered to mailbox", "2.1.5")}
    for others in ((), ("bob@example.lan",)):
        message = begun(premises, "alice@example.lan", *others)
        message.write(b"\r\n")
        assert answer(message).code == 250
    assert [event for event, _ in events] == ["accepted", "delivered", "removed", "accepted", "delivered"]

"""When a report is owed, as a table; and the report as a message."""

import email

import pytest
from zope.interface.verify import verifyObject

from mailserver.delivery.bounce import STRANGER, ReportWriter, news, owed, warned
from mailserver.delivery.settling import settlement
from mailserver.interfaces import Duty, IReport, Settlement, Waiting
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.model.retry import Schedule
from mailserver.wire.report import Kind, Original

SCHEDULE = Schedule((60.0, 300.0), lifetime=5000.0, warn_after=1000.0)
FAILED = Failed(Scope.RECIPIENT, "no such user", "5.1.1", "mx.example", 550)
DELAYED = Delayed(Scope.HOST, "connection refused", "4.4.1", "mx.example")
DELIVERED = Delivered("delivered to mailbox")
ALICE = Address("alice", "example.lan")


def recipient(name="bob", **more):
    return Recipient(Address(name, "outside.example"), **more)


def envelope(*recipients, sender=ALICE, ret="", origin=Origin(), marks=()):  # noqa: B008 - frozen
    return Envelope(
        QueueID("Q1"), sender, recipients, origin, 0.0, ret=ret, marks=dict.fromkeys(marks, "yes")
    )


def words(text):
    return None if text is None else frozenset(text.split())


@pytest.mark.parametrize(
    ("outcome", "notify", "now", "expected"),
    [
        (FAILED, None, 10, Kind.FAILED),
        (FAILED, "FAILURE DELAY", 10, Kind.FAILED),
        (FAILED, "NEVER", 10, None),
        (FAILED, "SUCCESS", 10, None),
        (DELAYED, None, 999, None),
        (DELAYED, None, 1000, Kind.DELAYED),
        (DELAYED, "FAILURE", 1000, None),
        (DELAYED, "DELAY", 1000, Kind.DELAYED),
        (DELAYED, "NEVER", 1000, None),
        (DELIVERED, None, 10, None),
        (DELIVERED, "SUCCESS FAILURE", 10, Kind.DELIVERED),
        (DELIVERED, "NEVER", 10, None),
    ],
)
def test_owed(outcome, notify, now, expected):
    bob = recipient(notify=words(notify))
    settled = Settlement(outcome, 2000.0 if outcome is DELAYED else None)
    assert owed(envelope(bob), Waiting(bob), settled, SCHEDULE, now) is expected
    foreign = Origin("192.0.2.1")
    assert (
        owed(envelope(bob, sender=NULL_SENDER, origin=foreign), Waiting(bob), settled, SCHEDULE, now) is None
    )
    if expected is Kind.DELAYED:
        assert owed(envelope(bob), Waiting(bob, warned=True), settled, SCHEDULE, now) is None


def duty(*recipients, **more):
    return Duty(envelope(*recipients, **more), "outside.example", tuple(map(Waiting, recipients)))


def test_one_report_of_a_kind_for_all_and_a_mark_at_the_warned():
    a, b, c, d = (recipient(name) for name in "abcd")
    settlements = {
        a: Settlement(FAILED),
        b: Settlement(DELAYED, 1300.0),
        c: Settlement(FAILED),
        d: Settlement(DELIVERED),
    }
    owed = news(duty(a, b, c, d), settlements, SCHEDULE, 1000.0)
    assert [(one.kind, [told.recipient for told in one.told]) for one in owed] == [
        (Kind.FAILED, [a, c]),
        (Kind.DELAYED, [b]),
    ]
    assert owed[1].told[0].retry_until == 5000.0
    marked = warned(settlements, owed)
    assert [marked[one].warned for one in (a, b, c, d)] == [False, True, False, False]


def test_nothing_to_the_null_sender():
    a = recipient(notify=words("FAILURE"))
    foreign = duty(a, sender=NULL_SENDER, origin=Origin("192.0.2.1"))
    assert news(foreign, {a: Settlement(FAILED)}, SCHEDULE, 1.0) == []


def test_a_report_that_fails_is_told_to_postmaster_once():
    a = recipient()
    owed = news(duty(a, sender=NULL_SENDER, ret="HDRS"), {a: Settlement(FAILED)}, SCHEDULE, 1.0)
    content = b"From: MAILER-DAEMON\r\n\r\nwhat it told\r\n"
    report = ReportWriter("mail.example.lan", lambda: 1 << 39).write(
        owed[0], Original(content, whole=True), 2.0
    )
    assert [str(one.address) for one in report.envelope.recipients] == ["postmaster@mail.example.lan"]
    assert b"\r\nTo: <postmaster@mail.example.lan>\r\n" in report.content
    assert b"what it told" in report.content
    assert b"A message that this server wrote could not be delivered" in report.content
    again = Duty(report.envelope, "mail.example.lan", (Waiting(report.envelope.recipients[0]),))
    assert news(again, {report.envelope.recipients[0]: Settlement(FAILED)}, SCHEDULE, 3.0) == []
    for outcome, next_attempt in ((DELAYED, 2000.0), (DELIVERED, None)):
        settled = Settlement(outcome, next_attempt)
        assert news(duty(a, sender=NULL_SENDER), {a: settled}, SCHEDULE, 1500.0) == []


@pytest.mark.parametrize(
    ("outcome", "notify", "expected"),
    [(FAILED, None, Kind.FAILED), (DELAYED, None, None), (DELAYED, "DELAY", Kind.DELAYED)],
)
def test_a_stranger_gets_no_delay_report_unasked(outcome, notify, expected):
    bob = recipient(notify=words(notify))
    settled = Settlement(outcome, 2000.0 if outcome is DELAYED else None)
    assert owed(envelope(bob, marks=[STRANGER]), Waiting(bob), settled, SCHEDULE, 1500.0) is expected


@pytest.mark.parametrize(
    ("outcome", "actions"),
    [
        (Delivered("delivered to mailbox"), ["delivered"]),
        (Delivered("250 Ok", host="mx.example"), ["relayed"]),
        (Delivered("250 saved", host="localhost", final=True), ["delivered"]),
        (Delivered("250 Ok", host="mx.example", reports=True), []),
        (Delivered("forwarded as Q2", expanded=True), ["expanded"]),
        (Delivered("forwarded as Q2", reports=True), []),
    ],
)
def test_how_success_is_told(outcome, actions):
    a = recipient(notify=words("SUCCESS"))
    told = [
        told.action for one in news(duty(a), {a: Settlement(outcome)}, SCHEDULE, 1.0) for told in one.told
    ]
    assert told == actions


def write(original, *, sender=ALICE, ret="", marks=()):
    a = recipient()
    owed = news(duty(a, sender=sender, ret=ret, marks=marks), {a: Settlement(FAILED)}, SCHEDULE, 1.0)
    return ReportWriter("mail.example.lan", lambda: 1 << 39).write(owed[0], original, 1.5e9)


def test_the_message():
    report = write(Original(b"Subject: hi\r\n\r\nbody\r\n", whole=True))
    assert verifyObject(IReport, report)
    assert report.envelope.sender == NULL_SENDER
    assert [one.address for one in report.envelope.recipients] == [ALICE]
    assert report.envelope.size == len(report.content)
    assert (report.envelope.body, report.envelope.smtputf8) == ("7BIT", False)
    assert report.envelope.id.encode() in report.content
    assert b"body" not in report.content
    assert write(Original(b"")).envelope.id == report.envelope.id


@pytest.mark.parametrize(
    ("ret", "whole", "returned"),
    [("FULL", True, True), ("FULL", False, False), ("HDRS", True, False), ("", True, False)],
)
def test_the_original_comes_back_whole_only_when_asked_for(ret, whole, returned):
    content = write(Original(b"Subject: hi\r\n\r\nb\xf6dy\r\n", whole=whole), ret=ret).content
    assert (b"b\xf6dy" in content) is returned
    kind = email.message_from_bytes(content).get_payload()[2].get_content_type()
    assert kind == ("message/rfc822" if returned else "text/rfc822-headers")


def test_a_stranger_gets_the_header_only():
    content = write(
        Original(b"Subject: hi\r\n\r\nbuy this\r\n", whole=True), ret="FULL", marks=[STRANGER]
    ).content
    assert b"buy this" not in content
    assert b"Subject: hi" in content


def test_8_bit_is_declared():
    assert (
        write(Original(b"Subject: hi\r\n\r\nb\xf6dy\r\n", whole=True), ret="FULL").envelope.body == "8BITMIME"
    )
    assert write(Original(b"Subject: h\xf6\r\n\r\nx\r\n", whole=True), ret="FULL").envelope.body == "7BIT"


def test_a_sender_beyond_ascii():
    report = write(Original(b""), sender=Address("jürgen", "example.lan"))
    assert report.envelope.smtputf8
    assert "To: <jürgen@example.lan>".encode() in report.content


# --- settling ---


def settle(outcome, attempts=0, now=100.0, chance=0.0, schedule=SCHEDULE):
    bob = recipient()
    return settlement(envelope(bob), Waiting(bob, attempts, warned=True), outcome, schedule, now, chance)


def test_settlements():
    assert settle(FAILED) == Settlement(FAILED)
    assert settle(DELIVERED) == Settlement(DELIVERED)
    assert settle(DELAYED) == Settlement(DELAYED, 160.0, warned=True)
    assert settle(DELAYED, attempts=7) == Settlement(DELAYED, 400.0, warned=True)
    assert settle(DELAYED, chance=1.0).next_attempt == pytest.approx(154.0)


def test_the_last_attempt_is_at_the_end_and_never_before():
    assert settle(DELAYED, attempts=5, now=4900.0, chance=1.0).next_attempt == 5000.0
    over = settle(DELAYED, attempts=5, now=5000.0)
    assert over == Settlement(Failed(Scope.HOST, "connection refused", "4.4.7", "mx.example", 0))

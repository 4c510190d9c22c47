"""The part of a report that a person reads, whole: what is said in each case, to the letter."""

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient, make_queue_id
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.wire.letter import Kind, Told, letter

ARRIVED = 1_700_000_000.0
NOW = ARRIVED + 5 * 86400
BOB = Recipient(Address("bob", "outside.example"))
SALES = Recipient(Address("dave", "far.example"), "rfc822;sales@example.lan")

NO_SUCH_USER = Failed(Scope.RECIPIENT, "550 5.1.1 No such user here", "5.1.1", "mx1.outside.example", 550)
GIVEN_UP = Failed(Scope.HOST, "connection refused", "4.4.7", "mx1.far.example")
REFUSED = Delayed(Scope.HOST, "connection refused", "4.4.1", "mx1.outside.example")


def spell(kind, *told, sender=Address("alice", "example.lan")):  # noqa: B008 - frozen
    recipients = tuple(one.recipient for one in told)
    envelope = Envelope(make_queue_id(ARRIVED, 7), sender, recipients, Origin(), ARRIVED)
    return letter(kind, envelope, told, "mail.example.lan", "Lunch?")


FAILED = """\
This is the mail server mail.example.lan.

Your message could not be delivered to the 2 recipients below. It will
not be tried again.

  <bob@outside.example>
    The mail server mx1.outside.example said:
    | 550 5.1.1 No such user here
    Please check the address for a typing error.

  <dave@far.example>
    (you wrote to sales@example.lan)
    Trying mx1.far.example:
    | connection refused
    It was tried for 5 days. Their mail server could not be reached, or
    would not take it, in all that time.

This server keeps no copy. To try once more, please send it as a new
message.

For help with an address, ask the recipient or the postmaster of its
domain. For help with this server, write to postmaster@mail.example.lan
and name {id}.

Your message:
  Subject: Lunch?
  Arrived: Tue, 14 Nov 2023 22:13:20 +0000
  Queue:   {id}
"""

DELAYED = """\
This is the mail server mail.example.lan.

Your message has not yet been delivered to the recipient below.

  <bob@outside.example>
    Trying mx1.outside.example:
    | connection refused

You need not do anything. This server keeps trying until Sun, 19 Nov
2023 22:13:20 +0000; if it does not succeed by then, you will be told.

For help with an address, ask the recipient or the postmaster of its
domain. For help with this server, write to postmaster@mail.example.lan
and name {id}.

Your message:
  Subject: Lunch?
  Arrived: Tue, 14 Nov 2023 22:13:20 +0000
  Queue:   {id}
"""

DELIVERED = """\
This is the mail server mail.example.lan.

You asked to be told: your message has been delivered to the 3
recipients below.

  <alice@example.lan>
    It has arrived here:
    | delivered to mailbox

  <bob@outside.example>
    Handed on to mx1.outside.example, which may send no further report.
    It said:
    | 250 2.0.0 taken

  <team@example.lan>
    Sent on to all behind this address; there is no further report:
    | forwarded as X

This says that the mail arrived there, not that anybody has read it.

Your message:
  Subject: Lunch?
  Arrived: Tue, 14 Nov 2023 22:13:20 +0000
  Queue:   {id}
"""

TO_POSTMASTER = """\
This is the mail server mail.example.lan.

A message that this server wrote could not be delivered to the recipient
below. Nobody else is told.

  <bob@outside.example>
    The mail server mx1.outside.example said:
    | 550 5.1.1 No such user here
    Please check the address for a typing error.

This server keeps no copy. To try once more, please send it as a new
message.

For help with an address, ask the recipient or the postmaster of its
domain. For help with this server, write to postmaster@mail.example.lan
and name {id}.

Your message:
  Subject: Lunch?
  Arrived: Tue, 14 Nov 2023 22:13:20 +0000
  Queue:   {id}
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            spell(
                Kind.FAILED,
                Told(BOB, NO_SUCH_USER, "failed", NOW),
                Told(SALES, GIVEN_UP, "failed", NOW),
            ),
            FAILED,
        ),
        (spell(Kind.DELAYED, Told(BOB, REFUSED, "delayed", ARRIVED + 14400, NOW)), DELAYED),
        (
            spell(
                Kind.DELIVERED,
                Told(
                    Recipient(Address("alice", "example.lan")),
                    Delivered("delivered to mailbox"),
                    "delivered",
                    NOW,
                ),
                Told(BOB, Delivered("250 2.0.0 taken", "2.0.0", "mx1.outside.example"), "relayed", NOW),
                Told(Recipient(Address("team", "example.lan")), Delivered("forwarded as X"), "expanded", NOW),
            ),
            DELIVERED,
        ),
        (spell(Kind.FAILED, Told(BOB, NO_SUCH_USER, "failed", NOW), sender=NULL_SENDER), TO_POSTMASTER),
    ],
    ids=["failed", "delayed", "delivered", "to postmaster"],
)
def test_the_whole_text(said, expected):
    assert said == expected.format(id=make_queue_id(ARRIVED, 7))
    assert max(map(len, said.split("\n"))) <= 72


def test_a_host_that_reports_itself_is_not_said_to_be_silent():
    taken = Delivered("250 ok", host="mx")
    assert "The mail server mx took it and said:" in spell(Kind.DELIVERED, Told(BOB, taken, "delivered", NOW))


def test_without_advice_the_postmaster_is_named():
    odd = Failed(Scope.RECIPIENT, "550 no", "5.9.9", "mx", 550)
    said = spell(Kind.FAILED, Told(BOB, odd, "failed", NOW))
    assert "    The postmaster of outside.example may know more.\n" in said


@pytest.mark.parametrize(
    ("seconds", "spelled"), [(0, "a short time"), (60, "1 minute"), (7200, "2 hours"), (86400, "1 day")]
)
def test_how_long_it_was_tried(seconds, spelled):
    said = spell(Kind.FAILED, Told(BOB, GIVEN_UP, "failed", ARRIVED + seconds))
    assert f"It was tried for {spelled}. " in said

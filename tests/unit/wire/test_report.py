"""Reports read by Python's own ``email`` and by a person."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, Recipient, make_queue_id
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.wire.report import Kind, Original, Reporter, Told, header_part, make_report

ALICE = Address("alice", "example.lan")
BOB = Recipient(Address("bob", "outside.example"))
ARRIVED = 1_700_000_000.0
NOW = ARRIVED + 5 * 86400
HEADER = b"Received: x\r\nSubject: Lunch?\r\nMessage-ID: <1@example.lan>\r\nFrom: alice\r\n"
ORIGINAL = Original(HEADER + b"\r\nHello\r\n", whole=True)
NO_SUCH_USER = Failed(Scope.RECIPIENT, "550 5.1.1 No such user here", "5.1.1", "mx1.outside.example", 550)


def envelope(sender=ALICE, recipients=(BOB,), **more):
    return Envelope(make_queue_id(ARRIVED, 7), sender, recipients, Origin(), ARRIVED, **more)


def report(told, kind=Kind.FAILED, original=ORIGINAL, hostname="mail.example.lan", **more):
    reporter = Reporter(hostname, make_queue_id(NOW, 1 << 39), NOW)
    return make_report(kind, envelope(**more), told, original, reporter)


def failed(outcome=NO_SUCH_USER, recipient=BOB):
    return Told(recipient, outcome, "failed", NOW)


def parts(data):
    return email.message_from_bytes(data).get_payload()


def groups(data):
    return [dict(group.items()) for group in parts(data)[1].get_payload()]


def text(data):
    part = parts(data)[0]
    return part.get_payload(decode=True).decode(part.get_content_charset()).replace("\r\n", "\n")


def test_the_frame():
    message = email.message_from_bytes(report([failed()]))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.get_payload()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    assert message["From"] == "MAILER-DAEMON <postmaster@mail.example.lan>"
    assert message["To"] == "<alice@example.lan>"
    assert message["Subject"] == "Not delivered: your mail to bob@outside.example"
    assert message["Date"] == "Sun, 19 Nov 2023 22:13:20 +0000"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["In-Reply-To"] == message["References"] == "<1@example.lan>"
    assert message["Message-ID"].endswith("@mail.example.lan>")
    assert not message.defects


def test_status_fields_of_a_failure():
    data = report([failed(recipient=Recipient(BOB.address, "rfc822;sales@example.lan"))], envid="QQ 314")
    about, bob = groups(data)
    assert about == {
        "Reporting-MTA": "dns; mail.example.lan",
        "Original-Envelope-Id": "QQ 314",
        "Arrival-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
    }
    assert bob == {
        "Original-Recipient": "rfc822; sales@example.lan",
        "Final-Recipient": "rfc822; bob@outside.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx1.outside.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Sun, 19 Nov 2023 22:13:20 +0000",
        "Final-Log-Id": make_queue_id(ARRIVED, 7),
    }


def test_status_fields_of_a_delay_and_of_trouble_found_here():
    outcome = Delayed(Scope.HOST, "connection refused", "4.4.1", "mx1.outside.example")
    _, bob = groups(report([Told(BOB, outcome, "delayed", NOW, NOW + 3600)], Kind.DELAYED))
    assert bob["Diagnostic-Code"] == "x-local; connection refused"
    assert bob["Action"] == "delayed"
    assert bob["Will-Retry-Until"] == "Sun, 19 Nov 2023 23:13:20 +0000"


def test_the_code_stands_once_before_the_reply():
    _, bob = groups(report([failed(Failed(Scope.RECIPIENT, "5.1.1 Nobody", "5.1.1", "mx", 550))]))
    assert bob["Diagnostic-Code"] == "smtp; 550 5.1.1 Nobody"


def test_success():
    told = [
        Told(BOB, Delivered("250 Ok", host="mx.example"), "relayed", NOW),
        Told(Recipient(ALICE), Delivered("delivered to mailbox"), "delivered", NOW),
    ]
    data = report(told, Kind.DELIVERED)
    assert [group["Action"] for group in groups(data)[1:]] == ["relayed", "delivered"]
    assert groups(data)[1]["Diagnostic-Code"].startswith("smtp;")
    assert "It has arrived here:\n    | delivered to mailbox" in text(data)


def test_the_text_reads_well():
    said = text(report([failed()]))
    assert "could not be delivered to the recipient below" in said
    assert "<bob@outside.example>\n    The mail server mx1.outside.example said:\n" in said
    assert "    | 550 5.1.1 No such user here\n" in said
    assert "check the address for a typing error" in said
    assert "Subject: Lunch?" in said
    assert max(map(len, said.split("\n"))) <= 72


def test_the_text_says_how_long_was_tried():
    given_up = Failed(Scope.HOST, "connection refused", "4.4.7", "mx1.outside.example")
    assert "It was tried for 5 days." in " ".join(text(report([failed(given_up)])).split())


def test_many_recipients():
    told = [failed(recipient=Recipient(Address(f"user{n}", "outside.example"))) for n in range(250)]
    data = report(told)
    assert len(groups(data)) == 251
    assert "The other 150 are in the second part" in text(data)
    assert b"Subject: Not delivered: your mail to user0@outside.example and 249 more\r\n" in data


def test_a_stranger_cannot_add_fields_or_parts():
    evil = "x\r\nStatus: 2.0.0\r\n\r\n--=_\x1b[2J\x00é" + "y" * 5000
    outcome = Failed(Scope.RECIPIENT, evil, "9.9\r\nX: y", "mx\r\nX: y", 550)
    who = Recipient(Address('a\r\nBcc: "b', "c"), f"rfc822;{evil}")
    data = report([failed(outcome, who)], sender=Address("a\r\nBcc: b", "c"), hostname="h", envid=evil)
    message = email.message_from_bytes(data)
    assert message["Bcc"] is None
    about, bob = groups(data)
    assert "X" not in bob
    assert bob["Status"] == "5.0.0"
    assert data.count(b"\r\n--" + message.get_boundary().encode()) == 4
    assert b"\x1b" not in data
    assert len(max(data.split(b"\r\n"), key=len)) < 998
    assert len(about) == 3


def test_addresses_beyond_ascii():
    who = Recipient(Address("jürgen", "example.lan"), "utf-8;büro@example.lan")
    data = report([failed(recipient=who)])
    assert data.isascii()
    bob = groups(data)[1]
    assert bob["Final-Recipient"] == r"utf-8; j\x{FC}rgen@example.lan"
    assert bob["Original-Recipient"] == r"utf-8; b\x{FC}ro@example.lan"
    assert "<jürgen@example.lan>" in text(data)


BUERO = Recipient(Address("jürgen", "example.lan"), "utf-8;büro+x@example.lan")
UTF8_HEADER = HEADER + "X-Wer: Jürgen\r\n".encode()


@pytest.mark.parametrize(
    ("who", "content", "whole", "status", "returned"),
    [
        (BUERO, HEADER + b"\r\nHello\r\n", True, "global-delivery-status", "message/rfc822"),
        (BUERO, HEADER, False, "global-delivery-status", "text/rfc822-headers"),
        (BUERO, UTF8_HEADER + b"\r\nHello\r\n", True, "global-delivery-status", "message/global"),
        (BOB, UTF8_HEADER, False, "global-delivery-status", "message/global-headers"),
        (
            BOB,
            UTF8_HEADER + b"\r\n" + b"y" * 1000 + b"\r\n",
            True,
            "global-delivery-status",
            "message/global-headers",
        ),
        (BOB, HEADER + b"X: \xff\r\n\r\nHello\r\n", True, "delivery-status", "text/rfc822-headers"),
        (BOB, HEADER + b"\r\nHello\r\n", True, "delivery-status", "message/rfc822"),
    ],
)
def test_with_smtputf8(who, content, whole, status, returned):
    data = report([failed(recipient=who)], original=Original(content, whole), smtputf8=True)
    message = email.message_from_bytes(data)
    kinds = [part.get_content_type() for part in message.get_payload()]
    assert kinds == ["text/plain", f"message/{status}", returned]
    international = status.startswith("global")
    assert message["Content-Transfer-Encoding"] == ("8bit" if international else "7bit")
    if international:
        assert message.get_payload()[1]["Content-Transfer-Encoding"] == "8bit"
    assert (UTF8_HEADER in data) is (content.startswith(UTF8_HEADER))


def test_addresses_in_utf8():
    data = report([failed(recipient=BUERO)], smtputf8=True).decode()
    assert "\r\nFinal-Recipient: utf-8; jürgen@example.lan\r\n" in data
    assert "\r\nOriginal-Recipient: utf-8; büro\\x{2B}x@example.lan\r\n" in data
    evil = Recipient(Address("a\u2028b\x85é", "example.lan"))
    data = report([failed(recipient=evil)], smtputf8=True).decode()
    assert "\r\nFinal-Recipient: utf-8; a\\x{2028}b\\x{85}é@example.lan\r\n" in data


def test_a_whole_8_bit_original_is_declared():
    content = HEADER + b"\r\nH\xe4llo\r\n"
    data = report([failed()], original=Original(content, whole=True))
    assert email.message_from_bytes(data)["Content-Transfer-Encoding"] == "8bit"
    assert parts(data)[2]["Content-Transfer-Encoding"] == "8bit"
    assert content in data


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b"X: \xff\xfe\r\n\r\nHello\r\n",
        HEADER + b"\r\n" + b"y" * 1000 + b"\r\n",
        HEADER + b"\r\nbare \n line end\r\n",
        HEADER + b"\r\nNUL \0\r\n",
    ],
)
def test_an_original_that_cannot_travel_is_its_header(content):
    data = report([failed()], original=Original(content, whole=True))
    part = parts(data)[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload(decode=True).strip() == header_part(content).strip()
    assert data.isascii()


def test_header_part():
    assert header_part(b"A: b\r\n\r\nbody") == b"A: b\r\n"
    assert header_part(b"\r\nbody") == b""
    assert header_part(b"A: b\r\nC: d\r\nE: cut off") == b"A: b\r\nC: d\r\n"
    assert header_part(b"cut off") == b""
    assert header_part(b"") == b""


@given(st.binary(max_size=400), st.booleans(), st.text(max_size=200), st.text(max_size=40))
def test_no_original_and_no_reply_breaks_it(content, whole, reply, host):
    outcome = Failed(Scope.RECIPIENT, reply, "5.1.1", host, 550)
    who = Recipient(Address(reply or "x", host), f"rfc822;{reply}")
    data = report(
        [failed(outcome, who)], original=Original(content, whole), sender=Address(host, "c"), ret="FULL"
    )
    message = email.message_from_bytes(data)
    assert len(message.get_payload()) == 3
    assert [part.get_content_type() for part in message.get_payload()][:2] == [
        "text/plain",
        "message/delivery-status",
    ]
    if not (whole and b"\n" in content):
        assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")


def test_a_boundary_is_not_in_what_is_returned():
    first = f"=_{make_queue_id(NOW, 1 << 39)}.0".encode()
    data = report([failed()], original=Original(HEADER + b"\r\n--" + first + b"\r\n", whole=True))
    assert len(parts(data)) == 3

"""What becomes of a header section, as a table."""

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import QueueID
from mailserver.model.reply import NO_AUTHOR_554
from mailserver.smtp.heading import Heading
from mailserver.smtp.message import Objection

SENDER = Address("alice", "example.lan")
ADDED = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <Q1@mail.example.lan>\r\n"


def heading(kind: str, sender: Address = SENDER) -> Heading:
    flags = {"submitted": kind == "submitted", "sloppy": kind == "sloppy"}
    return Heading("mail.example.lan", QueueID("Q1"), sender, 1_700_000_000.5, **flags)


@pytest.mark.parametrize(
    ("kind", "section", "result"),
    [
        ("stranger", b"Return-Path: <x>\r\nBcc: y\r\n\r\n", b"Bcc: y\r\n\r\n"),
        ("stranger", b"", b""),
        ("stranger", b"text\r\n", b"text\r\n"),
        ("stranger", b"Authentication-Results: mail.example.LAN; x\r\nA: b\r\n", b"A: b\r\n"),
        ("submitted", b"From: a\r\nDate: x\r\nMessage-ID: y\r\n\r\n", b"From: a\r\nDate: x\r\nMessage-ID: y\r\n\r\n"),
        ("submitted", b"From: a\r\n\r\n", ADDED + b"From: a\r\n\r\n"),
        ("submitted", b"DATE : x\r\nfrom : a\r\n", ADDED[39:] + b"DATE : x\r\nfrom : a\r\n"),
        ("submitted", b"From: a\r\nBcc: b,\r\n c\r\nResent-Bcc: d\r\n\r\n", ADDED + b"From: a\r\n\r\n"),
        ("sloppy", b"From: a\r\nBcc: b\r\n\r\n", ADDED + b"From: a\r\n\r\n"),
        ("sloppy", b"Subject: x\r\n\r\n", b"From: <alice@example.lan>\r\n" + ADDED + b"Subject: x\r\n\r\n"),
        ("sloppy", b"\r\n", b"From: <alice@example.lan>\r\n" + ADDED + b"\r\n"),
        ("sloppy", b"", b"From: <alice@example.lan>\r\n" + ADDED + b"\r\n"),
        ("sloppy", b"text\r\nFrom: x\r\n\r\n", b"From: <alice@example.lan>\r\n" + ADDED + b"\r\ntext\r\nFrom: x\r\n\r\n"),
        ("sloppy", b"From: a\r\nFrom: b\r\n\r\n", ADDED + b"From: a\r\nFrom: b\r\n\r\n"),
    ],
)  # fmt: skip
def test_rewrite(kind: str, section: bytes, result: bytes) -> None:
    assert heading(kind).rewrite(section) == result


def test_no_author_is_made_of_the_null_sender() -> None:
    assert heading("sloppy", NULL_SENDER).rewrite(b"\r\n") == ADDED + b"\r\n"


@pytest.mark.parametrize(
    "section", [b"Subject: x\r\n\r\n", b"", b"From: a\r\nFrom: b\r\n\r\n", b"text\r\nFrom: a\r\n"]
)
def test_a_user_must_say_who_writes(section: bytes) -> None:
    with pytest.raises(Objection) as objection:
        heading("submitted").rewrite(section)
    assert objection.value.reply == NO_AUTHOR_554

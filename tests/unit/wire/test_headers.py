from time import process_time

import pytest

from mailserver.wire.headers import HeaderSection, authserv_id, begins_with_field, count_fields, without

SECTION = (
    b"Received: one\r\n"
    b"BCC: <a@example.org>,\r\n"
    b"\t<b@example.org>\r\n"
    b"Subject: x\r\n"
    b"  Bcc: folded\r\n"
    b"no field\r\n"
    b"bcc : second\r\n"
    b"\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: b\r\nC: d\r\n\r\nbody\r\n\r\nmore\r\n", b"A: b\r\nC: d\r\n\r\n"),
        (b"\r\nbody\r\n\r\n", b"\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"", b""),
    ],
)
def test_section(content: bytes, header: bytes, size: int) -> None:
    section = HeaderSection()
    behind = b"".join(section.feed(content[at : at + size]) for at in range(0, len(content), size))
    assert section.finished is header.endswith(b"\r\n\r\n") or header == b"\r\n"
    assert not section.overlong
    assert (section.take(), behind) == (header, content[len(header) :])
    assert section.take() == b""


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("octets", "overlong"), [(99, False), (100, False), (101, True), (5000, True)])
def test_section_limit(octets: int, overlong: bool, size: int) -> None:
    content = b"A: " + b"x" * (octets - 7) + b"\r\n\r\nbody\r\n"
    section = HeaderSection(100)
    for at in range(0, len(content), size):
        section.feed(content[at : at + size])
        assert len(section._held) <= 101
    assert section.finished
    assert section.overlong is overlong
    assert section.take() == (b"" if overlong else content[:octets])


@pytest.mark.parametrize(
    ("section", "result"),
    [
        (b"Subject: x\r\n", True),
        (b"X-y_z : x\r\n", True),
        (b"\r\n", True),
        (b"", False),
        (b"hello\r\n", False),
        (b" Subject: x\r\n", False),
        (b"two words: x\r\n", False),
        (b": x\r\n", False),
        (b"\xc3\xbc: x\r\n", False),
    ],
)
def test_begins_with_field(section: bytes, result: bool) -> None:
    assert begins_with_field(section) is result


def test_count_fields() -> None:
    assert count_fields(SECTION, "Bcc") == 2
    assert count_fields(SECTION, "received") == 1
    assert count_fields(SECTION, "Folded") == 0


def test_without() -> None:
    assert without(SECTION, "bcc") == b"Received: one\r\nSubject: x\r\n  Bcc: folded\r\nno field\r\n\r\n"
    assert without(SECTION, "Bcc", lambda value: b"second" in value) == SECTION.replace(
        b"bcc : second\r\n", b""
    )
    assert without(SECTION, "Bcc", lambda value: value == b" <a@example.org>,\t<b@example.org>") == (
        SECTION.replace(b"BCC: <a@example.org>,\r\n\t<b@example.org>\r\n", b"")
    )
    assert without(b"\r\n", "Bcc") == b"\r\n"


@pytest.mark.parametrize(
    ("value", "who"),
    [
        (b" mail.example.lan; spf=pass", b"mail.example.lan"),
        (b" Mail.Example.LAN 1; none", b"mail.example.lan"),
        (b'"mail.example.lan"; none', b"mail.example.lan"),
        (b" (a (nested) one) mail.example.lan (1); none", b"mail.example.lan"),
        (b" (; a=b) mail.example.lan; none", b"mail.example.lan"),
        (b" (\\() mail.example.lan; none", b"mail.example.lan"),
        (b" ) mail.example.lan; none", b")"),
        (b" other.example; dkim=pass header.d=mail.example.lan", b"other.example"),
        (b" (mail.example.lan", b""),
        (b"", b""),
        (b" ; none", b""),
    ],
)
def test_authserv_id(value: bytes, who: bytes) -> None:
    assert authserv_id(value) == who


def test_everything_is_linear() -> None:
    begun = process_time()
    for section in (
        b"Bcc:\r\n" * 300_000 + b"\r\n",
        b"Bcc:" + b"\r\n x" * 300_000 + b"\r\n\r\n",
        b"Bcc" + b" " * 1_000_000,
        b"Bcc: " + b"(" * 1_000_000 + b"\r\n",
    ):
        without(section, "Bcc")
        count_fields(section, "Bcc")
        begins_with_field(section)
        authserv_id(section)
    assert process_time() - begun < 5

"""SASLprep (RFC 4013)."""

import pytest

from mailserver.wire.saslprep import prepared, saslprep
from mailserver.wire.syntax import BadSyntax

NEW = "\U0001f642"  # Unicode 6.1


@pytest.mark.parametrize(
    ("text", "result"),
    [
        # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # §2.1: blanks become blanks, what cannot be seen goes
        ("a\u00a0b\u3000c", "a b c"),
        ("a\u200b\ufe0fb", "ab"),
        # §2.2
        ("e\u0301\u212b", "\u00e9\u00c5"),
        # RFC 3454 §6: from right to left, wholly
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u06271\u0628", "\u06271\u0628"),
        ("\u0627", "\u0627"),
        # It was not there in 3.2, and what is not there has no other spelling.
        (NEW, NEW),
        ("\U0001f130", "\U0001f130"),
    ],
)
def test_prepared(text: str, result: str) -> None:
    assert saslprep(text) == result
    assert saslprep(result) == result
    assert prepared(text.encode()) == result.encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # RFC 4013 §3
        ("\u0007", "control"),
        ("\u06271", "directions"),
        # and one of every table of §2.3
        ("a\0", "control"),
        ("\u0085", "control"),
        ("\ue000", "private"),
        ("\ufdd0", "no character"),
        ("\ud800", "surrogate"),
        ("\ufffd", "plain text"),
        ("\u2ff0", "canonical"),
        ("\u200f", "shown"),
        ("\U000e0041", "tag"),
        ("1\u0627", "directions"),
        ("\u0627a\u0628", "directions"),
        ("", "nothing"),
        ("\u00ad", "nothing"),
    ],
)
def test_prohibited(text: str, why: str) -> None:
    with pytest.raises(BadSyntax, match=why):
        saslprep(text)


def test_what_is_stored_has_only_what_unicode_had() -> None:
    assert saslprep("\u00e9", stored=True) == "\u00e9"
    with pytest.raises(BadSyntax, match="newer"):
        saslprep(NEW, stored=True)


@pytest.mark.parametrize("octets", [b"", b"\x07", b"\xff\xfe", "\x07\u00f6".encode(), "\u00ad".encode()])
def test_what_cannot_be_prepared_stays(octets: bytes) -> None:
    assert prepared(octets) == octets

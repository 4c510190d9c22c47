"""Verifiers: made, written, read, and made up."""

import pytest

from mailserver.wire.scram import ITERATIONS, Verifier, decoy, make_verifier, prepare

VERIFIER = make_verifier(b"secret", b"0123456789abcdef", 4096)


def test_a_verifier_is_written_and_read() -> None:
    text = str(VERIFIER)
    assert Verifier.parse(text) == VERIFIER
    # It stands in a line of which colons and blanks are the bounds.
    assert not set(text) & set(": \t\r\n")
    assert "secret" not in text
    assert "stored_key" not in repr(VERIFIER)


def test_a_new_one_is_as_hard_as_the_hash_beside_it() -> None:
    assert ITERATIONS >= 600_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4096",
        "x,YWFhYWFhYWE=,YQ==,YQ==",
        "4096,YWFhYWFhYWE=,YQ==,YQ==",
        "4096,?,?,?",
        str(VERIFIER).replace("4096", "4095"),
        str(VERIFIER).replace("4096", "99999999"),
        str(VERIFIER).replace("4096", "-4096"),
        str(VERIFIER) + ",YQ==",
        str(VERIFIER).replace(str(VERIFIER).split(",")[1], "YQ=="),
    ],
)
def test_not_a_verifier(text: str) -> None:
    with pytest.raises(ValueError, match="not a verifier"):
        Verifier.parse(text)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        (b"secret", b"secret"),
        # RFC 4013 §3
        ("I\u00adX".encode(), b"IX"),
        ("\u00aa".encode(), b"a"),
        ("\u2168".encode(), b"IX"),
        ("a\u00a0b".encode(), b"a b"),
        # What cannot be prepared can still be a password.
        (b"\xff\xfe", b"\xff\xfe"),
        ("\u0007ö".encode(), "\u0007ö".encode()),
    ],
)
def test_passwords_have_one_spelling(password: bytes, prepared: bytes) -> None:
    assert prepare(password) == prepared


def test_decoys() -> None:
    assert decoy(b"key", b"name") == decoy(b"key", b"name")
    assert len({decoy(b"key", b"name").salt, decoy(b"key", b"eman").salt, decoy(b"yek", b"name").salt}) == 3
    assert Verifier.parse(str(decoy(b"key", b"name"))) == decoy(b"key", b"name")

"""Verifiers: made, written, read, and made up."""

import pytest

from mailserver.wire.scram import ITERATIONS, Verifier, decoy, make_verifier

VERIFIER = make_verifier(b"secret", b"0123456789abcdef", 4096)


def test_a_verifier_is_written_and_read() -> None:
    text = str(VERIFIER)
    assert Verifier.parse(text) == VERIFIER
    # It stands in a line of which colons and blanks are the bounds.
    assert not set(text) & set(": \t\r\n")
    assert "secret" not in text
    assert "stored_key" not in repr(VERIFIER)


def test_every_spelling_of_a_password_has_one_verifier() -> None:
    salt = b"0123456789abcdef"
    composed, combining = "sécret".encode(), "se\u0301cret".encode()
    assert make_verifier(combining, salt, 4096) == make_verifier(composed, salt, 4096)


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


def test_decoys() -> None:
    assert decoy(b"key", b"name") == decoy(b"key", b"name")
    assert len({decoy(b"key", b"name").salt, decoy(b"key", b"eman").salt, decoy(b"yek", b"name").salt}) == 3
    assert Verifier.parse(str(decoy(b"key", b"name"))) == decoy(b"key", b"name")

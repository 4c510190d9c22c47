"""What an address means, and how it is spelled."""

import pytest

from mailserver.model.address import NULL_SENDER, Address


@pytest.mark.parametrize(
    ("local", "domain", "spelled"),
    [
        ("alice", "example.lan", "alice@example.lan"),
        ("a.b+c", "d", "a.b+c@d"),
        ("a b", "d", '"a b"@d'),
        ('a"\\b', "d", r'"a\"\\b"@d'),
        ("a..b", "d", '"a..b"@d'),
        (".a", "d", '".a"@d'),
        ("a@b", "d", '"a@b"@d'),
        ("ü", "d", "ü@d"),
        ("postmaster", "", "postmaster"),
        ("", "", ""),
        ("a", "[192.0.2.1]", "a@[192.0.2.1]"),
    ],
)
def test_spelling(local: str, domain: str, spelled: str) -> None:
    assert str(Address(local, domain)) == spelled


def test_the_null_sender() -> None:
    assert NULL_SENDER.is_null
    assert not Address("postmaster", "").is_null
    assert not Address("", "d").is_null


def test_ascii_and_literals() -> None:
    assert Address("a", "d").is_ascii
    assert not Address("ü", "d").is_ascii
    assert not Address("a", "ü").is_ascii
    assert Address("a", "[192.0.2.1]").is_literal
    assert not Address("a", "d").is_literal


def test_one_mailbox_has_one_key() -> None:
    assert Address("Alice", "d").key == "alice@d"
    assert Address("u\u0308", "d").key == Address("Ü", "d").key == "ü@d"
    # Look-alikes are other people: Cyrillic a.
    assert Address("\u0430lice", "d").key != Address("alice", "d").key


def test_addresses_are_values() -> None:
    assert sorted({Address("b", "d"), Address("a", "d"), Address("a", "d")}) == [
        Address("a", "d"),
        Address("b", "d"),
    ]

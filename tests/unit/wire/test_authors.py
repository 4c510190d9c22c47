"""Who a From field names, and what no two readers would agree on."""

import time
from contextlib import suppress

import pytest

from mailserver.wire.authors import parse_authors
from mailserver.wire.syntax import BadSyntax


@pytest.mark.parametrize(
    ("field", "authors"),
    [
        ("alice@example.lan", "alice@example.lan"),
        ("<alice@example.lan>", "alice@example.lan"),
        (" Alice <alice@Example.LAN> ", "alice@example.lan"),
        ('"Boss <boss@bank.example>" <alice@example.lan>', "alice@example.lan"),
        ('"boss@bank.example, CEO" <alice@example.lan>', "alice@example.lan"),
        ("alice@example.lan (boss@bank.example)", "alice@example.lan"),
        ("(a (nested) \\) one) alice@example.lan", "alice@example.lan"),
        ('Alice (5" wide) <alice@example.lan>', "alice@example.lan"),
        ("=?utf-8?q?J=C3=B6rg?= <alice@example.lan>", "alice@example.lan"),
        ("Jörg <jörg@example.lan>", "jörg@example.lan"),
        ("Alice\r\n <alice@example.lan>", "alice@example.lan"),
        ("alice @ example . lan", "alice@example.lan"),
        ('"a b"@example.lan', '"a b"@example.lan'),
        ("a@a.example, B <b@b.example>", "a@a.example b@b.example"),
        (", a@a.example,, ", "a@a.example"),
        # What stands before the brackets without quotes could be read as an address, too.
        ("boss@bank.example <alice@example.lan>", "boss@bank.example alice@example.lan"),
    ],
)
def test_authors(field: str, authors: str) -> None:
    assert [str(author) for author in parse_authors(field.encode())] == (
        [authors] if " b@" not in authors and " alice@" not in authors else authors.split(" ")
    )


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"  ,",
        b"Alice",
        b"<>",
        b"alice",
        b"alice@",
        b"\xff@example.lan",
        b"<boss@bank.example> <alice@example.lan>",
        b"<boss@bank.example> alice@example.lan",
        b"<<alice@example.lan>>",
        b"<alice@example.lan",
        b"alice@example.lan>",
        b"a> <alice@example.lan>",
        b"<@route.example:alice@example.lan>",
        b"friends: alice@example.lan;",
        b"(never closed alice@example.lan",
        b'"never closed <alice@example.lan>',
        b"alice@example.lan)",
        b"a\\b@example.lan",
        b"the boss@bank.example of <alice@example.lan>",
        b"@bank.example <alice@example.lan>",
        # Each is looked up, and may be an alias of thousands.
        b"alice@example.lan," * 21,
    ],
)
def test_refused(field: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_authors(field)


@pytest.mark.parametrize(
    "field",
    [b"(" * 200_000, b'"' * 199_999, b"<" * 200_000, b"a," * 100_000, b"a@b.example," * 20_000, b"\\" * 9999],
)
def test_time_is_linear(field: bytes) -> None:
    begun = time.process_time()
    with suppress(BadSyntax):
        parse_authors(field)
    assert time.process_time() - begun < 2.0

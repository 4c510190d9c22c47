"""Senders folded into addresses of ours, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.model.address import NULL_SENDER, Address
from mailserver.wire.addresses import parse_address
from mailserver.wire.srs import LIFETIME, fold, unfold

KEY = b"k" * 32
DAY = 86400.0
NOW = 20_000 * DAY + 7
HERE = "example.lan"


def here(sender, domain=HERE):
    return fold(parse_address(sender), domain, KEY, NOW)


@pytest.mark.parametrize(
    ("sender", "begins", "ends"),
    [
        ("carol@far.example", "SRS0=", "=far.example=carol@example.lan"),
        ("a=b+c@far.example", "SRS0=", "=far.example=a=b+c@example.lan"),
        ('"a b"@far.example', '"SRS0=', '=far.example=a b"@example.lan'),
        ("SRS0=ab12=cd=far.example=x@a.example", "SRS1=", "=a.example==ab12=cd=far.example=x@example.lan"),
        ("srs0+ab12=cd=far.example=x@a.example", "SRS1=", "=a.example=+ab12=cd=far.example=x@example.lan"),
        (
            "SRS1=ab12=A.example==ab12=cd=f.example=x@b.example",
            "SRS1=",
            "=a.example==ab12=cd=f.example=x@example.lan",
        ),
    ],
)
def test_spelling(sender, begins, ends):
    address = here(sender)
    assert str(address).startswith(begins)
    assert str(address).endswith(ends)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("sender", "back"),
    [
        ("Carol@far.example", "Carol@far.example"),
        ("a=b+c@far.example", "a=b+c@far.example"),
        ('"a b"@far.example', '"a b"@far.example'),
        ("SRS0=ab12=cd=far.example=x@a.example", "SRS0=ab12=cd=far.example=x@a.example"),
        ("SRS1=ab12=a.example==ab12=cd=f.example=x@b.example", "SRS0=ab12=cd=f.example=x@a.example"),
    ],
)
def test_there_and_back(sender, back):
    assert str(unfold(here(sender), KEY, NOW + DAY)) == back


@pytest.mark.parametrize(
    "sender",
    [
        NULL_SENDER,
        Address("jürgen", "far.example"),
        Address("root", "[192.0.2.1]"),
        Address("x" * 40, "far.example"),
        Address("a b" + "x" * 34, "far.example"),
    ],
)
def test_not_rewritten(sender):
    assert fold(sender, HERE, KEY, NOW) is None


def test_case_does_not_matter():
    address = here("carol@far.example")
    assert str(unfold(Address(address.local.lower(), HERE), KEY, NOW)) == "carol@far.example"
    assert str(unfold(Address(address.local.upper(), HERE), KEY, NOW)) == "CAROL@far.example"


@pytest.mark.parametrize(
    ("days", "good"),
    [(-2, False), (-1, True), (0, True), (LIFETIME, True), (LIFETIME + 1, False), (1023, True), (1024, True)],
)
def test_age(days, good):
    # Days are counted modulo 1024.
    assert (unfold(here("carol@far.example"), KEY, NOW + days * DAY) is not None) is good


def test_forged():
    address = here("carol@far.example")
    assert unfold(address, b"other", NOW) is None
    assert unfold(Address(address.local.replace("carol", "david"), HERE), KEY, NOW) is None
    assert unfold(Address(address.local.replace("far", "fab"), HERE), KEY, NOW) is None
    again = here("SRS0=ab12=cd=far.example=x@a.example")
    assert unfold(Address(again.local.replace("a.example", "b.example"), HERE), KEY, NOW) is None


@pytest.mark.parametrize(
    "local", ["carol", "SRS0", "SRS0=ab12=cd=far.example", "SRS1=ab12=x", "SRS0=" + "x" * 80, "SRS0=é=cd=e=f"]
)
def test_something_else(local):
    assert unfold(Address(local, HERE), KEY, NOW) is None


def test_what_is_no_address_does_not_come_back():
    # Only we could have made it, and never would.
    address = fold(Address("x", "not a domain"), HERE, KEY, NOW)
    assert unfold(address, KEY, NOW) is None


@given(st.emails(), st.integers(0, 10**10))
def test_every_sender_that_is_folded_comes_back(text, now):
    sender = Address(*text.rsplit("@", 1)[:1], text.rsplit("@", 1)[1].lower())
    folded = fold(sender, HERE, KEY, now)
    if folded is not None:
        assert len(folded.local) <= 64
        assert unfold(folded, KEY, now) == sender

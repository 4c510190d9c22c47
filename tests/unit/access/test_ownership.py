"""As whom a user may send, as a table."""

import pytest

from mailserver.access.ownership import may_send_as
from mailserver.interfaces import SenderRights
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.source import Source
from tests.support.fakes import FakeDirectory, address

ALICE = "alice@example.lan"
LINE = Source("domains/example.lan/users", 1)
DIRECTORY = FakeDirectory(
    (ALICE, "bob@example.lan", "info@example.org"),
    {
        "sales@example.lan": (ALICE,),
        "staff@example.lan": (ALICE, "bob@example.lan"),
        "everybody@example.lan": ("staff@example.lan",),
        "bobs@example.lan": ("bob@example.lan", "elsewhere@other.example"),
    },
)
RIGHTS = SenderRights(frozenset({"alice@other.example", "@club.example"}), True, LINE)


@pytest.mark.parametrize(
    ("sender", "source"),
    [
        (ALICE, LINE),
        ("Alice@example.lan", LINE),
        ("postmaster@example.lan", LINE),
        ("sales@example.lan", Source("aliases", 1)),
        ("staff@example.lan", Source("aliases", 1)),
        ("everybody@example.lan", Source("aliases", 1)),
        ("alice@other.example", LINE),
        ("ALICE@other.example", LINE),
        ("anybody@club.example", LINE),
    ],
)
def test_own(sender: str, source: Source) -> None:
    verdict = may_send_as(ALICE, address(sender), RIGHTS, DIRECTORY.find)
    assert (verdict.allowed, verdict.source) == (True, source)


@pytest.mark.parametrize(
    "sender",
    [
        "bob@example.lan",
        "bobs@example.lan",
        "nobody@example.lan",
        "info@example.org",
        "bob@other.example",
        "alice@example.org",
        "alice@sub.club.example",
        "x@notclub.example",
        "boss@bank.example",
    ],
)
def test_not_own(sender: str) -> None:
    verdict = may_send_as(ALICE, address(sender), RIGHTS, DIRECTORY.find)
    assert not verdict.allowed
    assert verdict.reason == f"{sender} is not an address of {ALICE}"
    assert verdict.source == LINE


def test_the_null_sender_is_everybodys() -> None:
    assert may_send_as(ALICE, NULL_SENDER, SenderRights(), DIRECTORY.find).allowed


def test_who_is_gone_owns_nothing() -> None:
    assert not may_send_as(
        "gone@example.lan", Address("gone", "example.lan"), SenderRights(), DIRECTORY.find
    ).allowed

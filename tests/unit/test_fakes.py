"""The stand-ins keep the contracts of what they stand for."""

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailserver.interfaces import Account, Forward, IContent, IDirectory, IDraft, ISpool, Nobody, NotHosted
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from tests.support.fakes import FakeContent, FakeDirectory, FakeSpool, address

DIRECTORY = FakeDirectory(
    ["alice@example.lan", "bob@example.org"],
    {
        "staff@example.lan": ["alice@example.lan", "away@elsewhere.example"],
        "all@example.lan": ["staff@example.lan"],
    },
)


def test_interfaces() -> None:
    spool = FakeSpool()
    assert verifyObject(IDirectory, DIRECTORY)
    assert verifyObject(ISpool, spool)
    assert verifyObject(IDraft, spool.draft(NULL_SENDER, ()))
    assert verifyObject(IContent, FakeContent(b""))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("alice@example.lan", Account),
        ("Alice@example.lan", Account),
        ("staff@example.lan", Forward),
        ("bob@example.lan", Nobody),
        ("alice@elsewhere.example", NotHosted),
        ("postmaster@example.org", Account),
        ("Postmaster", Account),
    ],
)
def test_find(name: str, kind: type) -> None:
    assert isinstance(DIRECTORY.find(address(name)), kind)


def test_expand() -> None:
    away = Recipient(address("away@elsewhere.example"))
    assert DIRECTORY.expand(away) == (away,)
    assert DIRECTORY.expand(Recipient(address("bob@example.lan"))) == ()
    original = "rfc822;all@example.lan"
    assert DIRECTORY.expand(Recipient(address("all@example.lan"))) == (
        Recipient(address("alice@example.lan"), original),
        Recipient(address("away@elsewhere.example"), original),
    )
    assert DIRECTORY.domains() == ("example.lan", "example.org")


def test_address() -> None:
    assert address("") == NULL_SENDER
    assert address("Postmaster") == Address("Postmaster", "")


def test_spool_gates() -> None:
    spool = FakeSpool()
    spool.committing.shut()
    draft = spool.draft(NULL_SENDER, ())
    assert draft.write(b"x") is None
    envelope = Envelope(draft.id, NULL_SENDER, (), Origin(), 0.0, 1)
    done = Deferred.fromCoroutine(draft.commit(envelope))
    assert not done.called
    assert not spool.messages
    spool.committing.open()
    assert done.called
    assert spool.messages == [(envelope, b"x")]

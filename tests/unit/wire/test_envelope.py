"""An envelope comes to another process as it went."""

import marshal

import attrs

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.wire.envelope import read_envelope, spell_envelope

ANN = Recipient(Address("ann", "example.org"))
BEN = Recipient(Address("b\u00e9n", "example.org"), "rfc822;ben@example.net", frozenset({"FAILURE", "DELAY"}))
FULL = Envelope(
    QueueID("1B"),
    Address("\u00e4", "example.lan"),
    (ANN, BEN),
    Origin("192.0.2.9", 4000, "there", "ESMTPS", "TLSv1.3", "bob@example.lan"),
    *(1.5, 42, "8BITMIME", True, "HDRS", "envid", True, {"dkim": "pass"}),
)


def after_the_way(envelope: Envelope, *recipients: Recipient) -> Envelope:
    return read_envelope(marshal.loads(marshal.dumps(spell_envelope(envelope, recipients))))


def test_nothing_is_left_behind() -> None:
    read = after_the_way(FULL, ANN, BEN)
    for field in attrs.fields(Envelope):
        value = getattr(FULL, field.name)
        assert value != field.default, "a value that is not the usual one, or the test shows nothing"
        assert getattr(read, field.name) == value


def test_the_plainest() -> None:
    plain = Envelope(QueueID("1B"), NULL_SENDER, (), Origin(), 0.0)
    assert after_the_way(plain) == plain


def test_only_some_of_the_recipients() -> None:
    assert after_the_way(FULL, BEN) == attrs.evolve(FULL, recipients=(BEN,))

"""What one process has another say to a host comes there as it went, and back."""

import marshal

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Login, Security
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.model.tlsa import TLSA, Anchors
from mailserver.smtp.plain import (
    read_host,
    read_request,
    read_transmission,
    spell_host,
    spell_request,
    spell_transmission,
)
from mailserver.smtp.transmitter import Transmission

ANN = Recipient(Address("ann", "example.org"))
BEN = Recipient(Address("b\u00e9n", "example.org"), "rfc822;ben@example.net", frozenset({"FAILURE", "DELAY"}))
ANCHORS = Anchors((TLSA(3, 1, 1, b"\0" * 32),), "base.example", ("base.example",))


def told(facts):
    """As it is after the way."""
    return marshal.loads(marshal.dumps(facts))


@pytest.mark.parametrize(
    "exchanger",
    [
        Exchanger("mx.example.org", "192.0.2.1", 25),
        Exchanger("mx", "2001:db8::1", 465, 10, Security.VERIFY, Login("us", "s3cret"), True, False, b"PEM"),
        Exchanger("localhost", "/run/lmtp", 0, lmtp=True),
        Exchanger("mx", "192.0.2.1", 25, demand=Demand(Security.DANE, "DANE", ANCHORS)),
        Exchanger("mx", "192.0.2.1", 25, demand=Demand(Security.MAY, "MTA-STS", None, True)),
    ],
)
def test_a_request(exchanger: Exchanger) -> None:
    envelope = Envelope(
        QueueID("1B"),
        Address("\u00e4", "example.lan"),
        (ANN, BEN),
        Origin("192.0.2.9", 4000, "there", "ESMTPS", "TLSv1.3", "bob@example.lan"),
        *(1.5, 42, "8BITMIME", True, "HDRS", "envid", True, {"dkim": "pass"}),
    )
    host, read = read_request(told(spell_request(spell_host(exchanger), envelope, envelope.recipients)))
    assert (read_host(host), read) == (exchanger, envelope)
    assert hash(read_host(host)) == hash(exchanger)
    assert read.marks == {"dkim": "pass"}


def test_a_request_for_some() -> None:
    envelope = Envelope(QueueID("1B"), NULL_SENDER, (ANN, BEN), Origin(), 1.0)
    _, read = read_request(told(spell_request(b"", envelope, [BEN])))
    assert (read.sender, read.recipients) == (NULL_SENDER, (BEN,))


@pytest.mark.parametrize(
    "outcome",
    [
        Delivered("250 ok", "2.1.5", "mx", reports=True, expanded=True, final=True),
        Delivered("250 ok"),
        Delayed(Scope.DOUBT, "lost", "4.4.2", "mx"),
        Delayed(Scope.HOST, "421 busy", "4.3.2", "mx", 421),
        Failed(Scope.MESSAGE, "554 no", "5.7.1", "mx", 554),
    ],
)
def test_what_came_of_it(outcome: Delivered | Delayed | Failed) -> None:
    done = Transmission({ANN: outcome, BEN: Failed(Scope.RECIPIENT, "x")}, True, "TLSv1.3 X", "expired")
    read = read_transmission(told(spell_transmission(done, (ANN, BEN))), (ANN, BEN))
    assert read == done
    ours = read.outcomes[ANN]
    assert type(ours) is type(outcome)
    if isinstance(ours, Delivered) and isinstance(outcome, Delivered):
        # not compared
        assert (ours.reports, ours.expanded, ours.final) == (outcome.reports, outcome.expanded, outcome.final)


def test_who_is_left_out_stays_left_out() -> None:
    done = Transmission({BEN: Delivered("250 ok")})
    assert read_transmission(told(spell_transmission(done, (ANN, BEN))), (ANN, BEN)) == done

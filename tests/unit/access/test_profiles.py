"""Profiles: what a network may do, and what is required of it first, as tables."""

from ipaddress import ip_network

import pytest

from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile, Relay, Require, anywhere, may_relay, meets
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.source import BUILT_IN, Source

LINE = Source("mailserver.toml", 12)
COPIER = Address("Copier", "school.example")
BURSAR = Address("bursar", "town.example")
OTHER = Address("x", "elsewhere.example")


def listed(**lists: frozenset[str]) -> Profile:
    return Profile("copier", relay=Relay.LISTED, source=LINE, **lists)


SENDERS = listed(senders=frozenset({"copier@school.example", "@branch.example"}))
RECIPIENTS = listed(recipients=frozenset({"bursar@town.example", "@tax.example"}))
DOMAINS = listed(domains=frozenset({"town.example"}))
BOTH = listed(senders=frozenset({"@school.example"}), domains=frozenset({"town.example"}))


@pytest.mark.parametrize(
    ("profile", "sender", "recipient", "allowed", "rule"),
    [
        (None, COPIER, BURSAR, False, BUILT_IN),
        (Profile("lan", relay=Relay.ANYWHERE, source=LINE), COPIER, OTHER, True, LINE),
        (Profile("lan", relay=Relay.LOCAL, source=LINE), COPIER, OTHER, False, LINE),
        (SENDERS, COPIER, OTHER, True, LINE),
        (SENDERS, Address("anybody", "branch.example"), OTHER, True, LINE),
        (SENDERS, Address("anybody", "school.example"), OTHER, False, LINE),
        (SENDERS, NULL_SENDER, OTHER, False, LINE),
        (RECIPIENTS, COPIER, BURSAR, True, LINE),
        (RECIPIENTS, COPIER, Address("Bursar", "town.example"), True, LINE),
        (RECIPIENTS, COPIER, Address("mayor", "town.example"), False, LINE),
        (RECIPIENTS, COPIER, Address("mayor", "tax.example"), True, LINE),
        (DOMAINS, COPIER, Address("mayor", "town.example"), True, LINE),
        (DOMAINS, COPIER, Address("mayor", "sub.town.example"), False, LINE),
        (DOMAINS, COPIER, Address("mayor", "otown.example"), False, LINE),
        (BOTH, COPIER, BURSAR, True, LINE),
        (BOTH, OTHER, BURSAR, False, LINE),
        (BOTH, COPIER, OTHER, False, LINE),
    ],
)
def test_may_relay(
    profile: Profile | None, sender: Address, recipient: Address, allowed: bool, rule: Source
) -> None:
    verdict = may_relay(profile, sender, recipient)
    assert (verdict.allowed, verdict.source) == (allowed, rule)
    assert verdict.reason


@pytest.mark.parametrize(
    ("require", "tls", "login", "allowed"),
    [
        (None, False, "", True),
        (Require.NONE, False, "", True),
        (Require.TLS, False, "", False),
        (Require.TLS, False, "alice@example.lan", False),
        (Require.TLS, True, "", True),
        (Require.AUTH, True, "", False),
        (Require.AUTH, False, "alice@example.lan", True),
    ],
)
def test_meets(require: Require | None, tls: bool, login: str, allowed: bool) -> None:
    profile = None if require is None else Profile("lan", require=require, source=LINE)
    verdict = meets(profile, tls, login)
    assert verdict.allowed == allowed
    assert allowed or verdict.source == LINE


def test_the_most_specific_network_counts_alone() -> None:
    networks = Networks(
        (
            (ip_network("10.20.3.7/32"), Profile("copier", relay=Relay.LOCAL)),
            *anywhere([(ip_network("10.0.0.0/8"), LINE)]),
        )
    )
    found = {client: networks.match(client) for client in ("10.20.3.7", "10.20.3.8", "11.0.0.1")}
    assert found["11.0.0.1"] is None
    copier, neighbour = found["10.20.3.7"], found["10.20.3.8"]
    assert copier is not None
    assert neighbour is not None
    assert (copier.name, copier.relay) == ("copier", Relay.LOCAL)
    assert (neighbour.name, neighbour.relay, neighbour.source) == ("10.0.0.0/8", Relay.ANYWHERE, LINE)

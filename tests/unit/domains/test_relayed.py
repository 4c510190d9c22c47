"""Domains for which mail is handed on: who is known there."""

import pytest

from mailserver.domains.relayed import RelayDomain, RelayDomains
from mailserver.interfaces import Relayed
from mailserver.model.source import Source
from tests.support.fakes import address

ROUTE = Source("mailserver.toml", 7)
LISTED = RelayDomain(ROUTE, frozenset({"ann@listed.example", "per%cent@listed.example"}))
DOMAINS = RelayDomains({"listed.example": LISTED, "open.example": RelayDomain(ROUTE)})


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("ann@listed.example", True),
        ("Ann@listed.example", True),
        ("ann+tag@listed.example", True),
        ("anna@listed.example", False),
        ("ann%elsewhere.example@listed.example", False),
        ("ann+%elsewhere.example@listed.example", False),
        ("ann+tag%elsewhere.example@listed.example", False),
        ("ann+tag@elsewhere.example@listed.example", False),
        ("ann+elsewhere.example!tag@listed.example", False),
        ("per%cent@listed.example", True),
        ("postmaster@listed.example", True),
        ("PostMaster@listed.example", True),
        ("anybody@open.example", True),
        ("postmaster@open.example", True),
        # ways through the next host, which may trust us more than the client
        ("friend%elsewhere.example@open.example", False),
        ("elsewhere.example!friend@open.example", False),
        ("friend@elsewhere.example@open.example", False),
    ],
)
def test_known(text, known):
    assert DOMAINS.find(address(text)) == Relayed(ROUTE, known)


@pytest.mark.parametrize("text", ["ann@sub.listed.example", "ann@example", "postmaster", "x@[192.0.2.1]"])
def test_other_domains_mean_nothing(text):
    assert DOMAINS.find(address(text)) is None

"""The senders of forwarded mail, and the directory that knows them."""

import pytest

from mailserver.domains.senders import Senders
from mailserver.model.address import NULL_SENDER, Address

CAROL = Address("carol", "far.example")


def senders(**more):
    return Senders(lambda: 1.7e9, **{"key": b"secret", **more})


def test_there_and_back():
    policy = senders()
    under = policy.under(CAROL, "example.lan")
    assert under.domain == "example.lan"
    assert under.local.startswith("SRS0=")
    assert policy.behind(under) == CAROL
    policy.rewrites = False
    assert policy.under(CAROL, "example.lan") == CAROL
    assert policy.behind(under) == CAROL


@pytest.mark.parametrize("sender", [NULL_SENDER, Address("x" * 60, "far.example")])
def test_kept(sender):
    assert senders().under(sender, "example.lan") == sender


def test_without_a_key_nothing_is_done():
    under = senders().under(CAROL, "example.lan")
    assert senders(key=b"").under(CAROL, "example.lan") == CAROL
    assert senders(key=b"").behind(under) is None
    assert senders(key=b"another").behind(under) is None
    assert senders().behind(CAROL) is None

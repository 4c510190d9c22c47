"""Which route mail takes: the first that matches."""

from ipaddress import ip_network

import pytest

from mailserver.access.networks import Networks
from mailserver.access.routes import Route, To, choose, routed_domains
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.source import Source

SOURCE = Source("mailserver.toml", 7)
NETWORKS = Networks(((ip_network("192.0.2.0/24"), SOURCE),))


def matches(route, to="x.example.org", sender="example.lan", client="192.0.2.1", login="ann@example.lan"):
    recipient = Recipient(Address("bob", to))
    origin = Origin(address=client, login=login)
    return route.matches(recipient, Envelope(QueueID("Q"), Address("a", sender), (recipient,), origin, 0.0))


@pytest.mark.parametrize(
    ("route", "mail", "expected"),
    [
        (Route(), {}, True),
        (Route(domains=frozenset({"example.org"})), {"to": "example.org"}, True),
        (Route(domains=frozenset({"example.org"})), {"to": "x.example.org"}, False),
        (Route(domains=frozenset({".example.org"})), {"to": "x.example.org"}, True),
        (Route(domains=frozenset({".example.org"})), {"to": "a.b.example.org"}, True),
        (Route(domains=frozenset({".example.org"})), {"to": "example.org"}, False),
        (Route(domains=frozenset({".example.org"})), {"to": "notexample.org"}, False),
        (Route(senders=frozenset({"example.lan"})), {"sender": "example.lan"}, True),
        (Route(senders=frozenset({"example.lan"})), {"sender": ""}, False),
        (Route(networks=NETWORKS), {"client": "192.0.2.9"}, True),
        (Route(networks=NETWORKS), {"client": "198.51.100.1"}, False),
        (Route(networks=NETWORKS), {"client": ""}, False),
        (Route(users=frozenset({"ann@example.lan"})), {}, True),
        (Route(users=frozenset({"ann@example.lan"})), {"login": ""}, False),
        (Route(domains=frozenset({"x.example.org"}), users=frozenset({"eve@example.lan"})), {}, False),
    ],
)
def test_all_that_it_names_must_be_so(route, mail, expected):
    assert matches(route, **mail) is expected


def test_the_first_counts():
    recipient = Recipient(Address("bob", "example.org"))
    envelope = Envelope(QueueID("Q"), Address("a", "b"), (recipient,), Origin(), 0.0)
    never, first, second = Route(domains=frozenset({"x"})), Route(source=SOURCE), Route()
    assert choose((never, first, second), recipient, envelope) is first
    assert choose((never,), recipient, envelope) is None


LED = frozenset({"example.lan"})


@pytest.mark.parametrize(
    ("route", "takes"),
    [
        (Route(To.LMTP, domains=LED), True),
        (Route(To.PIPE, domains=LED), True),
        (Route(To.SMARTHOST, domains=LED), True),
        (Route(To.REFUSE, domains=LED), True),
        (Route(To.MX, domains=LED), False),
        (Route(To.BACKUP, domains=LED), False),
        (Route(To.LMTP), False),
        (Route(To.SMARTHOST, domains=frozenset({".lan"})), False),
        (Route(To.LMTP, domains=LED, senders=frozenset({"x.example"})), False),
    ],
)
def test_mail_for_a_domain_hosted_here(route, takes):
    """Only a route that names it leads it away, and none to its mail hosts: that is us."""
    recipient = Recipient(Address("bob", "example.lan"))
    envelope = Envelope(QueueID("Q"), Address("a", "b"), (recipient,), Origin(), 0.0)
    assert (choose((route,), recipient, envelope, is_hosted=True) is route) is takes


def test_the_domains_of_which_accounts_say_so():
    routes = (Route(To.LMTP, domains=LED), Route(To.MX, domains=frozenset({"x.example"})), Route())
    assert routed_domains(routes) == LED
    assert routed_domains(()) == frozenset()

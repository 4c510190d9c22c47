"""Routing as a table."""

import pytest
from attrs import evolve

from mailserver.delivery.routing import Forwarding, Local, Nowhere, Programs, Remote, route
from mailserver.interfaces import Account, Forward, Nobody, NotHosted, Relayed
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.source import Source

LINE = Source("domains/example.lan/aliases", 3)


def recipient(text):
    return Recipient(Address(*text.split("@")))


def envelope(*recipients):
    return Envelope(QueueID("Q1"), Address("s", "x"), tuple(map(recipient, recipients)), Origin(), 0.0)


class Standings:
    def __init__(self, standing):
        self.standing = standing

    def find(self, address):
        return self.standing


BOB = Address("bob", "example.lan")
ALL = Forward((BOB,), LINE, ("/bin/archive",))


ANN = Account("all@example.lan", source=LINE, routed=True)


@pytest.mark.parametrize(
    ("account", "led_away", "expected"),
    [
        (ANN, True, Remote("example.lan")),
        (ANN, False, Local(ANN)),
        (evolve(ANN, routed=False), True, Local(evolve(ANN, routed=False))),
        (evolve(ANN, disabled=True), True, Local(evolve(ANN, disabled=True))),
    ],
)
def test_mail_for_a_mailbox_here_that_a_route_leads_away(account, led_away, expected):
    mail = envelope("all@example.lan")
    assert route(mail.recipients[0], mail, Standings(account), lambda *_: led_away) == expected


@pytest.mark.parametrize(
    ("standing", "others", "expected"),
    [
        (Account("all@example.lan", source=LINE), (), Local(Account("all@example.lan", source=LINE))),
        (NotHosted(), (), Remote("example.lan")),
        (Relayed(LINE), (), Remote("example.lan")),
        (Relayed(LINE, known=False), (), Remote("example.lan")),
        (Nobody(LINE), (), Nowhere(LINE)),
        # An alias that was not expanded when the mail came.
        (Forward((BOB,), LINE), (), Forwarding(LINE)),
        (ALL, (), Forwarding(LINE)),
        # Expanded: bob has a copy of his own, the alias stands for its program.
        (ALL, ("BOB@example.lan",), Programs(("/bin/archive",), LINE)),
        (Forward((), LINE, ("/bin/archive",)), (), Programs(("/bin/archive",), LINE)),
    ],
)
def test_routes(standing, others, expected):
    here = recipient("all@example.lan")
    found = route(here, envelope("all@example.lan", *others), Standings(standing))
    assert found == expected
    assert found.source == expected.source

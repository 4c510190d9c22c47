"""Routing as a table."""

import pytest

from mailserver.delivery.routing import Forwarding, Local, Nowhere, Programs, Remote, route
from mailserver.interfaces import Account, Forward, Nobody, NotHosted
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


@pytest.mark.parametrize(
    ("standing", "others", "expected"),
    [
        (Account("all@example.lan", source=LINE), (), Local(Account("all@example.lan", source=LINE))),
        (NotHosted(), (), Remote("example.lan")),
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

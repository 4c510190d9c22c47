"""Which way mail for elsewhere goes: the ``[[route]]`` tables, of which the first that matches counts.

A pure decision: :func:`choose` gives the route, and the route names its line (law 9). A route matches where
all that it names does: the recipient's domain, the sender's, the network that the message came from, the
account that sent it. Mail for domains hosted here takes no route.
"""

from collections.abc import Collection, Sequence
from enum import Enum

from attrs import frozen

from mailserver.access.networks import Networks
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Login, Security
from mailserver.model.source import BUILT_IN, Source

__all__ = ["Route", "To", "choose"]


class To(Enum):
    """Where a route leads."""

    MX = "mx"
    SMARTHOST = "smarthost"
    DISCARD = "discard"
    REFUSE = "refuse"


@frozen
class Route:
    """One route.

    :ivar domains: of recipients, in lower case; with a dot in front, all below it; empty: any.
    :ivar senders: the same of senders.
    :ivar networks: of clients; ``None``: any.
    :ivar users: accounts that logged in; empty: any, and nobody.
    :ivar smarthosts: hosts and ports in order, with :attr:`To.SMARTHOST`.
    :ivar login: who we are there.
    :ivar text: what the sender is told, with :attr:`To.REFUSE`.
    """

    to: To = To.MX
    domains: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    networks: Networks[Source] | None = None
    users: frozenset[str] = frozenset()
    smarthosts: tuple[tuple[str, int], ...] = ()
    security: Security = Security.MAY
    login: Login | None = None
    text: str = ""
    source: Source = BUILT_IN

    def matches(self, recipient: Recipient, envelope: Envelope) -> bool:
        """Whether it is for this recipient of this message."""
        origin = envelope.origin
        return (
            _is_among(recipient.address.domain, self.domains)
            and _is_among(envelope.sender.domain, self.senders)
            and (self.networks is None or self.networks.match(origin.address) is not None)
            and (not self.users or origin.login in self.users)
        )


def choose(routes: Sequence[Route], recipient: Recipient, envelope: Envelope) -> Route | None:
    """The first route that matches; ``None``: none does."""
    return next((route for route in routes if route.matches(recipient, envelope)), None)


def _is_among(domain: str, listed: Collection[str]) -> bool:
    if not listed or domain in listed:
        return True
    labels = domain.split(".")
    return any("." + ".".join(labels[n:]) in listed for n in range(1, len(labels)))

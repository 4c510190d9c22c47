"""Which way mail goes: the ``[[route]]`` tables, of which the first that matches counts.

A pure decision: :func:`choose` gives the route, and the route names its line (law 9). A route matches where
all that it names does: the recipient's domain, the sender's, the network that the message came from, the
account that sent it.

Mail for mailboxes of a domain hosted here takes a route only if the route names that very domain, so that
``[[route]]`` tables for the world do not lead mail away from here; who exists there, this server's files say
all the same. To the MX hosts of a hosted domain no route leads: that is us.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import Enum

from attrs import field, frozen

from mailserver.access.networks import Networks
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Manner, NextHop
from mailserver.model.source import BUILT_IN, Source

__all__ = ["PLACES", "Identity", "Pipe", "Route", "To", "choose", "routed_domains"]


PLACES = ("sender", "recipient", "user", "domain", "queue_id", "size", "client_address")
"""What the words of a :class:`Pipe` may name of an envelope, between braces."""


class To(Enum):
    """Where a route leads."""

    MX = "mx"
    BACKUP = "backup"
    SMARTHOST = "smarthost"
    LMTP = "lmtp"
    PIPE = "pipe"
    DISCARD = "discard"
    REFUSE = "refuse"


@frozen
class Identity:
    """The user that a program runs as."""

    name: str
    uid: int
    gid: int
    home: str = "/"

    @property
    def spelled(self) -> str:
        """``name:uid:gid``."""
        return f"{self.name}:{self.uid}:{self.gid}"


@frozen
class Pipe:
    """The program that a route leads to.

    :ivar command: its words; in them ``{recipient}`` and the like stand for what is in the envelope.
    :ivar identity: whom it runs as; ``None``: as this server.
    :ivar each: it is run once for each recipient, and not once for all of a message.
    :ivar timeout: seconds that a run may take.
    :ivar processes: how many may run at once.
    """

    command: tuple[str, ...]
    identity: Identity | None = None
    each: bool = True
    timeout: float = 300.0
    processes: int = 5


@frozen
class Route:
    """One route.

    :ivar domains: of recipients, in lower case; with a dot in front, all below it; empty: any.
    :ivar senders: the same of senders.
    :ivar networks: of clients; ``None``: any.
    :ivar users: accounts that logged in; empty: any, and nobody.
    :ivar hops: whom it leads to, in order, with :attr:`To.SMARTHOST` and :attr:`To.LMTP`.
    :ivar manner: how they are spoken to.
    :ivar accepts: mail for its domains is taken from anybody.
    :ivar recipients: … to these, as keys; ``None``: to anybody there.
    :ivar lifetime: for how long it is tried, in seconds; 0: as all mail.
    :ivar pipe: the program, with :attr:`To.PIPE`.
    :ivar text: what the sender is told, with :attr:`To.REFUSE`.
    """

    to: To = To.MX
    domains: frozenset[str] = frozenset()
    senders: frozenset[str] = frozenset()
    networks: Networks[Source] | None = None
    users: frozenset[str] = frozenset()
    hops: tuple[NextHop, ...] = ()
    manner: Manner = field(factory=Manner)
    pipe: Pipe | None = None
    text: str = ""
    accepts: bool = False
    recipients: frozenset[str] | None = field(default=None, repr=False)
    lifetime: float = 0.0
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


def choose(
    routes: Sequence[Route], recipient: Recipient, envelope: Envelope, is_hosted: bool = False
) -> Route | None:
    """The first route that matches; ``None``: none does.

    :param is_hosted: the recipient's domain is hosted here.
    """
    for route in routes:
        if is_hosted and recipient.address.domain not in _led_away(route):
            continue
        if route.matches(recipient, envelope):
            return route
    return None


def routed_domains(routes: Iterable[Route]) -> frozenset[str]:
    """The domains whose mail a route leads away though they be hosted here."""
    return frozenset().union(*(_led_away(route) for route in routes))


def _led_away(route: Route) -> frozenset[str]:
    return frozenset() if route.to in (To.MX, To.BACKUP) else route.domains


def _is_among(domain: str, listed: Collection[str]) -> bool:
    if not listed or domain in listed:
        return True
    labels = domain.split(".")
    return any("." + ".".join(labels[n:]) in listed for n in range(1, len(labels)))

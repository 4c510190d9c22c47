"""What the clients of one network may do: a profile, found by the client's address.

A profile is a frozen value, made from a ``[[network]]`` table or from a line of ``relay.networks``; the most
specific network wins (:mod:`mailserver.access.networks`), and a client in none has no profile: it is a
stranger. Who asks gets a :class:`~mailserver.interfaces.Verdict` that names the line.
"""

from collections.abc import Iterable
from enum import Enum

from attrs import field, frozen

from mailserver.access.networks import Network
from mailserver.interfaces import Verdict
from mailserver.model.address import Address
from mailserver.model.source import BUILT_IN, Source

__all__ = ["Allowance", "Over", "Profile", "Relay", "Require", "anywhere", "may_relay", "meets"]


class Relay(Enum):
    """Where a network may send to, beside those who live here."""

    ANYWHERE = "anywhere"
    LOCAL = "local"
    LISTED = "listed"


class Require(Enum):
    """What a client must have done before MAIL."""

    NONE = "none"
    TLS = "tls"
    AUTH = "auth"


class Over(Enum):
    """What becomes of mail over a rate: come back later, go away, or wait in the queue for the admin."""

    DELAY = "delay"
    REFUSE = "refuse"
    HOLD = "hold"


@frozen
class Allowance:
    """How much may come in an hour; 0 means any number.

    :ivar over: what becomes of what is more.
    """

    messages: int = 0
    recipients: int = 0
    over: Over = Over.DELAY
    source: Source = BUILT_IN

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to count for."""
        return bool(self.messages or self.recipients)


@frozen
class Profile:
    """What one network may do.

    :ivar name: for the journal and ``mailctl devices``.
    :ivar owner: whom to call about it.
    :ivar senders: for ``Relay.LISTED``: addresses, and domains with ``@`` before them, in keys; empty: any.
    :ivar recipients: … whom they may write to, in the same spelling.
    :ivar domains: … and all of which domains; both empty: to anybody.
    :ivar message_size: octets; 0: as everybody.
    :ivar most_recipients: of one message; 0: as everybody.
    :ivar allowance: of all of the network together.
    :ivar plaintext_login: whether a password is taken without TLS.
    :ivar tls_minimum: the oldest TLS taken, as ``1.0``; empty: as everybody.
    :ivar sloppy: whether its devices' line ends, header fields and HELO names are mended.
    """

    name: str
    owner: str = ""
    relay: Relay = Relay.LOCAL
    senders: frozenset[str] = frozenset()
    recipients: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    require: Require = Require.NONE
    message_size: int = 0
    most_recipients: int = 0
    allowance: Allowance = field(factory=Allowance)
    plaintext_login: bool = False
    tls_minimum: str = ""
    sloppy: bool = False
    source: Source = BUILT_IN


def anywhere(networks: Iterable[tuple[Network, Source]]) -> tuple[tuple[Network, Profile], ...]:
    """The profiles that ``relay.networks`` is short for."""
    return tuple(
        (network, Profile(str(network), relay=Relay.ANYWHERE, source=source)) for network, source in networks
    )


def meets(profile: Profile | None, tls: bool, login: str) -> Verdict:
    """Whether a client has done what its network requires of it before MAIL (RFC 3207 §4, RFC 4954 §6)."""
    if profile is None:
        return Verdict(True, "a stranger")
    if profile.require is Require.AUTH and not login:
        return Verdict(False, f"{profile.name} requires a login", profile.source)
    if profile.require is Require.TLS and not tls:
        return Verdict(False, f"{profile.name} requires TLS", profile.source)
    return Verdict(True, f"{profile.name} asks for no more", profile.source)


def may_relay(profile: Profile | None, sender: Address, recipient: Address) -> Verdict:
    """Whether a client without a login may send to a recipient who does not live here."""
    if profile is None:
        where = recipient.domain or "no domain"
        return Verdict(False, f"{where} is not hosted here, and the client is in no relay network")
    name, source = profile.name, profile.source
    if profile.relay is Relay.ANYWHERE:
        return Verdict(True, f"relayed for {name}", source)
    if profile.relay is Relay.LOCAL:
        return Verdict(False, f"{name} may only send to those who live here", source)
    if profile.senders and not _names(profile.senders, sender):
        return Verdict(False, f"{sender or '<>'} is not among the senders of {name}", source)
    listed = profile.recipients or profile.domains
    if listed and not (_names(profile.recipients, recipient) or recipient.domain in profile.domains):
        return Verdict(False, f"{recipient} is not among the recipients of {name}", source)
    return Verdict(True, f"listed for {name}", source)


def _names(listed: frozenset[str], address: Address) -> bool:
    return address.key in listed or f"@{address.domain}" in listed

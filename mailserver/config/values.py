"""The configuration as values: paths absolute, durations in seconds, sizes in octets.

``docs/configuration.rst`` describes each key; the values here bear the same names.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from mailserver.access.profiles import Profile
from mailserver.access.rates import RateRules
from mailserver.access.routes import Route
from mailserver.domains.domain import Tree
from mailserver.model.exchanger import NextHop, Security
from mailserver.model.retry import Schedule
from mailserver.model.source import Problem, Source
from mailserver.net.certificates import Credentials
from mailserver.net.tls import Version

__all__ = [
    "DNS",
    "POP3",
    "TLS",
    "Config",
    "Delivery",
    "Forwarding",
    "Limits",
    "Listen",
    "Login",
    "Mailboxes",
    "Network",
    "Networks",
    "Proxy",
    "Relay",
    "Submission",
]

Network = IPv4Network | IPv6Network
Networks = tuple[tuple[Network, Source], ...]
"""Networks, each with the line that names it."""


@frozen
class Listen:
    """One listener.

    :ivar service: ``smtp``, ``submission``, ``submissions``, ``pop3`` or ``pop3s``.
    :ivar endpoint: for ``twisted.internet.endpoints.serverFromString``; it has been parsed once.
    """

    service: str
    endpoint: str
    source: Source


@frozen
class Relay:
    """Who may send anywhere without a password."""

    networks: Networks


@frozen
class Login:
    """How people log in.

    :ivar plaintext_networks: from where a password is taken on a connection without TLS.
    :ivar failures: wrong passwords for one account from one address that lock it out; 0: none do.
    :ivar lockout: for how long.
    :ivar exempt_networks: who is never locked out.
    :ivar remember: for how long a right password is known again without hashing; 0: not at all.
    """

    plaintext_networks: Networks
    failures: int
    lockout: float
    exempt_networks: Networks
    remember: float


@frozen
class TLS:
    """What this server shows in handshakes.

    :ivar pair: the files of the certificate for those who ask for no name that is known, and of its key;
        ``None``: see ``default``.
    :ivar directory: where certificates by name are; need not be there.
    :ivar minimum: the oldest version spoken.
    :ivar default: what was read from ``pair``, or the one in ``named`` for our own name; ``None``: make a
        self-signed one.
    :ivar named: what was read from ``directory``. Like ``default`` empty after
        :func:`~mailserver.config.load_server`.
    """

    pair: tuple[Path, Path] | None
    directory: Path
    minimum: Version
    default: Credentials | None = None
    named: tuple[Credentials, ...] = ()


@frozen
class Proxy:
    """Who may speak the PROXY protocol on listeners that want it: nobody else may connect there."""

    networks: Networks


@frozen
class DNS:
    """Whom to ask.

    :ivar servers: addresses and ports; empty: as in ``resolv.conf``.
    :ivar validating: they are believed what they say of DNSSEC also where they are not on this machine.
    """

    servers: tuple[tuple[str, int], ...]
    timeout: float
    validating: bool = False


@frozen
class Delivery:
    """How mail leaves.

    :ivar port: of remote mail hosts.
    :ivar smarthost: hosts in the order in which they are tried; empty: the MX hosts.
    :ivar loopback: whether a mail host with a loopback address is allowed.
    :ivar security: what TLS has to be on the way to hosts for which there is no route.
    :ivar dane: whether hosts are held against what DNS says of their certificates.
    :ivar mta_sts: whether the policies of MTA-STS are kept.
    :ivar mta_sts_port: of the hosts that have them.
    :ivar roots: the certificates (PEM) of the roots that are trusted instead of the system's; empty: those.
    :ivar own_names: names and IP addresses under which MX records mean us, beside our own.
    :ivar routes: the ``[[route]]`` tables, in order.
    :ivar history: for how long it is known what became of mail; 0: not at all.
    """

    port: int
    schedule: Schedule
    smarthost: tuple[NextHop, ...]
    loopback: bool
    connect_timeout: float
    greeting_timeout: float
    history: float
    security: Security = Security.MAY
    dane: bool = True
    mta_sts: bool = True
    mta_sts_port: int = 443
    roots: bytes = field(default=b"", repr=False)
    routes: tuple[Route, ...] = ()
    own_names: tuple[str, ...] = ()


@frozen
class Forwarding:
    """What becomes of mail that aliases send elsewhere.

    :ivar srs: it goes out under a sender of ours.
    """

    srs: bool


@frozen
class Mailboxes:
    """What is true of all mailboxes.

    :ivar quota_warnings: how full a mailbox is, in percent, when its user gets a letter; in order.
    :ivar keep_deleted: days for which deleted mail can be restored; 0: it cannot.
    """

    quota_warnings: tuple[int, ...]
    keep_deleted: int


@frozen
class Submission:
    """What is done with the mail of those who log in.

    :ivar hide_client: Received says nothing of where they are.
    """

    hide_client: bool


@frozen
class Limits:
    """Of one message: octets, and recipients; and what clients may do. 0 means any number.

    :ivar unknown_recipients: that a stranger may name in a session.
    :ivar connections: at once, of all services together.
    :ivar disk_reserve: octets that stay free; mail that would use them waits at its sender's.
    :ivar connections_per_address: … from one address that is in no ``[[network]]`` and no relay network.
    """

    message_size: int
    recipients: int
    unknown_recipients: int
    connections: int
    connections_per_address: int
    disk_reserve: int


@frozen
class POP3:
    """How mail is fetched.

    :ivar login_delay: between two logins to one account; 0: none.
    """

    login_delay: float


@frozen
class Config:
    """The whole configuration.

    :ivar file: where it was read from.
    :ivar profiles: those of the ``[[network]]`` tables, then those that ``relay.networks`` is short for.
    :ivar tree: the hosted domains; empty after :func:`~mailserver.config.load_server`.
    :ivar problems: warnings, none of them fatal.
    """

    file: Path
    hostname: str
    state: Path
    domains: Path
    workers: int | Literal["auto"]
    listen: tuple[Listen, ...]
    relay: Relay
    profiles: tuple[tuple[Network, Profile], ...]
    rates: RateRules
    greeting_delay: float
    login: Login
    tls: TLS
    proxy: Proxy
    dns: DNS
    delivery: Delivery
    forwarding: Forwarding
    mailboxes: Mailboxes
    limits: Limits
    submission: Submission
    pop3: POP3
    tree: Tree = field(repr=False)
    problems: tuple[Problem, ...]

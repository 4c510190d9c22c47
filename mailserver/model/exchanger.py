"""Mail hosts, as DNS names them and as they are asked (RFC 5321 §5.1)."""

from enum import Enum, IntEnum

from attrs import field, frozen

from mailserver.model.tlsa import Anchors

__all__ = ["MX", "Demand", "Exchanger", "Level", "Login", "Manner", "NextHop", "Security"]


class Security(Enum):
    """What TLS has to be on the way to a mail host."""

    NONE = "none"
    """There is none, whatever the host offers."""

    MAY = "may"
    """Where the host offers it; in clear where it does not come about (RFC 7435)."""

    ENCRYPT = "encrypt"
    """It has to be, with whomever."""

    VERIFY = "verify"
    """It has to be, with a certificate that a trusted root issued for the host's name."""

    DANE = "dane"
    """It has to be, with a certificate that DNS vouches for (RFC 7672)."""


class Level(IntEnum):
    """What TLS was on the way to a mail host; more is better."""

    CLEAR = 0
    ENCRYPTED = 1
    VERIFIED = 2


@frozen(cache_hash=True)
class Demand:
    """What TLS has to be on the way to one host, and why.

    :ivar reason: why it is not just what was configured: ``DANE``, ``MTA-STS`` …; empty: it is.
    :ivar anchors: with :attr:`Security.DANE`: what the host is held against.
    :ivar is_trial: the host should be verifiable, and it is only noted where it is not (RFC 8461 §5).
    """

    security: Security = Security.MAY
    reason: str = ""
    anchors: Anchors | None = None
    is_trial: bool = False

    def __str__(self) -> str:
        return f"{self.security.value} ({self.reason})" if self.reason else self.security.value


@frozen
class Login:
    """Who we are at a host that relays for us."""

    name: str
    password: str = field(repr=False)


@frozen(order=True)
class MX:
    """One MX record. The lower preference is tried first. ``host`` is empty for a null MX (RFC 7505)."""

    preference: int
    host: str


@frozen
class NextHop:
    """A host that the administrator names to take mail from us.

    :ivar host: a name in lower case, an IP address, or the path of a UNIX socket.
    :ivar port: 0 where it is a socket.
    :ivar wrapped: TLS comes before the greeting (RFC 8314 §3.3), not by STARTTLS.
    """

    host: str
    port: int = 25
    wrapped: bool = False

    def __str__(self) -> str:
        if not self.port:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'smtps://' if self.wrapped else ''}{host}:{self.port}"


@frozen
class Manner:
    """How the hosts of one route are spoken to.

    :ivar login: who we are there; ``None``: we do not log in.
    :ivar lmtp: the protocol is LMTP (RFC 2033) and not SMTP.
    :ivar roots: the certificates (PEM) of the roots that are trusted there; empty: those of the system.
    """

    security: Security = Security.MAY
    login: Login | None = None
    lmtp: bool = False
    roots: bytes = field(default=b"", repr=False)


@frozen(cache_hash=True)
class Exchanger:
    """One address of one mail host: something to connect to.

    :ivar host: the host's name, lower case; what TLS and the reports call it.
    :ivar address: an IP address as text, or the path of a UNIX socket.
    :ivar preference: of the MX record it comes from; 0 for an implicit MX or a smarthost.
    :ivar wrapped: TLS comes before the greeting.
    :ivar is_vouched: the name is beyond doubt: DNSSEC, the recipient's domain or the administrator says it.
    :ivar bases: the names under which TLSA records count for it, in order; empty where DNSSEC does not vouch
        for the way there (RFC 7672 §2.2).
    :ivar demand: what TLS has to be, in the end; ``None``: what ``security`` says.

    The others as in :class:`Manner`.
    """

    host: str
    address: str
    port: int
    preference: int = 0
    security: Security = Security.MAY
    login: Login | None = None
    wrapped: bool = False
    lmtp: bool = False
    roots: bytes = field(default=b"", repr=False)
    is_vouched: bool = field(default=False, eq=False)
    bases: tuple[str, ...] = field(default=(), eq=False)
    demand: Demand | None = None

    @property
    def is_socket(self) -> bool:
        """Whether it is a UNIX socket: a program on this machine, and no network between."""
        return self.address.startswith("/")

    def __str__(self) -> str:
        if self.is_socket:
            return self.address
        return f"{self.host}[{self.address}]:{self.port}"

"""Mail hosts, as DNS names them and as they are asked (RFC 5321 §5.1)."""

from enum import Enum

from attrs import field, frozen

__all__ = ["MX", "Exchanger", "Login", "Manner", "NextHop", "Security"]


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


@frozen
class Exchanger:
    """One address of one mail host: something to connect to.

    :ivar host: the host's name, lower case; what TLS and the reports call it.
    :ivar address: an IP address as text, or the path of a UNIX socket.
    :ivar preference: of the MX record it comes from; 0 for an implicit MX or a smarthost.
    :ivar wrapped: TLS comes before the greeting.

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

    @property
    def is_socket(self) -> bool:
        """Whether it is a UNIX socket: a program on this machine, and no network between."""
        return self.address.startswith("/")

    def __str__(self) -> str:
        if self.is_socket:
            return self.address
        return f"{self.host}[{self.address}]:{self.port}"

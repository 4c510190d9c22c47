"""Mail hosts, as DNS names them and as they are asked (RFC 5321 §5.1)."""

from enum import Enum

from attrs import field, frozen

__all__ = ["MX", "Exchanger", "Login", "Security"]


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
class Exchanger:
    """One address of one mail host: something to connect to.

    :ivar host: the host's name, lower case; what TLS and the reports call it.
    :ivar address: an IP address as text.
    :ivar preference: of the MX record it comes from; 0 for an implicit MX or a smarthost.
    :ivar login: who we are there; ``None``: we do not log in.
    """

    host: str
    address: str
    port: int
    preference: int = 0
    security: Security = Security.MAY
    login: Login | None = None

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"

"""Mail hosts, as DNS names them and as they are asked (RFC 5321 §5.1)."""

from attrs import frozen

__all__ = ["MX", "Exchanger"]


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
    """

    host: str
    address: str
    port: int
    preference: int = 0

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"

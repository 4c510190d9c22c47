"""The senders of forwarded mail: the address under which it goes out, and who is behind such an address.

The policy over :mod:`mailserver.wire.srs`: mail from the null sender keeps it; other mail goes out under an
address in the domain that forwards it. Whom this server may send for is for its callers to know.
"""

from collections.abc import Callable

from attrs import define, field

from mailserver.model.address import Address
from mailserver.wire.srs import fold, unfold

__all__ = ["Senders"]


@define(eq=False)
class Senders:
    """Rewrites senders and takes that back.

    :ivar now: seconds since 1970.
    :ivar key: this server's secret; while it is empty nothing is rewritten nor taken back.
    :ivar rewrites: whether senders are rewritten. What has been is taken back in any case.
    """

    now: Callable[[], float]
    key: bytes = field(default=b"", repr=False)
    rewrites: bool = True

    def under(self, sender: Address, domain: str) -> Address:
        """Under which sender mail from ``sender`` is forwarded by an address in a hosted ``domain``."""
        if not self.rewrites or not self.key:
            return sender
        return fold(sender, domain, self.key, self.now()) or sender

    def behind(self, address: Address) -> Address | None:
        """To whom mail to an address of :meth:`under` is for; ``None``: it is none, or too old."""
        if not self.key or address.local[:4].upper() not in ("SRS0", "SRS1"):
            return None
        return unfold(address, self.key, self.now())

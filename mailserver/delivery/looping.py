"""Whether a message loops: has been at an alias that forwards it, or on too many servers (RFC 5321 §6.3)."""

from mailserver.delivery.reading import beginning
from mailserver.interfaces import IContent
from mailserver.model.address import Address
from mailserver.model.outcome import Failed, Scope
from mailserver.wire.trace import HeaderScan, delivered_to, field_values

__all__ = ["LOOP", "loops", "read_header"]

_HEADER = 64 * 1024
_MOST_HOPS = 50

LOOP = Failed(Scope.RECIPIENT, "the mail loops", "5.4.6")
"""What becomes of mail that does."""


async def read_header(content: IContent) -> HeaderScan:
    """The header section, as far as it is looked at. Raises :class:`StorageTrouble`."""
    scan = HeaderScan(_HEADER)
    scan.feed(await beginning(content, _HEADER))
    return scan


def loops(header: HeaderScan, alias: Address) -> bool:
    """Whether the message has been through this alias, or through too many servers."""
    mark = delivered_to(alias).partition(b":")[2].strip().lower()
    marks = field_values(header.header, "Delivered-To")
    return header.hops > _MOST_HOPS or any(value.lower() == mark for value in marks)

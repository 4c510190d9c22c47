"""Reading the beginning of a stored message."""

from mailserver.interfaces import IContent

__all__ = ["beginning"]


async def beginning(content: IContent, most: int) -> bytes:
    """The first ``most`` octets, or all where it has fewer. Raises ``StorageTrouble``."""
    whole = content.whole()
    if whole is not None:
        return whole[:most]
    data = bytearray()
    while len(data) < most and (more := await content.read(len(data), most - len(data))):
        data += more
    return bytes(data)

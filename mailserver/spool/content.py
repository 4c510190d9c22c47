"""Stored content, as those who deliver read it."""

from pathlib import Path

from zope.interface import implementer

from mailserver.interfaces import IContent, StorageTrouble
from mailserver.spool.disk import Disk
from mailserver.spool.trouble import as_trouble
from mailserver.threads import Busy, Pool

__all__ = ["FileContent", "MemoryContent"]


@implementer(IContent)
class MemoryContent:
    """Content at hand."""

    __slots__ = ("_octets", "is_in_pairs", "size")

    def __init__(self, octets: bytes, is_in_pairs: bool = False) -> None:
        self._octets = octets
        self.is_in_pairs = is_in_pairs
        self.size = len(octets)

    def whole(self) -> bytes | None:
        """All of it."""
        return self._octets

    async def read(self, offset: int, length: int) -> bytes:
        """A part of it."""
        return self._octets[offset : offset + length]


@implementer(IContent)
class FileContent:
    """Content in a file.

    The file is opened for each read, so nothing has to be closed however a delivery ends. One that is
    missing, unreadable or shorter than ``size`` is :class:`StorageTrouble` at the read that shows it.
    """

    __slots__ = ("_disk", "_path", "_pool", "size")

    is_in_pairs = False

    def __init__(self, disk: Disk, pool: Pool, path: Path, size: int) -> None:
        self._disk = disk
        self._pool = pool
        self._path = path
        self.size = size

    def whole(self) -> bytes | None:
        """Never at hand."""
        return None

    async def read(self, offset: int, length: int) -> bytes:
        """A part of it, from the disk."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        try:
            octets = await self._pool.run(self._disk.read, self._path, offset, length)
        except (OSError, Busy) as error:
            raise as_trouble(error) from error
        if not octets:
            raise StorageTrouble(f"{self._path.name} ends at {offset} of {self.size} octets")
        return octets

"""Random bits of the system's, fetched many at a time.

A call of the system for each would cost more than all else about a queue ID.
"""

import os

__all__ = ["Entropy"]

_FETCHED = 4096


class Entropy:
    """Gives bits, each once. For one thread, and never across a fork."""

    __slots__ = ("_next", "_octets")

    def __init__(self) -> None:
        self._octets = b""
        self._next = 0

    def __call__(self, bits: int) -> int:
        """A number of so many random bits, as of ``secrets.randbits``."""
        count = (bits + 7) // 8
        begin, end = self._next, self._next + count
        if end > len(self._octets):
            self._octets = os.urandom(max(_FETCHED, count))
            begin, end = 0, count
        self._next = end
        return int.from_bytes(self._octets[begin:end], "big") >> (8 * count - bits)

"""The part of a message that TOP sends: its header and the first lines of its body (RFC 1939 §7)."""

__all__ = ["Excerpt"]


class Excerpt:
    """Fed with a message in wire form, in chunks of any size, it gives the part back.

    :param lines: how many lines of the body, from 0 on.
    """

    __slots__ = ("_lines", "_tail", "complete")

    def __init__(self, lines: int) -> None:
        self.complete = False
        """Nothing of what follows belongs to it: the rest need not be read."""
        self._lines = lines
        # The last octets of the header, where its end may begin; ``None`` in the body. The first line
        # begins as if after a CRLF: a message may have an empty header.
        self._tail: bytes | None = b"\r\n"

    def feed(self, data: bytes) -> bytes:
        """What belongs to the part."""
        if self._tail is None:
            return self._body(data)
        joined = self._tail + data
        end = joined.find(b"\r\n\r\n")
        if end < 0:
            self._tail = joined[-3:]
            return data
        border = end + 4 - len(self._tail)
        self._tail = None
        return data[:border] + self._body(data[border:])

    def _body(self, data: bytes) -> bytes:
        if self.complete:
            return b""
        count = data.count(b"\n")
        if count < self._lines:
            self._lines -= count
            return data
        self.complete = True
        end = 0
        for _ in range(self._lines):
            end = data.index(b"\n", end) + 1
        return data[:end]

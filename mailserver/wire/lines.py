"""Bounded CRLF framing of command lines (RFC 5321 §2.3.8, §4.5.3.1.4; RFC 1939 §3).

Bytes go in with :meth:`Lines.feed` in whatever pieces the network makes of them; lines come out of
:meth:`Lines.next`. Only CRLF ends a line. However the input is cut, the same lines and flaws come out in
the same order, at a cost linear in the input and with no more held than was fed since the last line plus
one line.

Flaws: a line over the limit, and a line with a bare LF, are told once, as soon as they show, and the rest
of that line up to its CRLF is dropped unseen: nothing of it is ever taken for a command. A line that ends
properly but holds a CR or a NUL is told in place of the line.
"""

from enum import Enum

__all__ = ["Flaw", "Lines"]


class Flaw(Enum):
    """Why a line is not handed out."""

    TOO_LONG = "too long"
    BAD_OCTET = "a bare CR or LF, or a NUL"


class Lines:
    """A receive buffer that hands out lines.

    :param limit: the longest line, in octets including its CRLF.
    """

    __slots__ = ("_dropping", "_scanned", "_start", "dropped", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        """Octets dropped of flawed lines so far."""
        self.held: bytes | bytearray = b""
        """What came, as it came; empty where nothing waits to be handed out."""
        # A bytearray only where something was left over when more came. Usually a read brings whole lines, or
        # content, and nothing has to be copied.
        self._start = 0  # where the next line begins
        self._scanned = 0  # there is no LF between _start and here
        self._dropping = False

    def __len__(self) -> int:
        """Octets held and not yet handed out."""
        return len(self.held) - self._start

    def feed(self, data: bytes) -> None:
        """Add what the network brought."""
        if not self.held:
            self.held = data
            return
        if isinstance(self.held, bytes):
            self.held = bytearray(self.held)
        if self._start:
            # Handed-out octets are dropped here, once a read, and not once a line: that is what keeps the
            # cost linear.
            del self.held[: self._start]
            self._scanned -= self._start
            self._start = 0
        self.held += data

    def next(self) -> bytes | Flaw | None:
        """The next line without its CRLF, or its flaw; ``None`` until more is fed."""
        if self._dropping and not self._drop():
            return None
        buffer = self.held
        end = buffer.find(b"\n", self._scanned)
        line: bytes | Flaw | None
        if not self._start and end == len(buffer) - 1 < self.limit and buffer.endswith(b"\r\n"):
            # Nearly always: one line, which came by itself.
            line = bytes(buffer[:-2])
            self.held = b""
            self._scanned = 0
        else:
            line = self._cut(end)
            if not isinstance(line, bytes):
                return line
        if b"\r" in line or b"\0" in line:
            self.dropped += len(line) + 2
            return Flaw.BAD_OCTET
        return line

    def _cut(self, end: int) -> bytes | Flaw | None:
        """The line up to its LF, which is here if it has come; or what is wrong with its end."""
        buffer, start = self.held, self._start
        if end < 0:
            self._scanned = len(buffer)
            return self._flaw(Flaw.TOO_LONG) if len(buffer) - start >= self.limit else None
        if end - start >= self.limit:
            return self._flaw(Flaw.TOO_LONG)
        self._consume(end + 1)
        if end == start or buffer[end - 1] != 13:
            self.dropped += end + 1 - start
            self._dropping = True
            return Flaw.BAD_OCTET
        return bytes(buffer[start : end - 1])

    def take(self, limit: int | None = None) -> bytes:
        """What is held, as it came: for input that is not lines; of that, at most ``limit`` octets."""
        if limit is not None and limit < len(self):
            data = bytes(self.held[self._start : self._start + limit])
            self._consume(self._start + limit)
            return data
        data = bytes(self.held[self._start :]) if self._start else bytes(self.held)
        self.clear()
        return data

    def clear(self) -> None:
        """Forget all that is held."""
        self.held = b""
        self._start = self._scanned = 0
        self._dropping = False

    def _consume(self, end: int) -> None:
        """What stands before ``end`` has been handed out."""
        if end == len(self.held):
            self.held = b""
            end = 0
        self._start = self._scanned = end

    def _flaw(self, flaw: Flaw) -> Flaw:
        self._dropping = True
        self._drop()
        return flaw

    def _drop(self) -> bool:
        """Drop up to the end of the flawed line; whether that end has come."""
        buffer, start = self.held, self._start
        end = buffer.find(b"\r\n", start)
        if end < 0:
            # A CR at the very end may be half of the CRLF that ends the line.
            keep = 1 if len(buffer) > start and buffer[-1] == 13 else 0
            self.dropped += len(buffer) - start - keep
            self.held = buffer[len(buffer) - keep :]
            self._start = self._scanned = 0
            return False
        self.dropped += end + 2 - start
        self._consume(end + 2)
        self._dropping = False
        return True

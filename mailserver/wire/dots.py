"""Dot-stuffing, the end of data, and line ends: message content between the wire and the store.

Content inside this server is in *wire form*: lines end in CRLF, nothing is dot-stuffed. The classes here
are streams: fed with chunks of any size, they give the same octets however the input was cut, in time
linear in it, and keep at most four octets in between. All work is done by operations on whole chunks.

- :class:`Unstuffer`: what comes after DATA → content (RFC 5321 §4.5.2, §4.1.1.4).
- :class:`Stuffer`: content → what follows DATA, or RETR and TOP of POP3 (RFC 1939 §3).
- :class:`WireForm`: a file with LF line ends → content.

Only CRLF.CRLF ends the data. LF.LF, CR.CR, LF.CRLF and all their cousins are content, of a kind that no
mail may have: servers that disagree about them can be made to see two messages where one was sent ("SMTP
smuggling"). So they are noticed here, and refused when the data has ended; not sooner, or the rest of the
message would be read as commands.
"""

__all__ = ["Stuffer", "Unstuffer", "WireForm"]

_END = b"\r\n.\r\n"


class Unstuffer:
    """The content of one message out of the octets that follow DATA.

    :param longest_line: octets of the longest line taken, its CRLF included, a stuffed dot not
        (RFC 5321 §4.5.3.1.6 asks for 1000).
    """

    __slots__ = ("_held", "_line", "_longest", "_unsent", "finished", "flawed", "rest", "size")

    def __init__(self, longest_line: int = 65536) -> None:
        self.finished = False
        """Whether the end of the data has been seen."""
        self.rest = b""
        """What came behind the end."""
        self.flawed = False
        """Whether the content so far holds a bare CR, a bare LF, a NUL or too long a line. Such a message
        is to be refused once it has ended."""
        self.size = 0
        """Octets of content so far, those of a flawed message included."""
        self._longest = longest_line
        self._line = 0  # octets of content since the last CRLF
        # The last octets, where the end may begin with them. The data begins as if a CRLF had gone before:
        # a dot that is the very first octet stands at the beginning of a line.
        self._held = b"\r\n"
        self._unsent = 2  # octets of that CRLF, which is not content

    def feed(self, data: bytes) -> bytes:
        """Take what came; give the content that is now certain, and nothing once it is flawed."""
        if self.finished:
            self.rest += data
            return b""
        data = self._held + data
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_END) :]
            self._held = b""
            raw = data[: end + 2]
        else:
            certain = len(data) - _held_back(data)
            raw, self._held = data[:certain], data[certain:]
        if not raw:
            return b""
        # What is held begins with CR, so that neither a CRLF nor a stuffed dot is ever cut in two.
        content = raw.replace(b"\r\n.", b"\r\n")
        if self._unsent:
            content, self._unsent = content[self._unsent :], 0
        self.size += len(content)
        if not self.flawed:
            self.flawed = _has_bad_octet(content) or self._has_long_line(content)
        return b"" if self.flawed else content

    def _has_long_line(self, content: bytes) -> bool:
        start, length = -self._line, len(content)
        while length - start > self._longest:
            # Jumps from line end to line end, each as far as a line may reach.
            end = content.rfind(b"\r\n", max(start, 0), start + self._longest)
            if end < 0:
                return True
            start = end + 2
        end = content.rfind(b"\r\n")
        self._line = length - end - 2 if end >= 0 else self._line + length
        return False


def _held_back(data: bytes) -> int:
    """How many of the last octets may be the beginning of the end."""
    for size in (4, 3, 2, 1):
        if data.endswith(_END[:size]):
            return size
    return 0


def _has_bad_octet(content: bytes) -> bool:
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs or b"\0" in content


class Stuffer:
    """Content as it goes out: every line that begins with a dot begins with two."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets so far; the first line begins as if after a CRLF

    def feed(self, data: bytes) -> bytes:
        """The next chunk of content, stuffed. Content is in wire form; see the module's text."""
        tail = self._tail
        data = tail + data
        self._tail = data[-2:]
        return data.replace(b"\r\n.", b"\r\n..")[len(tail) :]

    def finish(self) -> bytes:
        """The end of the data, with a CRLF before it where the content did not end with one."""
        return b".\r\n" if self._tail == b"\r\n" else _END


class WireForm:
    """LF line ends to CRLF. A line end that is CRLF already stays, and so does a CR alone."""

    __slots__ = ("_after_cr",)

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """The next chunk of the file, in wire form."""
        if not data:
            return b""
        head = b""
        if self._after_cr and data.startswith(b"\n"):
            head, data = b"\n", data[1:]  # the other half of a CRLF
        self._after_cr = data.endswith(b"\r")
        return head + data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

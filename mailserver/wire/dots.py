"""Dot-stuffing, the end of data, and line ends: message content between the wire and the store.

Content inside this server is in *wire form*: lines end in CRLF, nothing is dot-stuffed. The classes here
are streams: fed with chunks of any size, they give the same octets however the input was cut, in time
linear in it, and keep at most four octets in between. All work is done by operations on whole chunks.

- :class:`Unstuffer`: what comes after DATA → content (RFC 5321 §4.5.2, §4.1.1.4).
- :class:`Chunks`: what comes after BDAT → content (RFC 3030).
- :class:`Stuffer`: content → what follows DATA, or RETR and TOP of POP3 (RFC 1939 §3).
- :class:`WireForm`: a file with LF line ends → content.

Only CRLF.CRLF ends the data. LF.LF, CR.CR, LF.CRLF and all their cousins are content, of a kind that no
mail may have: servers that disagree about them can be made to see two messages where one was sent ("SMTP
smuggling"). So they are noticed here, and refused when the data has ended; not sooner, or the rest of the
message would be read as commands.

For devices that end lines as they like, both can repair: each bare CR and bare LF is made a CRLF, in the
content and nowhere else. Their data, too, ends with CRLF.CRLF and with nothing else, for where a device and
an attacker behind it could disagree about the end, there would be smuggling again; and a dot is unstuffed
behind a CRLF only. A device that does not even end its commands with CRLF is not understood.
"""

__all__ = ["Chunks", "Stuffer", "Unstuffer", "WireForm", "in_pairs", "stuffed"]

_END = b"\r\n.\r\n"


class Unstuffer:
    """The content of one message out of the octets that follow DATA.

    :param longest_line: octets of the longest line taken, its CRLF included, a stuffed dot not
        (RFC 5321 §4.5.3.1.6 asks for 1000).
    :param repair: make a CRLF of a bare CR and of a bare LF. What ends the data is the same.
    """

    __slots__ = ("_held", "_text", "_unsent", "finished", "rest", "size")

    def __init__(self, longest_line: int = 65536, repair: bool = False) -> None:
        self.finished = False
        """Whether the end of the data has been seen."""
        self.rest = b""
        """What came behind the end."""
        self.size = 0
        """Octets of content so far, those of a flawed message included."""
        self._text = _Text(longest_line, repair)
        # The last octets, where the end may begin with them. The data begins as if a CRLF had gone before:
        # a dot that is the very first octet stands at the beginning of a line.
        self._held = b"\r\n"
        self._unsent = 2  # octets of that CRLF, which is not content

    @property
    def flawed(self) -> bool:
        """Whether the content so far holds a bare CR, a bare LF, a NUL or too long a line. Such a message
        is to be refused once it has ended."""
        return self._text.flawed

    def feed(self, data: bytes) -> bytes:
        """Take what came; give the content that is now certain, and nothing once it is flawed."""
        if self.finished:
            self.rest += data
            return b""
        data = self._held + data
        # Few messages have a line that begins with a dot: what holds none is looked through once.
        dotted = _dotted(data)
        end = data.find(_END, dotted) if dotted >= 0 else -1
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
        content = raw if dotted == end else raw.replace(b"\r\n.", b"\r\n")
        if self._unsent:
            content, self._unsent = content[self._unsent :], 0
        self.size += len(content)
        return self._text.look(content)


class Chunks:
    """The content of one message out of the chunks of BDAT (RFC 3030 §2): octets as they are, no dots.

    It is text all the same, for this server does not offer BINARYMIME: the same is flawed as behind DATA. A
    last line without an end gets one. Parameters as of :class:`Unstuffer`.
    """

    __slots__ = ("_held", "_open", "_text")

    def __init__(self, longest_line: int = 65536, repair: bool = False) -> None:
        self._text = _Text(longest_line, repair)
        self._held = b""  # a CR that may be half of a CRLF
        self._open = False  # the last line so far has no end

    @property
    def flawed(self) -> bool:
        """As :attr:`Unstuffer.flawed`."""
        return self._text.flawed

    def feed(self, data: bytes) -> bytes:
        """Take what came; give the content that is now certain, and nothing once it is flawed."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return self._look(data[: len(data) - len(self._held)])

    def finish(self) -> bytes:
        """The message has ended; give the rest of the content."""
        rest = self._look(self._held)
        return rest if self.flawed or not self._open else rest + b"\r\n"

    def _look(self, data: bytes) -> bytes:
        content = self._text.look(data)
        if content:
            self._open = not content.endswith(b"\n")
        return content


class _Text:
    """Watches over content that passes in pieces, none of which ends in the midst of a CRLF."""

    __slots__ = ("_line", "_longest", "_repair", "flawed")

    def __init__(self, longest_line: int, repair: bool) -> None:
        self.flawed = False
        self._longest = longest_line
        self._repair = repair
        self._line = 0  # octets since the last CRLF

    def look(self, content: bytes) -> bytes:
        """The piece, or what has been made of it; nothing once something was flawed."""
        if self.flawed or not content:
            return b""
        if self._repair:
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        self.flawed = in_pairs(content) is None or b"\0" in content or self._has_long_line(content)
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


def _dotted(data: bytes) -> int:
    """Where the first CRLF stands that a dot follows; -1: nowhere."""
    # Only from the first dot to the last. One octet is found many times faster than three, and what is large
    # is mostly base64, which holds no dot at all.
    last = data.rfind(b".")
    return data.find(b"\r\n.", max(data.find(b".") - 2, 0), last + 1) if last >= 0 else -1


def _held_back(data: bytes) -> int:
    """How many of the last octets may be the beginning of the end."""
    for size in (4, 3, 2, 1):
        if data.endswith(_END[:size]):
            return size
    return 0


def in_pairs(content: bytes) -> bytes | None:
    """Content with LF for each CRLF; ``None`` if a CR or an LF stands alone in it."""
    # Where all CRs are gone and each LF got one they come in pairs only, so it is the content again only if
    # they did there. Single octets are found by memchr: to look for pairs takes three times as long.
    lines = content.replace(b"\r", b"")
    return lines if lines.replace(b"\n", b"\r\n") == content else None


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
        if _dotted(data) >= 0:
            data = data.replace(b"\r\n.", b"\r\n..")
        return data[len(tail) :]

    def finish(self) -> bytes:
        """The end of the data, with a CRLF before it where the content did not end with one."""
        return b".\r\n" if self._tail == b"\r\n" else _END


def stuffed(content: bytes) -> bytes:
    """All of a message's content as it goes out, its end included: what a :class:`Stuffer` makes of it."""
    if content.startswith(b".") or _dotted(content) >= 0:
        content = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    return content + (b".\r\n" if not content or content.endswith(b"\r\n") else _END)


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
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        return head + data.replace(b"\n", b"\r\n")

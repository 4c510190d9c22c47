"""SMTP replies between bytes and values (RFC 5321 §4.2, RFC 2034, RFC 3463).

Out, a reply is made of printable ASCII whatever its text holds, in lines of at most 512 octets. In, the
remote server is a stranger: its replies are bounded in lines and octets, have one code on all lines, and
what is handed on holds no control characters. A text that is too long is cut, and one that holds a CR or a
NUL is mended: the code counts, or a refusal would be taken for trouble with the host. Anything else raises
:class:`BadSyntax`, but only after the replies before it have been handed out: a flaw that follows the
answer to the final dot must not make us forget that the mail was taken.
"""

import re
from functools import lru_cache

from mailserver.model.reply import Reply
from mailserver.wire.syntax import BadSyntax

__all__ = ["ReplyReader", "enhanced_status", "parse_extensions", "spell_reply"]

_LONGEST_OUT = 512  # octets of a line with its CRLF, RFC 5321 §4.5.3.1.5
_LONGEST_IN = 2048  # as much as others send
_MOST_LINES = 100
_MOST_DROPPED = 64 * 1024  # of one line

_LINE_END = re.compile(r"\r\n|\r|\n")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})(?![^ ])")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+")


@lru_cache(maxsize=256)  # for the constant replies; those that name a queue ID pass through
def spell_reply(reply: Reply) -> bytes:
    """The reply on the wire, its enhanced status code on each line (RFC 2034 §4)."""
    text = reply.text
    status = f"{reply.status} " if reply.status else ""
    if text.isascii() and text.isprintable():
        return _spell_line(f"{reply.code} {status}{text}")
    texts = [_UNPRINTABLE.sub("?", line) for line in _LINE_END.split(text)]
    marks = "-" * (len(texts) - 1) + " "
    lines = [f"{reply.code}{mark}{status}{text}" for mark, text in zip(marks, texts, strict=True)]
    return b"".join(map(_spell_line, lines))


def _spell_line(line: str) -> bytes:
    return line.rstrip(" ")[: _LONGEST_OUT - 2].encode("ascii") + b"\r\n"


class ReplyReader:
    """The replies of a remote server, out of the pieces in which they come.

    :param longest_line: octets of a line, its CRLF included, that are looked at.
    :param most_lines: of one reply.
    """

    __slots__ = (
        "_begun", "_buffer", "_code", "_cut", "_dropped", "_longest", "_most_lines", "_texts", "_trouble"
    )  # fmt: skip

    def __init__(self, longest_line: int = _LONGEST_IN, most_lines: int = _MOST_LINES) -> None:
        self._longest = longest_line
        self._buffer = bytearray()
        self._cut = b""  # the beginning of a line that is too long and has not ended yet
        self._dropped = 0  # octets of that line
        self._most_lines = most_lines
        self._trouble: BadSyntax | None = None
        self._begin()

    @property
    def pending(self) -> int:
        """Octets that came and have not been handed out as a reply; not 0 once there was a flaw."""
        return len(self._buffer) + self._dropped + self._begun + (self._trouble is not None)

    def feed(self, data: bytes) -> list[Reply]:
        """Take what came; give the replies that are now complete.

        :raises BadSyntax: on a flaw. When there are replies before it, these are returned and the next
            call raises, as does every one after, until :meth:`clear`.
        """
        if self._trouble:
            raise self._trouble
        if usual := self._usual(data):
            return usual
        self._buffer += data
        replies: list[Reply] = []
        try:
            while (line := self._next_line()) is not None:
                if reply := self._take(line):
                    replies.append(reply)
        except BadSyntax as trouble:
            self._trouble = trouble
            self._forget()
            if not replies:
                raise
        return replies

    def _usual(self, data: bytes) -> list[Reply]:
        """The replies, where each is one short line and nothing is in pieces; else none."""
        if not data.endswith(b"\r\n") or len(data) > self._longest or self.pending:
            return []
        replies = [_read_line(line) for line in data[:-2].split(b"\r\n")]
        return [reply for reply in replies if reply is not None] if None not in replies else []

    def clear(self) -> None:
        """Forget what is pending and what was wrong: before TLS begins (RFC 3207 §4.2)."""
        self._forget()
        self._trouble = None
        self._begin()

    def _forget(self) -> None:
        self._buffer.clear()
        self._cut = b""
        self._dropped = 0

    def _next_line(self) -> bytes | None:
        """The next line without its CRLF, cut if it is too long; ``None`` until more comes."""
        end = self._buffer.find(b"\n") + 1
        if not end:
            if len(self._buffer) >= self._longest:
                # A CR at the very end may be half of the CRLF that ends the line.
                self._drop(len(self._buffer) - self._buffer.endswith(b"\r"))
            return None
        if not self._buffer.endswith(b"\r\n", 0, end):
            raise BadSyntax("a bare LF in a reply")
        if self._cut or end > self._longest:
            self._drop(end)
            line, self._cut, self._dropped = self._cut, b"", 0
            return line
        line = bytes(self._buffer[: end - 2])
        del self._buffer[:end]
        return line

    def _drop(self, count: int) -> None:
        self._cut = self._cut or bytes(self._buffer[: self._longest - 2])
        self._dropped += count
        del self._buffer[:count]
        if self._dropped > _MOST_DROPPED:
            raise BadSyntax("a reply line without an end")

    def _begin(self) -> None:
        self._code = b""
        self._texts: list[str] = []
        self._begun = 0  # octets of the lines in _texts

    def _take(self, line: bytes) -> Reply | None:
        """Take one line; the reply, if this was its last."""
        code, mark, text = _cut_line(line)
        if self._texts and code != self._code:
            raise BadSyntax("a reply with two codes")
        if len(self._texts) >= self._most_lines:
            raise BadSyntax("a reply of too many lines")
        self._code = code
        self._texts.append(text)
        self._begun += len(line) + 2
        if mark == b"-":
            return None
        reply = _assemble(int(code), self._texts)
        self._begin()
        return reply


@lru_cache(maxsize=256)  # hosts say the same few things over and over
def _read_line(line: bytes) -> Reply | None:
    """The reply that one line is; ``None`` where it is not a whole one."""
    try:
        code, mark, text = _cut_line(line)
    except BadSyntax:
        return None
    return None if mark == b"-" or b"\n" in line else _assemble(int(code), [text])


def _cut_line(line: bytes) -> tuple[bytes, bytes | None, str]:
    """The code, the mark behind it, and the text of a line. Raises :class:`BadSyntax`."""
    match = _REPLY_LINE.fullmatch(line)
    if not match:
        raise BadSyntax("not a reply line")
    code, mark, text = match.groups()
    return code, mark, _CONTROL.sub(" ", (text or b"").decode("utf-8", "replace"))


def _assemble(code: int, texts: list[str]) -> Reply:
    """The reply, its enhanced status code taken from the lines' beginnings (RFC 2034 §4)."""
    status = ""
    lines = []
    for text in texts:
        match = _STATUS.match(text)
        # A code of another class than the reply's is not an enhanced code (RFC 3463 §2), but text.
        if match and int(match.group(1)) == code // 100 and status in ("", match.group()):
            status = match.group()
            text = text[match.end() :]
        lines.append(text.strip(" "))
    return Reply(code, status, "\n".join(lines))


def parse_extensions(reply: Reply) -> dict[str, str]:
    """What the answer to EHLO offers: keyword in upper case → its parameters, ``""`` for none.

    The first line is the host's name. Lines that are no extension are skipped; of two with the same
    keyword the first counts.
    """
    extensions: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.partition(" ")
        if _KEYWORD.fullmatch(keyword):
            extensions.setdefault(keyword.upper(), parameters.strip(" "))
    return extensions


def enhanced_status(code: int, reply: Reply) -> str:
    """The enhanced status code to record for a reply that is treated as ``code`` (RFC 3463).

    It is the reply's own where that is of the same class, and the undefined one, ``5.0.0``, otherwise.
    """
    kind = f"{code // 100}." if code // 100 != 3 else "2."
    return reply.status if reply.status.startswith(kind) else f"{kind}0.0"

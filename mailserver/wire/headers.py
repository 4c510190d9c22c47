"""The header section of a message on its way in: found, looked at, and changed, as bytes (RFC 5322 §2.2).

Nothing here is given to ``email``: what is not understood stays as it is, octet for octet. A line that is no
field does not end the section, whatever a field may be to whoever reads the message later; only an empty line
does. All of it takes time linear in the section. Content is in wire form.
"""

import re
from collections.abc import Callable
from functools import cache

from mailserver.wire.trace import header_end

__all__ = ["HeaderSection", "authserv_id", "begins_with_field", "count_fields", "without"]

_FIELD = re.compile(rb"[\x21-\x39\x3b-\x7e]++[ \t]*+:")
_COMMENT = re.compile(rb"[()]|\\.", re.DOTALL)


class HeaderSection:
    """Holds the header section of a message that comes in pieces until all of it is there.

    :param limit: octets that it may have; no more are ever held.
    """

    __slots__ = ("_held", "_limit", "finished", "overlong")

    def __init__(self, limit: int = 256 * 1024) -> None:
        self.finished = False
        """Whether the empty line has come, or too much without one."""
        self.overlong = False
        """Whether the section has more octets than it may."""
        self._limit = limit
        self._held: bytes | bytearray = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece of content; give what of it stands behind the section."""
        if self.finished:
            return data
        before = len(self._held)
        if not before and 0 <= (end := header_end(data)) <= self._limit:
            # Nearly always: all of it in one piece, which need not be copied to be looked through.
            self._held = data[:end]
            self.finished = True
            return data[end:]
        if not isinstance(self._held, bytearray):
            self._held = bytearray()
        held = self._held
        held += data[: self._limit + 1 - before]
        end = header_end(held, max(before - 3, 0))  # the empty line may have begun there
        self.overlong = len(held) > self._limit and not 0 <= end <= self._limit
        self.finished = self.overlong or end >= 0
        if self.overlong:
            held.clear()
        elif self.finished:
            del held[end:]
        return data[end - before :] if end >= 0 else b""

    def take(self) -> bytes:
        """The section so far, the empty line included where it has come. It is not held any longer."""
        section, self._held = bytes(self._held), b""
        return section


def begins_with_field(section: bytes) -> bool:
    """Whether there is a header at all, and not text from the first line on."""
    return section.startswith(b"\r\n") or _FIELD.match(section) is not None


def count_fields(section: bytes, name: str) -> int:
    """How many fields of that name there are."""
    return len(_named(name).findall(section))


def without(section: bytes, name: str, unwanted: Callable[[bytes], bool] = lambda value: True) -> bytes:
    """The section without the fields of that name whose unfolded body is ``unwanted``."""
    return _named(name).sub(
        lambda field: b"" if unwanted(field.group(1).replace(b"\r\n", b"")) else field.group(), section
    )


def authserv_id(value: bytes) -> bytes:
    """Whose word an Authentication-Results field claims to be, in lower case (RFC 8601 §2.2)."""
    words = _outside_comments(value).partition(b";")[0].split()
    return words[0].strip(b'"').lower() if words else b""


@cache
def _named(name: str) -> re.Pattern[bytes]:
    # Folds are given back where the end does not fit: the end is none before a line that goes on.
    pattern = rb"^%b[ \t]*+:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*)\r\n(?![ \t])" % re.escape(name.encode("ascii"))
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


def _outside_comments(value: bytes) -> bytes:
    kept, depth, start = bytearray(), 0, 0
    for mark in _COMMENT.finditer(value):
        if depth == 0:
            kept += value[start : mark.start()] + (b" " if mark.group() == b"(" else mark.group())
        depth = max(depth + {b"(": 1, b")": -1}.get(mark.group(), 0), 0)
        start = mark.end()
    return bytes(kept) + (value[start:] if depth == 0 else b"")

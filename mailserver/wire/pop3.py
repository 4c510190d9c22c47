"""The POP3 grammar: commands, message numbers, unique-ids and status lines (RFC 1939, 2449, 3206).

Commands come as lines without their CRLF, from :class:`mailserver.wire.lines.Lines`. What is wrong in an
argument raises :class:`BadSyntax`.
"""

import re

from mailserver.wire.syntax import BadSyntax

__all__ = ["err", "is_unique_id", "line_count", "message_number", "ok", "split_command"]

_LONGEST_LINE = 512  # octets of a status line with its CRLF, RFC 2449 §4
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_UNIQUE_ID = re.compile(r"[\x21-\x7e]{1,70}")

# A password may hold blanks, also at its ends; RFC 1939 §7 has its argument reach to the end of the line.
_ONE_ARGUMENT = frozenset({b"USER", b"PASS", b"APOP"})


def split_command(line: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The keyword in upper case and its arguments; an empty keyword where the line begins with none.

    USER, PASS and APOP have one argument, with the blanks in it and behind it; none if it is empty.
    """
    verb, _, rest = line.partition(b" ")
    if not verb.isalnum():
        return b"", (line,)
    verb = verb.upper()
    arguments = [rest] if verb in _ONE_ARGUMENT else rest.split(b" ")
    return verb, tuple(argument for argument in arguments if argument)


def message_number(text: bytes) -> int:
    """A message number, from 1 on (RFC 1939 §5)."""
    number = line_count(text)
    if not number:
        raise BadSyntax("message numbers begin with 1")
    return number


def line_count(text: bytes) -> int:
    """The number of lines that TOP asks for, from 0 on (RFC 1939 §7)."""
    if not _NUMBER.fullmatch(text):
        raise BadSyntax("not a number")
    return int(text)


def is_unique_id(text: str) -> bool:
    """Whether UIDL can spell it: 1 to 70 printable ASCII characters without blanks (RFC 1939 §7)."""
    return _UNIQUE_ID.fullmatch(text) is not None


def ok(text: str = "") -> bytes:
    """A positive status line."""
    return _status_line("+OK", text)


def err(text: str, code: str = "") -> bytes:
    """A negative status line.

    :param code: a response code without its brackets, as ``IN-USE`` (RFC 2449 §8) or ``SYS/TEMP``
        (RFC 3206).
    """
    return _status_line("-ERR", f"[{code}] {text}" if code else text)


def _status_line(indicator: str, text: str) -> bytes:
    line = f"{indicator} {_UNPRINTABLE.sub('?', text)}" if text else indicator
    return line[: _LONGEST_LINE - 2].encode("ascii") + b"\r\n"

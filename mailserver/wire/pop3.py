"""The POP3 grammar: commands, numbers, unique-ids and status lines (RFC 1939, 2449, 3206, 5034, 6856).

Commands come as lines without their CRLF, from :class:`mailserver.wire.lines.Lines`. What is wrong in an
argument raises :class:`BadSyntax`.
"""

import re

from mailserver.wire.syntax import BadSyntax

__all__ = ["challenge", "err", "is_unique_id", "line_count", "message_number", "ok", "split_command"]

_LONGEST_LINE = 512  # octets of a status line with its CRLF, RFC 2449 §4
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_UNIQUE_ID = re.compile(r"[\x21-\x7e]{1,70}")

# A password may hold blanks, also at its ends; RFC 1939 §7 has its argument reach to the end of the line.
# That of AUTH is for SASL to take apart.
_ONE_ARGUMENT = frozenset({b"USER", b"PASS", b"APOP", b"AUTH"})


def split_command(line: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The keyword in upper case and its arguments; an empty keyword where the line begins with none.

    USER, PASS, APOP and AUTH have one argument, with the blanks in it and behind it; none if it is empty.
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
    """A positive status line. A text beyond ASCII is for clients that chose its language (RFC 6856 §3.1)."""
    return _status_line("+OK", text)


def err(text: str, code: str = "") -> bytes:
    """A negative status line.

    :param code: a response code without its brackets, as ``IN-USE`` (RFC 2449 §8) or ``SYS/TEMP``
        (RFC 3206).
    """
    return _status_line("-ERR", f"[{code}] {text}" if code else text)


def challenge(text: bytes) -> bytes:
    """A line that AUTH goes on with; the blank stands also where the challenge is empty (RFC 5034 §4)."""
    return b"+ " + text + b"\r\n"


def _status_line(indicator: str, text: str) -> bytes:
    if not text.isprintable():
        text = _UNPRINTABLE.sub("?", text)
    octets = (f"{indicator} {text}" if text else indicator).encode("utf-8")
    if len(octets) > _LONGEST_LINE - 2:
        # Cut, but not in the midst of a character.
        octets = octets[: _LONGEST_LINE - 2].decode("utf-8", "ignore").encode("utf-8")
    return octets + b"\r\n"

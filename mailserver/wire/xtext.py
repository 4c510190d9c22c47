"""The encodings of DSN parameters: xtext (RFC 3461 §4) and its UTF-8 sisters (RFC 6533 §3).

What comes out of decoding is printable: a control character that was hidden in the encoding is refused, or
it would end up in a header of a report.
"""

import re

from mailserver.wire.syntax import BadSyntax

__all__ = ["from_unitext", "from_xtext", "to_xtext"]

_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]++|\+[0-9A-Fa-f]{2})+")
_HEX = re.compile(r"\+([0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(r"[\x20-\x7e]++")
_PLAIN = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")
_UNITEXT = re.compile(r"(?:[^\x00-\x20+=\\\x7f-\x9f\u2028\u2029]++|\\x\{[0-9A-Fa-f]{2,6}\})+")
_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def from_xtext(text: str) -> str:
    """Decode xtext. Raises :class:`BadSyntax` for what is not, or does not decode to printable ASCII."""
    if not _XTEXT.fullmatch(text):
        raise BadSyntax("not xtext")
    decoded = _HEX.sub(lambda match: chr(int(match.group(1), 16)), text)
    if not _PRINTABLE.fullmatch(decoded):
        raise BadSyntax("unprintable character in xtext")
    return decoded


def to_xtext(text: str) -> str:
    """Encode printable ASCII as xtext."""
    return _PLAIN.sub(lambda match: f"+{ord(match.group()):02X}", text)


def from_unitext(text: str) -> str:
    """Decode an address of the type utf-8: UTF-8 as it is, or with ``\\x{20AC}`` for any character."""
    if not _UNITEXT.fullmatch(text):
        raise BadSyntax("not a utf-8 address")
    try:
        decoded = _POINT.sub(lambda match: chr(int(match.group(1), 16)), text)
    except ValueError:
        raise BadSyntax("no such character") from None
    if not decoded.isprintable():
        raise BadSyntax("unprintable character in a utf-8 address")
    return decoded

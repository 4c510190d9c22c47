"""SASLprep (RFC 4013): names and passwords in the one spelling that their other spellings have in common.

A profile of stringprep (RFC 3454), by the tables of Unicode 3.2 that it names. What is shown at a login is a
*query*: it may hold characters that Unicode 3.2 did not have. What is stored may not, for a later Unicode
might spell them differently (RFC 3454 §7).

:raises BadSyntax: the text cannot be prepared, or nothing is left of it.
"""

import stringprep
from unicodedata import ucd_3_2_0

from mailserver.wire.syntax import BadSyntax

__all__ = ["prepared", "saslprep"]

_PROHIBITED = (
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a character for private use"),
    (stringprep.in_table_c4, "what is no character"),
    (stringprep.in_table_c5, "half of a surrogate pair"),
    (stringprep.in_table_c6, "a character that is unfit for plain text"),
    (stringprep.in_table_c7, "a character that is unfit for canonical representation"),
    (stringprep.in_table_c8, "a character that changes how others are shown"),
    (stringprep.in_table_c9, "a tag"),
)


def saslprep(text: str, stored: bool = False) -> str:
    """The text, prepared.

    :param stored: it is to be stored; else it is compared with what is stored.
    """
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    result = ucd_3_2_0.normalize("NFKC", mapped)
    if not result:
        raise BadSyntax("nothing is left of it")
    for is_prohibited, what in _PROHIBITED:
        if any(map(is_prohibited, result)):
            raise BadSyntax(f"it holds {what}")
    if stored and any(map(stringprep.in_table_a1, result)):
        raise BadSyntax("it holds a character newer than Unicode 3.2")
    _check_directions(result)
    return result


def prepared(octets: bytes) -> bytes:
    """A name or a password as it is compared; as it came where it cannot be prepared, as what is no UTF-8."""
    if octets.isascii():
        return octets
    try:
        return saslprep(octets.decode("utf-8")).encode("utf-8")
    except (UnicodeDecodeError, BadSyntax):
        return octets


def _check_directions(text: str) -> None:
    """RFC 3454 §6: text that runs from right to left does so from its first character to its last."""
    from_right = [stringprep.in_table_d1(c) for c in text]
    if any(from_right) and not (
        from_right[0] and from_right[-1] and not any(map(stringprep.in_table_d2, text))
    ):
        raise BadSyntax("it mixes directions of writing")

"""The one way in which bytes from the wire are refused, for every grammar of this package."""

__all__ = ["BadSyntax", "UnknownParameter"]


class BadSyntax(ValueError):
    """What came does not follow the grammar.

    The text says what is wrong in our own words, for the journal; it never quotes what came.
    """


class UnknownParameter(BadSyntax):
    """A MAIL or RCPT parameter that was not offered: 555 instead of 501 (RFC 5321 §4.1.1.11)."""

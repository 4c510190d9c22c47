"""The one way in which bytes from the wire are refused, for every grammar of this package."""

__all__ = ["BadParameter", "BadSyntax", "UnknownParameter"]


class BadSyntax(ValueError):
    """What came does not follow the grammar.

    The text says what is wrong in our own words, for the journal; it never quotes what came.
    """


class BadParameter(BadSyntax):
    """The parameters of MAIL or RCPT are at fault, not the address: 501 5.5.4 (RFC 5321 §4.1.1.11)."""


class UnknownParameter(BadParameter):
    """A MAIL or RCPT parameter that was not offered: 555 instead of 501 (RFC 5321 §4.1.1.11)."""

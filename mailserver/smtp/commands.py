"""The commands of the SMTP server: which there are, and what makes one a bad one.

A bad command is one that no client of good faith sends: unknown, out of order, malformed. It is not the same
as one that is refused by a rule.
"""

from collections.abc import Callable, Mapping

from mailserver.model.address import Address
from mailserver.model.reply import BAD_ARGUMENT_501, Reply
from mailserver.smtp.reception import Refused
from mailserver.wire.smtp import BadParameter, BadSyntax

__all__ = ["METHODS", "BadCommand", "refuse_argument", "understand"]

METHODS = {
    b"MAIL": "do_MAIL",
    b"RCPT": "do_RCPT",
    b"DATA": "do_DATA",
    b"BDAT": "do_BDAT",
    b"EHLO": "do_EHLO",
    b"HELO": "do_HELO",
    b"QUIT": "do_QUIT",
    b"RSET": "do_RSET",
    b"NOOP": "do_NOOP",
    b"VRFY": "do_VRFY",
    b"HELP": "do_HELP",
    b"STARTTLS": "ext_STARTTLS",
    b"AUTH": "ext_AUTH",
    **dict.fromkeys((b"ETRN", b"EXPN", b"LHLO", b"SAML", b"SEND", b"SOML", b"TURN"), "do_UNKNOWN"),
    **dict.fromkeys(
        (b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PRI", b"PUT", b"TRACE"),
        "do_HTTP",
    ),
}
"""What does a command. What comes from the wire is looked up here and never made part of a name."""


class BadCommand(Refused):
    """The command is wrong, whatever it asks for: it counts against the session."""


def understand(
    parse: Callable[[bytes], tuple[Address, Mapping[str, str]]], argument: bytes, otherwise: Reply
) -> tuple[Address, Mapping[str, str]]:
    """Parse the argument of MAIL or RCPT; a bad address is answered with ``otherwise``."""
    try:
        return parse(argument)
    except BadParameter:
        raise BadCommand(BAD_ARGUMENT_501) from None
    except BadSyntax:
        raise BadCommand(otherwise) from None


def refuse_argument(argument: bytes) -> None:
    """Refuse what follows a command that takes no argument (RFC 5321 §4.1.1)."""
    if argument:
        raise BadCommand(BAD_ARGUMENT_501)

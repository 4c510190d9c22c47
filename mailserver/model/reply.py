"""SMTP replies and the named table of those this server gives (RFC 5321 §4.2, RFC 3463, RFC 2034).

The number stands in the name, so that the code that gives a reply can be read without the table. The
texts are for strangers: they say what the client needs and nothing about the inside (law 10).
"""

from attrs import frozen


@frozen
class Reply:
    """One reply: ``Reply(250, "2.1.0", "Ok")``.

    :ivar code: the three-digit code.
    :ivar status: the enhanced status code; empty where RFC 2034 §4 has none (greeting, EHLO, 354).
    :ivar text: printable text; line breaks make a reply of several lines.
    """

    code: int
    status: str
    text: str

    @property
    def is_positive(self) -> bool:
        """Whether the command did, or goes on to do, what was asked (2yz, 3yz)."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """Whether the same command may work later (4yz)."""
        return 400 <= self.code < 500

    def saying(self, text: str) -> "Reply":
        """The same reply with another text."""
        return Reply(self.code, self.status, text)


# RFC 5321 §4.2.2 in order of codes; the RFC named at a line is where that use of the code comes from.
OK_250 = Reply(250, "2.0.0", "Ok")
SENDER_OK_250 = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK_250 = Reply(250, "2.1.5", "Recipient ok")
BYE_221 = Reply(221, "2.0.0", "Bye")
LOGGED_IN_235 = Reply(235, "2.7.0", "Logged in")  # RFC 4954 §6
READY_FOR_TLS_220 = Reply(220, "2.0.0", "Ready to start TLS")  # RFC 3207 §4
CANNOT_VRFY_252 = Reply(252, "2.1.5", "Cannot verify, but will take mail for it")  # RFC 5321 §3.5.3
SEE_RFC_214 = Reply(214, "2.0.0", "Commands are those of RFC 5321")
GO_AHEAD_354 = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

SHUTTING_DOWN_421 = Reply(421, "4.3.2", "Service closing, try again later")  # RFC 5321 §3.8
TIMEOUT_421 = Reply(421, "4.4.2", "Timeout, closing connection")
TOO_MANY_ERRORS_421 = Reply(421, "4.7.0", "Too many errors, closing connection")
TOO_MANY_CONNECTIONS_421 = Reply(421, "4.7.0", "Too many connections, try again later")
LOCKED_OUT_421 = Reply(421, "4.7.0", "Too many failed logins, try again later")
TOO_MUCH_450 = Reply(450, "4.7.1", "Too much mail from you, try again later")
TROUBLE_451 = Reply(451, "4.3.0", "Local trouble, try again later")
MAILBOX_FULL_452 = Reply(452, "4.2.2", "Mailbox full")
NO_SPACE_452 = Reply(452, "4.3.1", "No space, try again later")
TOO_MANY_RECIPIENTS_452 = Reply(452, "4.5.3", "Too many recipients, send the rest again")  # §4.5.3.1.10
NO_TLS_454 = Reply(454, "4.7.0", "TLS not available now")  # RFC 3207 §4
LOGIN_BUSY_454 = Reply(454, "4.7.0", "Cannot log in now, try again later")  # RFC 4954 §6

NOT_UNDERSTOOD_500 = Reply(500, "5.5.2", "Command not recognised")
LINE_TOO_LONG_500 = Reply(500, "5.5.6", "Line too long")
BAD_LINE_500 = Reply(500, "5.5.2", "Lines end in <CR><LF> and hold no CR, LF or NUL (RFC 5321 2.3.8)")
BAD_ARGUMENT_501 = Reply(501, "5.5.4", "Syntax error in arguments")
BAD_SENDER_501 = Reply(501, "5.1.7", "Syntax error in sender address")
BAD_RECIPIENT_501 = Reply(501, "5.1.3", "Syntax error in recipient address")
BAD_RESPONSE_501 = Reply(501, "5.5.2", "Not base64, or not what the mechanism has")  # RFC 4954 §4
CANCELLED_501 = Reply(501, "5.7.0", "Authentication cancelled")  # RFC 4954 §4
NOT_IMPLEMENTED_502 = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE_503 = Reply(503, "5.5.1", "Bad sequence of commands")
UNKNOWN_MECHANISM_504 = Reply(504, "5.5.4", "Mechanism not offered")  # RFC 4954 §4
TLS_NEEDED_530 = Reply(530, "5.7.0", "Start TLS first")  # RFC 3207 §4
LOGIN_NEEDED_530 = Reply(530, "5.7.0", "Log in first")  # RFC 4954 §6
WRONG_LOGIN_535 = Reply(535, "5.7.8", "Wrong name or password")  # RFC 4954 §6
ENCRYPTION_NEEDED_538 = Reply(538, "5.7.11", "Start TLS before you log in")  # RFC 4954 §6, RFC 5248
TOO_MUCH_550 = Reply(550, "5.7.1", "Too much mail from you")
RELAYING_DENIED_550 = Reply(550, "5.7.1", "Relaying denied")
MAILBOX_DISABLED_550 = Reply(550, "5.2.1", "Mailbox disabled")
NO_SUCH_USER_550 = Reply(550, "5.1.1", "No such user here")
NOT_YOUR_FROM_550 = Reply(550, "5.7.1", "The From field names an address that is not yours")  # RFC 6409 §6.1
TOO_BIG_552 = Reply(552, "5.3.4", "Message too big")  # RFC 1870 §6
HEADER_TOO_BIG_552 = Reply(552, "5.3.4", "Header section too big")
TOO_EARLY_554 = Reply(554, "5.5.1", "Spoke before the greeting")  # RFC 5321 §3.1
BAD_CONTENT_554 = Reply(554, "5.6.0", "Message holds a bare CR, a bare LF, a NUL or an endless line")
NO_AUTHOR_554 = Reply(554, "5.6.0", "Message needs exactly one From field")  # RFC 5322 §3.6
NO_RECIPIENTS_554 = Reply(554, "5.5.1", "No valid recipients")
TOO_MANY_HOPS_554 = Reply(554, "5.4.6", "Too many hops, the mail loops")  # RFC 5321 §6.3
NOT_YOUR_ADDRESS_553 = Reply(553, "5.7.1", "Sender address is not yours")  # RFC 6409 §6.1
NEEDS_UTF8_553 = Reply(553, "5.6.7", "Address needs SMTPUTF8")  # RFC 6531 §3.5
UNKNOWN_PARAMETER_555 = Reply(555, "5.5.4", "Parameter not recognised")  # RFC 5321 §4.1.1.11

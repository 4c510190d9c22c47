"""The SMTP server: ``twisted.mail.smtp.ESMTP`` on :class:`~mailserver.net.session.Session`.

Implements RFC 5321 with PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531),
CHUNKING (RFC 3030), DSN (RFC 3461), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS (RFC 3207), AUTH (RFC 4954),
REQUIRETLS (RFC 8689) and LIMITS (RFC 9422). What is here is order: which command may come when, and what the
session knows afterwards. How content is read is in :mod:`mailserver.smtp.content`, how people log in in
:mod:`mailserver.smtp.login`; what mail is taken is the reception's to say, how it is spelled
:mod:`mailserver.wire`'s, and the session itself keeps commands in order and everything within bounds.

Promises:

- Every command gets one reply, in order, whatever it holds and however slow the hooks are.
- 250 after the data means: on disk, here. A client that goes away before the end leaves nothing; the commit
  of a message that has ended goes on without its client.
- STARTTLS forgets all that came before it (RFC 3207 §4.2).
- On a service for submission no mail is taken before a login (RFC 6409 §4.3).
- Ten bad commands end the session, and so do a hundred that lead to no message, guesses at recipients, and
  anything that speaks HTTP or speaks first.

Of the base class the vocabulary is used: ``host``, ``greeting``, ``extensions``,
``lookupMethod``, ``do_…``, ``ext_…``, ``sendCode``, ``validateFrom``, ``validateTo``, ``delivery``,
``deliveryFactory``, ``startedTLS``. Its ``lineReceived``, ``state_COMMAND``, ``state_DATA``,
``dataLineReceived``, ``state_AUTH``, ``lineLengthExceeded``, ``timeoutConnection``,
``_messageHandled``, ``receivedHeader`` and ``connectionLost`` are dead: ``Session`` takes over
``dataReceived`` and ``connectionLost``, and nothing here looks a method up by a name that came from the wire.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache

from attrs import evolve
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IReactorTime,
    ISSLTransport,
)
from twisted.logger import Logger
from twisted.mail.smtp import ESMTP
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.model import reply as replies
from mailserver.model.address import Address
from mailserver.model.envelope import Origin
from mailserver.model.reply import Reply
from mailserver.net.session import Bounds, SessionFactory
from mailserver.smtp.answering import AnsweringSession
from mailserver.smtp.authentication import Logins
from mailserver.smtp.commands import METHODS, BadCommand, refuse_argument, understand
from mailserver.smtp.content import ContentSession
from mailserver.smtp.login import LoginSession
from mailserver.smtp.manners import TO_NO_END, MannersSession
from mailserver.smtp.reception import Office, Reception, Refused, UnknownRecipient
from mailserver.wire.lines import Flaw
from mailserver.wire.smtp import (
    BadSyntax,
    MailParameters,
    RcptParameters,
    UnknownParameter,
    mail_parameters,
    mend_helo,
    parse_helo,
    parse_mail,
    parse_rcpt,
    rcpt_parameters,
    spell_reply,
    split_command,
)

__all__ = ["SMTPFactory", "SMTPServer"]

_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"})
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})
_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()

_SUBMISSION = frozenset({"submission", "submissions"})

_HANGING_UP = replies.TOO_MANY_ERRORS_421.saying("This is a mail server, closing connection")

_OK = spell_reply(replies.OK_250)
_SENDER_OK = spell_reply(replies.SENDER_OK_250)
_RECIPIENT_OK = spell_reply(replies.RECIPIENT_OK_250)
_READY_FOR_TLS = spell_reply(replies.READY_FOR_TLS_220)


@implementer(IHalfCloseableProtocol)
class SMTPServer(MannersSession, ContentSession, LoginSession, ESMTP):
    """One SMTP session."""

    factory: "SMTPFactory"
    deliveryFactory: Office

    _log = Logger()

    def __init__(self, factory: "SMTPFactory") -> None:
        # Not the base's: what it makes is for its methods that are dead here.
        AnsweringSession.__init__(self)
        ContentSession.__init__(self)
        LoginSession.__init__(self, factory.service, factory.logins)
        MannersSession.__init__(self, factory.office.rules.unknown)
        self.factory = factory
        self.host = factory.hostname
        self.deliveryFactory = factory.office
        self._utf8 = False  # MAIL asked for SMTPUTF8

    # --- the session ------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # Neither the base's greeting nor its TimeoutMixin is wanted.
        self.beginSession()
        self.startedTLS = ISSLTransport.providedBy(self.transport)
        self._forget()
        self.openDoor(self.factory.greetingDelay(self.peer.address))

    def tlsStarted(self) -> None:
        self._forget()

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        if self.isAuthenticating:
            return self.responseReceived(line)
        verb, argument = split_command(line)
        method = self.lookupMethod(verb)
        if verb in TO_NO_END and self.isTooMuch():
            return None
        try:
            if method is None:
                raise BadCommand(replies.NOT_UNDERSTOOD_500)
            return method(argument)
        except UnknownRecipient as unknown:
            return self.deny(unknown)
        except Refused as refused:
            self._refuse(refused)
        except UnknownParameter:
            self._complain(replies.UNKNOWN_PARAMETER_555)
        except BadSyntax:
            self._complain(replies.BAD_ARGUMENT_501)
        return None

    def flawReceived(self, flaw: Flaw) -> None:
        self.endExchange()
        self._complain(replies.LINE_TOO_LONG_500 if flaw is Flaw.TOO_LONG else replies.BAD_LINE_500)

    def sessionTimedOut(self, why: str) -> None:
        if why == "idle":
            self._say(replies.TIMEOUT_421)
        else:
            self._sayFarewell("overlong and broken lines without end", replies.TOO_MANY_ERRORS_421)

    def sessionStopping(self) -> None:
        self._say(replies.SHUTTING_DOWN_421)

    def sessionLost(self, reason: Failure) -> None:
        self.closeDoor()
        self._abandon()

    # --- the base's hooks -------------------------------------------------------------------------

    def lookupMethod(self, command: bytes) -> Callable[[bytes], Awaitable[None] | None] | None:
        """What does a command, by its verb in upper case."""
        name = METHODS.get(command)
        return None if name is None else getattr(self, name)

    def sendCode(self, code: int, message: bytes = b"") -> None:
        # Not used here: for what the base or a mixin may say.
        self._say(Reply(code, "", message.decode("ascii", "replace")))

    def greeting(self) -> bytes:
        """What follows 220."""
        host: bytes = self.host
        return host + b" ESMTP"

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        """The extensions offered now, each with its arguments."""
        return _extensions(*self._terms())

    def validateFrom(
        self, helo: Origin, origin: Address, parameters: MailParameters = _NO_MAIL_PARAMETERS
    ) -> Awaitable[None] | None:
        """Begin a transaction. Raises :class:`Refused`."""
        delivery = (self.sender or self.deliveryFactory).getMessageDelivery()
        waiting = delivery.validateFrom(helo, origin, parameters)
        if waiting is None:
            self.delivery = delivery
            return None
        return self._began(delivery, waiting)

    async def _began(self, delivery: Reception, waiting: Awaitable[None]) -> None:
        await waiting
        self.delivery = delivery

    def validateTo(
        self, user: Address, parameters: RcptParameters = _NO_RCPT_PARAMETERS
    ) -> Awaitable[None] | None:
        """Add a recipient to the transaction. Raises :class:`Refused`."""
        assert self.delivery is not None
        return self.delivery.validateTo(user, parameters)

    # --- the commands -----------------------------------------------------------------------------

    def do_HELO(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.1."""
        self._introduce(self._name(rest), "SMTP")
        self._say(Reply(250, "", self.factory.hostname))

    def do_EHLO(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.1."""
        self._introduce(self._name(rest), self._protocol("ESMTP"))
        self.reply(_welcome(self.factory.hostname, self._terms()))

    def do_MAIL(self, rest: bytes) -> Awaitable[None] | None:
        """RFC 5321 §4.1.1.2."""
        if not self._origin.helo:
            raise BadCommand(replies.BAD_SEQUENCE_503.saying("Say EHLO first"))
        if self.inTransaction:
            raise BadCommand(replies.BAD_SEQUENCE_503.saying("A transaction is under way"))
        self._tried = True
        if self.sender is None and self.factory.needsLogin(self.peer.address):
            self._record("MAIL", "not logged in", replies.LOGIN_NEEDED_530)
            raise Refused(replies.LOGIN_NEEDED_530)
        sender, raw = understand(parse_mail, rest, replies.BAD_SENDER_501)
        parameters = mail_parameters(raw, self._mailParameters()) if raw else _NO_MAIL_PARAMETERS
        self._utf8 = parameters.smtputf8
        self._checkASCII(rest)
        origin = self._origin
        if self._utf8:
            origin = evolve(origin, protocol=self._protocol("UTF8SMTP"))
        return self._answer(self.validateFrom(origin, sender, parameters), _SENDER_OK)

    def do_RCPT(self, rest: bytes) -> Awaitable[None] | None:
        """RFC 5321 §4.1.1.3."""
        if self.delivery is None:
            raise self._outOfPlace()
        recipient, raw = understand(parse_rcpt, rest, replies.BAD_RECIPIENT_501)
        parameters = rcpt_parameters(raw, _RCPT_PARAMETERS) if raw else _NO_RCPT_PARAMETERS
        self._checkASCII(rest)
        return self._answer(self.validateTo(recipient, parameters), _RECIPIENT_OK)

    def do_RSET(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.5."""
        refuse_argument(rest)
        self._abandon()
        self.reply(_OK)

    def do_NOOP(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.9: an argument is ignored."""
        self.reply(_OK)

    def do_VRFY(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.6, §7.3: nobody learns here who exists."""
        if not rest:
            raise BadCommand(replies.BAD_ARGUMENT_501)
        self._say(replies.CANNOT_VRFY_252)

    def do_HELP(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.8."""
        self._say(replies.SEE_RFC_214)

    def do_QUIT(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.10."""
        refuse_argument(rest)
        self._say(replies.BYE_221)
        self.closeSession()

    def ext_STARTTLS(self, rest: bytes) -> None:
        """RFC 3207 §4."""
        refuse_argument(rest)
        if self.startedTLS or self.inTransaction or not self._origin.helo:
            raise BadCommand(replies.BAD_SEQUENCE_503)
        context = self.factory.context()
        if context is None:
            raise Refused(replies.NO_TLS_454)
        self._forget()
        self.startedTLS = True
        self.startSessionTLS(context, _READY_FOR_TLS)

    def do_UNKNOWN(self, rest: bytes) -> None:
        """A command that an RFC knows and this server does not do."""
        raise BadCommand(replies.NOT_IMPLEMENTED_502)

    def do_HTTP(self, rest: bytes) -> None:
        """No command of ours: a browser that was made to talk to us, and may have mail in its body."""
        self._sayFarewell("speaks HTTP", _HANGING_UP)
        self.closeSession()

    # --- inside -----------------------------------------------------------------------------------

    def _greet(self) -> None:
        self._say(Reply(220, "", self.greeting().decode("ascii")))

    def _begin(self, delivery: Reception) -> None:
        super()._begin(delivery)
        self.forgive()

    def _name(self, argument: bytes) -> str:
        try:
            return parse_helo(argument)
        except BadSyntax:
            profile = self.deliveryFactory.rules.networks.match(self.peer.address)
            if profile is None or not profile.sloppy:
                raise
            return mend_helo(argument)

    def _terms(self) -> "_Terms":
        rules = self.deliveryFactory.rules
        limits = rules.limits_for(rules.networks.match(self.peer.address))
        return (
            limits.message_size,
            limits.recipients,
            self.startedTLS,
            self.factory.context() is not None,
            tuple(self.mechanisms()),
        )

    def _introduce(self, name: str, protocol: str) -> None:
        self._abandon()
        login = self._origin.login  # outlives a second EHLO
        self._origin = Origin(self.peer.address, self.peer.port, name, protocol, self.tls, login)

    def _protocol(self, word: str) -> str:
        """The "with" keyword (RFC 3848, RFC 6531 §4.3)."""
        return word + "S" * self.startedTLS + "A" * bool(self._origin.login)

    def _forget(self) -> None:
        self._abandon()
        self.forgetLogin()
        self._origin = Origin(self.peer.address, self.peer.port)

    def _abandon(self) -> None:
        """There is no transaction any more, and no message that is not being committed."""
        self.delivery = None
        self._tried = False
        self._abandonMessage()

    def _checkASCII(self, rest: bytes) -> None:
        if not (self._utf8 or rest.isascii()):
            self._record("address", "not ASCII, without SMTPUTF8", replies.NEEDS_UTF8_553)
            raise Refused(replies.NEEDS_UTF8_553)

    def _mailParameters(self) -> frozenset[str]:
        offered = {"REQUIRETLS"} if self.startedTLS else set()
        if self.sender is not None or self.mechanisms():
            offered.add("AUTH")
        return _MAIL_PARAMETERS | offered if offered else _MAIL_PARAMETERS


_Terms = tuple[int, int, bool, bool, tuple[bytes, ...]]


def _extensions(
    size: int, recipients: int, in_tls: bool, has_tls: bool, mechanisms: tuple[bytes, ...]
) -> dict[bytes, list[bytes] | None]:
    offered: dict[bytes, list[bytes] | None] = {
        b"PIPELINING": None,
        b"SIZE": [b"%d" % size],
        b"8BITMIME": None,
        b"SMTPUTF8": None,
        b"ENHANCEDSTATUSCODES": None,
        b"CHUNKING": None,
        b"DSN": None,
        b"LIMITS": [b"RCPTMAX=%d" % recipients],
    }
    if in_tls:
        offered[b"REQUIRETLS"] = None
    elif has_tls:
        offered[b"STARTTLS"] = None
    if mechanisms:
        offered[b"AUTH"] = list(mechanisms)
    offered[b"HELP"] = None
    return offered


@lru_cache(64)  # nearly all clients are told the same
def _welcome(hostname: str, terms: _Terms) -> bytes:
    """The answer to EHLO (RFC 5321 §4.1.1.1)."""
    listed = (b" ".join((name, *(arguments or ()))) for name, arguments in _extensions(*terms).items())
    return spell_reply(Reply(250, "", "\n".join((hostname, *(line.decode("ascii") for line in listed)))))


class SMTPFactory(SessionFactory):
    """What the sessions of one SMTP service share.

    :ivar service: its name in the configuration: ``smtp``, ``submission`` …
    :ivar office: where receptions come from; its rules may be replaced at any time.
    :ivar context: gives the current TLS context factory, or ``None`` where STARTTLS is not to be had.
    :ivar logins: how people log in; ``None``: not at all.
    """

    def __init__(
        self,
        office: Office,
        context: Callable[[], object | None],
        bounds: Bounds,
        clock: IReactorTime,
        service: str = "smtp",
        logins: Logins | None = None,
    ) -> None:
        super().__init__(bounds, clock)
        self.office = office
        self.hostname = office.hostname
        self.context = context
        self.service = service
        self.logins = logins

    def needsLogin(self, client: str) -> bool:
        """Whether mail from this IP address is taken after a login only (RFC 6409 §4.3)."""
        return self.service in _SUBMISSION

    def greetingDelay(self, client: str) -> float:
        """How many seconds a client of this IP address waits for the greeting."""
        rules = self.office.rules
        if not rules.greeting_delay or self.service in _SUBMISSION:
            return 0.0
        return rules.greeting_delay if rules.networks.match(client) is None else 0.0

    def buildProtocol(self, addr: IAddress | None) -> SMTPServer:  # type: ignore[override]
        session = SMTPServer(self)
        session.meet(addr)
        return session

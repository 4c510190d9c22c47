"""The SMTP server: ``twisted.mail.smtp.ESMTP`` on :class:`~mailserver.net.session.Session`.

Implements RFC 5321 with PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531),
ENHANCEDSTATUSCODES (RFC 2034) and STARTTLS (RFC 3207). What is here is order: which command may come when,
and what the session knows afterwards. What mail is taken is the reception's to say, how it is spelled
:mod:`mailserver.wire`'s, and the session itself keeps commands in order and everything within bounds.

Promises:

- Every command gets one reply, in order, whatever it holds and however slow the hooks are.
- Only CRLF.CRLF ends the data (RFC 5321 §4.1.1.4). A message that cannot be accepted is read to its real
  end and answered there, so that no part of it is ever taken for commands.
- 250 after the data means: on disk, here. A client that goes away before the end leaves nothing; the commit
  of a message that has ended goes on without its client.
- STARTTLS forgets all that came before it (RFC 3207 §4.2).
- Ten bad commands end the session, and so does anything that speaks HTTP.

Of the base class the vocabulary is used: ``host``, ``greeting``, ``extensions``, ``listExtensions``,
``lookupMethod``, ``do_…``, ``ext_STARTTLS``, ``sendCode``, ``validateFrom``, ``validateTo``, ``delivery``,
``deliveryFactory``, ``startedTLS``. Its ``lineReceived``, ``state_COMMAND``, ``state_DATA``,
``dataLineReceived``, ``state_AUTH``, ``ext_AUTH``, ``lineLengthExceeded``, ``timeoutConnection``,
``_messageHandled``, ``receivedHeader`` and ``connectionLost`` are dead: ``Session`` takes over
``dataReceived`` and ``connectionLost``, and nothing here looks a method up by a name that came from the wire.
"""

from collections.abc import Awaitable, Callable

from attrs import evolve
from twisted.internet.defer import Deferred
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

from mailserver import journal
from mailserver.model import reply as replies
from mailserver.model.address import Address
from mailserver.model.envelope import Origin
from mailserver.model.reply import Reply
from mailserver.model.source import BUILT_IN
from mailserver.net.session import Bounds, Session, SessionFactory, peer_of
from mailserver.smtp.commands import METHODS, BadCommand, refuse_argument, understand
from mailserver.smtp.message import Message
from mailserver.smtp.reception import Office, Reception, Refused
from mailserver.wire.dots import Unstuffer
from mailserver.wire.lines import Flaw
from mailserver.wire.smtp import (
    BadSyntax,
    MailParameters,
    RcptParameters,
    UnknownParameter,
    mail_parameters,
    parse_helo,
    parse_mail,
    parse_rcpt,
    rcpt_parameters,
    spell_reply,
    split_command,
)

__all__ = ["SMTPFactory", "SMTPServer"]

_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8"})
_RCPT_PARAMETERS: frozenset[str] = frozenset()
_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()

_BAD_COMMANDS = 10
_TRANSACTION = 30 * 60.0
_LONGEST_TEXT_LINE = 64 * 1024

_HANGING_UP = replies.TOO_MANY_ERRORS_421.saying("This is a mail server, closing connection")

_OK = spell_reply(replies.OK_250)
_SENDER_OK = spell_reply(replies.SENDER_OK_250)
_RECIPIENT_OK = spell_reply(replies.RECIPIENT_OK_250)
_GO_AHEAD = spell_reply(replies.GO_AHEAD_354)
_READY_FOR_TLS = spell_reply(replies.READY_FOR_TLS_220)


@implementer(IHalfCloseableProtocol)
class SMTPServer(Session, ESMTP):
    """One SMTP session.

    :ivar delivery: the transaction that MAIL began; ``None`` outside of one.
    """

    factory: "SMTPFactory"
    delivery: Reception | None
    deliveryFactory: Office

    _log = Logger()

    def __init__(self, factory: "SMTPFactory") -> None:
        ESMTP.__init__(self)
        self.factory = factory
        self.host = factory.hostname
        self.deliveryFactory = factory.office
        self._origin = Origin()  # its helo is empty until HELO or EHLO came
        self._utf8 = False  # MAIL asked for SMTPUTF8
        self._tried = False  # a MAIL came since the last message
        self._message: Message | None = None
        self._unstuffer: Unstuffer | None = None  # while data comes in
        self._errors = 0

    # --- the session ------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # Neither the base's greeting nor its TimeoutMixin is wanted.
        self.beginSession()
        self.startedTLS = ISSLTransport.providedBy(self.transport)
        self._forget()
        self._say(Reply(220, "", self.greeting().decode("ascii")))

    def tlsStarted(self) -> None:
        self._forget()

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        verb, argument = split_command(line)
        method = self.lookupMethod(verb)
        try:
            if method is None:
                raise BadCommand(replies.NOT_UNDERSTOOD_500)
            return method(argument)
        except BadCommand as bad:
            self._complain(bad.reply)
        except Refused as refused:
            self._say(refused.reply)
        except UnknownParameter:
            self._complain(replies.UNKNOWN_PARAMETER_555)
        except BadSyntax:
            self._complain(replies.BAD_ARGUMENT_501)
        return None

    def flawReceived(self, flaw: Flaw) -> None:
        self._complain(replies.LINE_TOO_LONG_500 if flaw is Flaw.TOO_LONG else replies.BAD_LINE_500)

    def rawReceived(self, data: bytes) -> Awaitable[None] | None:
        message, unstuffer = self._message, self._unstuffer
        assert message is not None
        assert unstuffer is not None
        content = unstuffer.feed(data)
        if unstuffer.flawed:
            message.spoil()
        if not unstuffer.finished:
            return message.write(content) if content else None
        # First of all: whatever goes wrong from here on, what is behind the end is commands.
        self._unstuffer = None
        self.endRaw(unstuffer.rest)
        self.setPhase(None)
        return self._conclude(message, message.write(content) if content else None)

    def commandFailed(self) -> None:
        if self._message is not None and self._unstuffer is not None:
            # In the middle of the data: nothing may be said before its end.
            self._message.spoil(replies.TROUBLE_451)
            return
        self._abandon()
        self._say(replies.TROUBLE_451)

    def sessionTimedOut(self, why: str) -> None:
        if why == "idle":
            self._say(replies.TIMEOUT_421)
        else:
            self._sayFarewell("overlong and broken lines without end", replies.TOO_MANY_ERRORS_421)

    def sessionStopping(self) -> None:
        self._say(replies.SHUTTING_DOWN_421)

    def sessionLost(self, reason: Failure) -> None:
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
        size = self.deliveryFactory.rules.limits.message_size
        offered: dict[bytes, list[bytes] | None] = {
            b"PIPELINING": None,
            b"SIZE": [b"%d" % size],
            b"8BITMIME": None,
            b"SMTPUTF8": None,
            b"ENHANCEDSTATUSCODES": None,
        }
        if not self.startedTLS and self.factory.context() is not None:
            offered[b"STARTTLS"] = None
        offered[b"HELP"] = None
        return offered

    def validateFrom(
        self, helo: Origin, origin: Address, parameters: MailParameters = _NO_MAIL_PARAMETERS
    ) -> Awaitable[None] | None:
        """Begin a transaction. Raises :class:`Refused`."""
        delivery = self.deliveryFactory.getMessageDelivery()
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
        self._introduce(parse_helo(rest), "SMTP")
        self._say(Reply(250, "", self.factory.hostname))

    def do_EHLO(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.1."""
        self._introduce(parse_helo(rest), self._protocol("ESMTP"))
        lines = self.host + b"\n" + self.listExtensions()
        self._say(Reply(250, "", lines.decode("ascii")))

    def do_MAIL(self, rest: bytes) -> Awaitable[None] | None:
        """RFC 5321 §4.1.1.2."""
        if not self._origin.helo:
            raise BadCommand(replies.BAD_SEQUENCE_503.saying("Say EHLO first"))
        if self.delivery is not None:
            raise BadCommand(replies.BAD_SEQUENCE_503.saying("A transaction is under way"))
        self._tried = True
        sender, raw = understand(parse_mail, rest, replies.BAD_SENDER_501)
        parameters = mail_parameters(raw, _MAIL_PARAMETERS) if raw else _NO_MAIL_PARAMETERS
        self._utf8 = parameters.smtputf8
        self._checkASCII(rest)
        origin = self._origin
        if self._utf8:
            origin = evolve(origin, protocol=self._protocol("UTF8SMTP"))
        return self._answer(self.validateFrom(origin, sender, parameters), _SENDER_OK)

    def do_RCPT(self, rest: bytes) -> Awaitable[None] | None:
        """RFC 5321 §4.1.1.3."""
        if self.delivery is None:
            raise self._withoutMail()
        recipient, raw = understand(parse_rcpt, rest, replies.BAD_RECIPIENT_501)
        parameters = rcpt_parameters(raw, _RCPT_PARAMETERS) if raw else _NO_RCPT_PARAMETERS
        self._checkASCII(rest)
        return self._answer(self.validateTo(recipient, parameters), _RECIPIENT_OK)

    def do_DATA(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.4."""
        refuse_argument(rest)
        if self.delivery is None:
            raise self._withoutMail()
        if not self.delivery.hasRecipients:
            raise Refused(replies.NO_RECIPIENTS_554)
        message = self.delivery.message()
        self.delivery = None
        self._tried = False
        self._message = message
        self._unstuffer = Unstuffer(_LONGEST_TEXT_LINE)
        self.reply(_GO_AHEAD)
        self.setPhase(_TRANSACTION)
        self.beginRaw()

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
        if self.startedTLS or self.delivery is not None or not self._origin.helo:
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

    def _introduce(self, name: str, protocol: str) -> None:
        self._abandon()
        # Behind a proxy that speaks the PROXY protocol the client is not known before its first octets.
        self.peer = peer_of(self.transport.getPeer())
        self._origin = Origin(self.peer.address, self.peer.port, name, protocol, self.tls)

    def _protocol(self, word: str) -> str:
        """The "with" keyword (RFC 3848, RFC 6531 §4.3)."""
        return word + "S" * self.startedTLS + "A" * bool(self._origin.login)

    def _forget(self) -> None:
        self._abandon()
        self._origin = Origin(self.peer.address, self.peer.port)

    def _abandon(self) -> None:
        """There is no transaction any more, and no message that is not being committed."""
        self.delivery = None
        self._tried = False
        self._unstuffer = None
        message, self._message = self._message, None
        if message is not None:
            message.connectionLost()

    def _answer(self, waiting: Awaitable[None] | None, yes: bytes) -> Awaitable[None] | None:
        if waiting is not None:
            return self._answerLater(waiting, yes)
        self.reply(yes)
        return None

    async def _answerLater(self, waiting: Awaitable[None], yes: bytes) -> None:
        try:
            await waiting
        except Refused as refused:
            self._say(refused.reply)
        else:
            self.reply(yes)

    async def _conclude(self, message: Message, waiting: Awaitable[None] | None) -> None:
        if waiting is not None:
            await waiting
        # The session waits for a Deferred of its own: the one that is cancelled when the client goes away.
        answered: Deferred[Reply] = Deferred()
        self._answered = message.eomReceived().addCallback(answered.callback)
        reply = await answered
        self._message = None
        self.reply(spell_reply(reply))

    def _say(self, reply: Reply) -> None:
        self.reply(spell_reply(reply))

    def _checkASCII(self, rest: bytes) -> None:
        if not (self._utf8 or rest.isascii()):
            raise Refused(replies.NEEDS_UTF8_553)

    def _withoutMail(self) -> Refused:
        """Why RCPT or DATA is refused outside of a transaction."""
        reply = replies.BAD_SEQUENCE_503.saying("MAIL first")
        # Where MAIL was refused, this was sent before that could be known (RFC 2920 §3.1): no fault.
        return Refused(reply) if self._tried else BadCommand(reply)

    def _complain(self, reply: Reply) -> None:
        """Answer a bad command; too many of them end the session."""
        self._say(reply)
        self._errors += 1
        if self._errors >= _BAD_COMMANDS:
            self._sayFarewell("too many bad commands", replies.TOO_MANY_ERRORS_421)
            self.closeSession()

    def _sayFarewell(self, reason: str, reply: Reply) -> None:
        journal.refused(self._origin, "session", reason, BUILT_IN, f"{reply.code} {reply.status}")
        self._say(reply)


class SMTPFactory(SessionFactory):
    """What the sessions of one SMTP service share.

    :ivar service: its name in the configuration: ``smtp``, ``submission`` …
    :ivar office: where receptions come from; its rules may be replaced at any time.
    :ivar context: gives the current TLS context factory, or ``None`` where STARTTLS is not to be had.
    """

    def __init__(
        self,
        office: Office,
        context: Callable[[], object | None],
        bounds: Bounds,
        clock: IReactorTime,
        service: str = "smtp",
    ) -> None:
        super().__init__(bounds, clock)
        self.office = office
        self.hostname = office.hostname
        self.context = context
        self.service = service

    def buildProtocol(self, addr: IAddress | None) -> SMTPServer:  # type: ignore[override]
        return SMTPServer(self)

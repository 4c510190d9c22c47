"""The POP3 server (RFC 1939, 2449, 2595 §4, 3206, 5034, 6856): ``twisted.mail.pop3.POP3`` on our own session.

:class:`~mailserver.net.session.Session` takes over framing, order, deadlines and TLS; cred decides who may
in and gives the maildrop. Promises, beyond the session's:

- Numbers, sizes and unique-ids stand still for the session; deleted messages vanish from STAT, LIST and UIDL
  and the others keep their numbers.
- Nothing is deleted but by QUIT on a connection that stands, and not before the peer's kernel has every
  message it was sent; however the session ends otherwise, the maildrop is as it was. The maildrop is let go
  exactly once, also when the login is done after the peer has gone.
- A message is sent in pieces while the peer reads; one that cannot be read to its end ends the connection,
  so that a part is never taken for the whole.
- A wrong name and a wrong password get the same answer; the third ends the session.

A message is sent as it was received, whether the client has asked for UTF8 or not: RFC 6856 §2.1 would have a
server withhold what has UTF-8 in its header from clients that have not, or send something else in its place;
the one keeps people from their mail, the other from what is in it.

Of the base class only the vocabulary is left: ``portal``, ``mbox``, ``listCapabilities`` and the ``do_``
methods, all of them overridden that :mod:`~mailserver.pop3.commands` names. Its ``connectionLost``,
``lineReceived``, ``state_COMMAND``, ``state_AUTH``, ``processCommand``, ``blocked``, ``_unblock``,
``_longOperation``, ``_coiterate``, ``successResponse``, ``failResponse``, ``authenticateUser…`` and
``do_APOP/LAST/RPOP`` are dead: nothing calls them. A test holds the base against this list.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.python.failure import Failure

from mailserver.net.session import Bounds, SessionFactory
from mailserver.pop3.authorization import Authorization
from mailserver.pop3.capabilities import Abilities, capability_lines
from mailserver.pop3.commands import Refused, method_of
from mailserver.pop3.language import LANGUAGES, choose, phrase
from mailserver.wire.lines import Flaw
from mailserver.wire.pop3 import ok, split_command
from mailserver.wire.sasl import Mechanisms
from mailserver.wire.scram import Bindings
from mailserver.wire.syntax import BadSyntax

__all__ = ["BOUNDS", "POP3Factory", "POP3Server", "Rules"]

BOUNDS = Bounds(idle=600.0)
"""RFC 1939 §3: an autologout timer must be of at least 10 minutes."""

_PATIENCE = 10  # commands that make no sense
_FOREIGN = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT", b"OPTIONS", b"EHLO", b"HELO"})


class POP3Server(Authorization):
    """One POP3 session. Made by :class:`POP3Factory`."""

    factory: Any  # a POP3Factory
    portal: Any

    # --- what the session calls -------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet. Without a timestamp: there is no APOP, which would need passwords in clear, and MD5."""
        self.beginSession()
        self.portal = self.factory.portal
        self._junk = 0
        self.beginAuthorization()
        self.beginTransactions()
        if not ISSLTransport.providedBy(self.transport):
            self.setPhase(self.bounds.idle)  # to log in, however lively
        if not self.admission.allowed:
            self.replyError("too-many", "SYS/TEMP")
            self.closeSession()
            return
        self.replyOK("ready", name=self.factory.hostname)

    def tlsStarted(self) -> None:
        """See :meth:`Session.tlsStarted`."""
        self.setPhase(self.bounds.idle)

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        """See :meth:`Session.commandReceived`."""
        try:
            if self.inExchange:
                return self.responseReceived(line)
            verb, arguments = split_command(line)
            return self._command(verb, arguments)
        except Refused as refused:
            self.replyError(refused.key)
        except BadSyntax:
            self.replyError("number")
        return None

    def _command(self, verb: bytes, arguments: tuple[bytes, ...]) -> Awaitable[None] | None:
        try:
            method = method_of(verb, len(arguments), self.mbox is not None)
        except Refused as refused:
            self._refuse_junk(refused.key, verb)
            return None
        waiting: Awaitable[None] | None = getattr(self, method)(*arguments)
        return waiting

    def flawReceived(self, flaw: Flaw) -> None:
        """See :meth:`Session.flawReceived`."""
        self.endExchange()
        self._refuse_junk("line-too-long" if flaw is Flaw.TOO_LONG else "line-flawed")

    def commandFailed(self) -> None:
        """See :meth:`Session.commandFailed`."""
        self.endExchange()
        if self.mbox is None:
            self._leave()  # a login that broke half-way
        self.replyError("trouble", "SYS/TEMP")

    def sessionTimedOut(self, why: str) -> None:
        """Nothing is said to an idle client (RFC 1939 §3)."""
        if why != "idle":
            self.replyError("junk")

    def sessionStopping(self) -> None:
        """See :meth:`Session.sessionStopping`."""
        self.replyError("stopping", "SYS/TEMP")

    def sessionLost(self, reason: Failure) -> None:
        """The connection is gone: whatever was marked stays."""
        self._leave()

    def _refuse_junk(self, key: str, verb: bytes = b"") -> None:
        self._junk += 1
        # A browser made to talk to us would go on until its lines make sense.
        foreign = verb in _FOREIGN
        self.replyError("foreign" if foreign else key)
        if foreign or self._junk >= _PATIENCE:
            self.closeSession()

    # --- at any time ------------------------------------------------------------------------------

    def do_CAPA(self) -> None:
        """What can be done now (RFC 2449 §5)."""
        status = ok(phrase(self.language, "capabilities"))
        self.reply(b"\r\n".join([status[:-2], *self.listCapabilities(), b".", b""]))

    def listCapabilities(self) -> list[bytes]:
        """The capabilities in this state."""
        rules = self.factory.rules
        abilities = Abilities(
            tls=self.mbox is None and not self.tls and rules.context() is not None,
            login=self.mbox is not None or self.mayLogIn,
            mechanisms=self.mechanisms().names,
            login_delay=rules.login_delay(),
        )
        return [line.encode("ascii") for line in capability_lines(abilities)]

    def do_LANG(self, wanted: bytes = b"") -> None:
        """List the languages, or choose one (RFC 6856 §3.2)."""
        if not wanted:
            rows = [f"{tag} {name}\r\n" for tag, name in LANGUAGES.items()]
            status = ok(phrase(self.language, "languages"))
            self.reply(status + "".join(rows).encode("utf-8") + b".\r\n")
            return
        language = choose(wanted.decode("ascii", "replace"))
        if language is None:
            raise Refused("no-such-language")
        self.language = language
        self.reply(ok(f"{language} {phrase(language, 'language')}"))


@frozen
class Rules:
    """What sessions go by; asked each time, so that a reload is heeded at once.

    :ivar context: the TLS context factory for STLS; ``None`` when STLS is not offered.
    :ivar plaintext: whether a client of this IP address may log in without TLS.
    :ivar mechanisms: what AUTH offers to a session with these channel bindings; ``None``: without TLS.
    :ivar login_delay: seconds between two logins to one account, for CAPA; whoever opens maildrops enforces
        it (:mod:`~mailserver.pop3.delay`).
    """

    context: Callable[[], object | None]
    plaintext: Callable[[str], bool]
    mechanisms: Callable[[Callable[[], Bindings] | None], Mechanisms]
    login_delay: Callable[[], float] = lambda: 0.0


class POP3Factory(SessionFactory):
    """The sessions of one listener, or of several that follow the same rules.

    :param portal: gives an :class:`IMailboxPOP3` as :class:`~mailserver.mailboxes.maildrop.Maildrop` is.
    :param hostname: our name, for the greeting.
    """

    def __init__(
        self, portal: Portal, hostname: str, rules: Rules, bounds: Bounds, clock: IReactorTime
    ) -> None:
        super().__init__(bounds, clock)
        self.portal = portal
        self.hostname = hostname
        self.rules = rules

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A session."""
        session = POP3Server()
        session.factory = self
        session.meet(addr)
        return session

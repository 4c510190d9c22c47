"""The POP3 server (RFC 1939, 2449, 2595 §4, 3206): ``twisted.mail.pop3.POP3`` on our own session.

:class:`~mailserver.net.session.Session` takes over framing, order, deadlines and TLS; cred decides who may
in and gives the maildrop. Promises, beyond the session's:

- Numbers, sizes and unique-ids stand still for the session; deleted messages vanish from STAT, LIST and UIDL
  and the others keep their numbers.
- Nothing is deleted but by QUIT on a connection that stands; however the session ends otherwise, the maildrop
  is as it was. The maildrop is let go exactly once, also when the login is done after the peer has gone.
- A message is sent in pieces while the peer reads; one that cannot be read to its end ends the connection,
  so that a part is never taken for the whole.
- A wrong name and a wrong password get the same answer, after a delay; the third ends the session.

Of the base class only the vocabulary is left: ``portal``, ``mbox``, ``listCapabilities`` and the ``do_``
methods, all of them overridden that :mod:`~mailserver.pop3.commands` names. Its ``connectionLost``,
``lineReceived``, ``state_COMMAND``, ``state_AUTH``, ``processCommand``, ``blocked``, ``_unblock``,
``_longOperation``, ``_coiterate``, ``successResponse``, ``failResponse``, ``authenticateUser…`` and
``do_APOP/AUTH/LAST/RPOP`` are dead: nothing calls them. A test holds the base against this list.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.cred.error import LoginDenied, LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.domains.realm import Login
from mailserver.interfaces import MaildropInUse, StorageTrouble
from mailserver.net.session import Bounds, SessionFactory
from mailserver.pop3.commands import Refused, method_of
from mailserver.pop3.login import maildrop_for
from mailserver.pop3.transaction import Transaction
from mailserver.threads import Busy
from mailserver.wire.lines import Flaw
from mailserver.wire.pop3 import err, ok, split_command
from mailserver.wire.syntax import BadSyntax

__all__ = ["BOUNDS", "POP3Factory", "POP3Server"]

BOUNDS = Bounds(idle=600.0)
"""RFC 1939 §3: an autologout timer must be of at least 10 minutes."""

_LONGEST_PASSWORD = 1024  # octets; more is refused before anything is hashed
_LOGINS = 3  # that may fail
_PATIENCE = 10  # commands that make no sense
_FOREIGN = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT", b"OPTIONS", b"EHLO", b"HELO"})


class POP3Server(Transaction):
    """One POP3 session. Made by :class:`POP3Factory`."""

    factory: "POP3Factory"
    portal: Any

    # --- what the session calls -------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet. Without a timestamp: there is no APOP, which would need passwords in clear."""
        self.beginSession()
        self.portal = self.factory.portal
        self._user: bytes | None = None
        self._junk = self._failed_logins = 0
        self.beginTransactions()
        if not ISSLTransport.providedBy(self.transport):
            self.setPhase(self.bounds.idle)  # to log in, however lively
        self.reply(ok(f"{self.factory.hostname} POP3 server ready"))

    def tlsStarted(self) -> None:
        """See :meth:`Session.tlsStarted`."""
        self.setPhase(self.bounds.idle)

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        """See :meth:`Session.commandReceived`."""
        verb, arguments = split_command(line)
        try:
            method = method_of(verb, len(arguments), self.mbox is not None)
        except Refused as refused:
            self._refuse_junk(str(refused), verb)
            return None
        try:
            waiting: Awaitable[None] | None = getattr(self, method)(*arguments)
        except (Refused, BadSyntax) as refused:
            self.reply(err(str(refused)))
            return None
        return waiting

    def flawReceived(self, flaw: Flaw) -> None:
        """See :meth:`Session.flawReceived`."""
        self._refuse_junk(
            "Line too long" if flaw is Flaw.TOO_LONG else "Line holds a bare CR or LF, or a NUL"
        )

    def commandFailed(self) -> None:
        """See :meth:`Session.commandFailed`."""
        if self.mbox is None:
            self._leave()  # a login that broke half-way
        self.reply(err("Internal trouble, try again later", "SYS/TEMP"))

    def sessionTimedOut(self, why: str) -> None:
        """Nothing is said to an idle client (RFC 1939 §3)."""
        if why != "idle":
            self.reply(err("Too much junk"))

    def sessionStopping(self) -> None:
        """See :meth:`Session.sessionStopping`."""
        self.reply(err("Server is stopping, try again later", "SYS/TEMP"))

    def sessionLost(self, reason: Failure) -> None:
        """The connection is gone: whatever was marked stays."""
        self._leave()

    def _refuse_junk(self, text: str, verb: bytes = b"") -> None:
        self._junk += 1
        # A browser made to talk to us would go on until its lines make sense.
        foreign = verb in _FOREIGN
        self.reply(err("This is a mail server, closing connection" if foreign else text))
        if foreign or self._junk >= _PATIENCE:
            self.closeSession()

    # --- at any time ------------------------------------------------------------------------------

    def do_CAPA(self) -> None:
        """What can be done now (RFC 2449 §5)."""
        lines = [b"+OK Capability list follows", *self.listCapabilities(), b".", b""]
        self.reply(b"\r\n".join(lines))

    def listCapabilities(self) -> list[bytes]:
        """The capabilities in this state (RFC 2449 §6, RFC 2595 §4, RFC 3206 §3)."""
        found = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER"]
        if self._may_log_in():
            found.append(b"USER")
        if self.mbox is None and not self.tls and self.factory.context() is not None:
            found.append(b"STLS")
        return [*found, b"IMPLEMENTATION mailserver"]

    # --- before the login -------------------------------------------------------------------------

    def do_STLS(self) -> None:
        """Begin TLS (RFC 2595 §4). All that was said before is forgotten."""
        if self.tls:
            raise Refused("TLS is on already")
        context = self.factory.context()
        if context is None:
            raise Refused("TLS is not available")
        self._user = None
        self.startSessionTLS(context, ok("Begin TLS"))

    def do_USER(self, user: bytes) -> None:
        """The name (RFC 1939 §7). Whether it exists is not told."""
        known, self._user = self._user, None
        if not self._may_log_in():
            raise Refused("Use STLS before logging in")
        if known is not None:
            raise Refused("USER was given, PASS had to follow; begin again")
        self._user = user
        self.reply(ok("Send PASS"))

    def do_PASS(self, password: bytes) -> Awaitable[None]:
        """The password (RFC 1939 §7)."""
        user, self._user = self._user, None
        if user is None:
            raise Refused("Send USER first")
        self._account = user.decode("utf-8", "backslashreplace")
        return self._log_in(user, password)

    def _may_log_in(self) -> bool:
        return bool(self.tls) or self.factory.plaintext(self.peer.address)

    async def _log_in(self, user: bytes, password: bytes) -> None:
        try:
            if len(password) > _LONGEST_PASSWORD:
                self._note_login("password too long")
                raise LoginFailed
            login = Login(user, password, "pop3", self.peer.address, bool(self.tls))
            mbox, self._logout = await maildrop_for(self.factory.portal, login)
            self._account = str(getattr(mbox, "account", self._account))
            self._sizes = list(await maybeDeferred(mbox.listMessages))
            self.mbox = mbox
            self.setPhase(None)
        except (LoginFailed, LoginDenied):
            await self._deny()
        except MaildropInUse:
            self._note_login("maildrop in use")
            self.reply(err("Another session has the maildrop, try again later", "IN-USE"))
        except NotImplementedError:
            self._note_login("no maildrop")
            self.reply(err("This account has no maildrop", "SYS/PERM"))
        except (StorageTrouble, Busy) as trouble:
            self._tell(trouble, "at login")
            self._leave()
            self.reply(err("Maildrop not available now, try again later", "SYS/TEMP"))
        else:
            self.reply(ok(f"{len(self._sizes)} messages"))

    async def _deny(self) -> None:
        self._failed_logins += 1
        # A guess costs time, which the server does not spend.
        await deferLater(self.clock, float(self._failed_logins))
        self.reply(err("Wrong name or password", "AUTH"))
        if self._failed_logins >= _LOGINS:
            self.closeSession()

    def _note_login(self, reason: str) -> None:
        journal.login("pop3", self.peer.address, self._account, False, reason)


class POP3Factory(SessionFactory):
    """The sessions of one listener, or of several that follow the same rules.

    :param portal: gives an :class:`IMailboxPOP3` whose messages are read with ``await read(octets)``.
    :param hostname: our name, for the greeting.
    :param context: the TLS context factory for STLS as it is now; ``None`` when STLS is not offered.
    :param plaintext: whether a client of this IP address may log in without TLS.
    """

    def __init__(
        self,
        portal: Portal,
        hostname: str,
        context: Callable[[], object | None],
        plaintext: Callable[[str], bool],
        bounds: Bounds,
        clock: IReactorTime,
    ) -> None:
        super().__init__(bounds, clock)
        self.portal = portal
        self.hostname = hostname
        self.context = context
        self.plaintext = plaintext

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A session."""
        session = POP3Server()
        session.factory = self
        return session

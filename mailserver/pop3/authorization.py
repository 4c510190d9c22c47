"""The AUTHORIZATION state of a POP3 session (RFC 1939 §4): who it is, and in which way they say so.

USER and PASS, or AUTH (RFC 5034), with a mechanism of :mod:`mailserver.wire.sasl`. Where the network's rule
asks for TLS, none of them is offered or taken before it. cred tells whether the login is right, how long a
wrong one has to wait for its answer, and gives the maildrop, locked.
"""

from collections.abc import Awaitable
from functools import partial
from typing import Any

from twisted.cred.error import LoginDenied, LoginFailed
from twisted.mail.interfaces import IMailboxPOP3

from mailserver import journal
from mailserver.domains.admission import admit
from mailserver.domains.credentials import Login, Proven
from mailserver.domains.realm import LockedOut
from mailserver.interfaces import MaildropInUse, StorageTrouble
from mailserver.net.binding import channel_bindings
from mailserver.pop3.commands import Refused
from mailserver.pop3.delay import LoginTooEarly
from mailserver.pop3.language import PREFERRED, phrase
from mailserver.pop3.transaction import Transaction
from mailserver.threads import Busy
from mailserver.wire.pop3 import challenge, ok
from mailserver.wire.sasl import (
    Cancelled,
    Challenge,
    Exchange,
    Mechanisms,
    Password,
    Proof,
    Step,
    decode_response,
    encode_challenge,
    split_auth,
)
from mailserver.wire.syntax import BadSyntax

__all__ = ["Authorization"]

_LOGINS = 3  # that may fail


class Authorization(Transaction):
    """The part of a session in which somebody logs in."""

    def beginAuthorization(self) -> None:
        """Nothing has been said yet, or it has been forgotten."""
        self._failed_logins = 0
        self._user: bytes | None = None
        self._exchange: Exchange | None = None
        self._owed: Proof | None = None  # a proof that was right, while its answer is on its way
        self._utf8 = False
        self.language = PREFERRED

    @property
    def mayLogIn(self) -> bool:
        """Whether a login would be taken now."""
        return bool(self.tls) or self.factory.rules.plaintext(self.peer.address)

    def mechanisms(self) -> Mechanisms:
        """What AUTH has to offer now."""
        bindings = partial(channel_bindings, self.transport) if self.tls else None
        mechanisms: Mechanisms = self.factory.rules.mechanisms(bindings)
        return mechanisms

    @property
    def inExchange(self) -> bool:
        """Whether the next line is a response, not a command."""
        return self._exchange is not None

    def do_STLS(self) -> None:
        """Begin TLS (RFC 2595 §4). All that was said before is forgotten."""
        if self.tls:
            raise Refused("tls-on")
        context = self.factory.rules.context()
        if context is None:
            raise Refused("no-tls")
        if self._utf8:
            raise Refused("utf8-before-tls")  # RFC 6856 §2.1
        ready = ok(phrase(self.language, "tls"))
        self.beginAuthorization()
        self.startSessionTLS(context, ready)

    def do_UTF8(self) -> None:
        """The client takes UTF-8 in header fields (RFC 6856 §2). Messages are sent as they are, anyway."""
        self._utf8 = True
        self.replyOK("utf8")

    def do_USER(self, user: bytes) -> None:
        """The name (RFC 1939 §7). Whether it exists is not told."""
        known, self._user = self._user, None
        if not self.mayLogIn:
            raise Refused("tls-first")
        if known is not None:
            raise Refused("user-again")
        self._user = user
        self.replyOK("send-pass")

    def do_PASS(self, password: bytes) -> Awaitable[None]:
        """The password (RFC 1939 §7)."""
        user, self._user = self._user, None
        if user is None:
            raise Refused("user-first")
        return self._log_in(Password(user, password))

    def do_AUTH(self, argument: bytes = b"") -> Awaitable[None] | None:
        """Begin an exchange (RFC 5034 §4)."""
        self._user = None
        if not self.mayLogIn:
            raise Refused("tls-first")
        try:
            name, initial = split_auth(argument)
        except BadSyntax:
            raise Refused("bad-response") from None
        self._exchange = self.mechanisms().begin(name)
        if self._exchange is None:
            raise Refused("no-such-mechanism")
        return self._advance(initial)

    def responseReceived(self, line: bytes) -> Awaitable[None] | None:
        """The next line of an exchange. Raises :class:`Refused`, and the exchange is over."""
        try:
            response = decode_response(line)
        except Cancelled:
            self.endExchange()
            raise Refused("cancelled") from None
        except BadSyntax:
            self.endExchange()
            raise Refused("bad-response") from None
        if self._owed is None:
            return self._advance(response)
        owed = self._owed
        self.endExchange()
        if response:
            raise Refused("bad-response")
        return self._log_in(owed)

    def endExchange(self) -> None:
        """No response is waited for any more."""
        self._exchange = self._owed = None

    def _advance(self, response: bytes | None) -> Awaitable[None] | None:
        assert self._exchange is not None
        try:
            step: Step = self._exchange.step(response)
        except BadSyntax:
            self.endExchange()
            raise Refused("bad-response") from None
        if isinstance(step, Proof) and step.right and step.final:
            # What the client is owed goes out as a challenge; its answer is empty (RFC 5802 §5).
            self._owed, step = step, Challenge(step.final)
        if isinstance(step, Challenge):
            self.reply(challenge(encode_challenge(step)))
            return None
        self.endExchange()
        return self._log_in(step)

    async def _log_in(self, shown: Password | Proof) -> None:
        self._account = shown.name.decode("utf-8", "backslashreplace")
        try:
            mbox, self._logout = await admit(self.factory.portal, self._credentials(shown), IMailboxPOP3)
            self._account = str(getattr(mbox, "account", self._account))
            count = len(mbox.contents)
        except (LoginFailed, LoginDenied) as denial:
            self._deny(denial)
        except LoginTooEarly as trouble:
            self._note_login("login delay")
            self.replyError("too-early", "LOGIN-DELAY", count=f"{trouble.seconds:g}")
        except MaildropInUse:
            self._note_login("maildrop in use")
            self.replyError("in-use", "IN-USE")
        except NotImplementedError:
            self._note_login("no maildrop")
            self.replyError("no-maildrop", "SYS/PERM")
        except (StorageTrouble, Busy) as trouble:
            self._tell(trouble, "at login")
            self._leave()
            self.replyError("no-access", "SYS/TEMP")
        else:
            self.mbox = mbox
            self.setPhase(None)
            self.replyOK("messages", count=count)

    def _credentials(self, shown: Password | Proof) -> Login | Proven:
        facts: Any = ("pop3", self.peer.address, bool(self.tls))
        if isinstance(shown, Password):
            return Login(shown.name, shown.password, *facts)
        return Proven(shown.name, shown.right, *facts)

    def _deny(self, denial: Exception) -> None:
        """A wrong name and a wrong password get the same answer."""
        self._failed_logins += 1
        if isinstance(denial, LockedOut):
            # The password may be right: a client must not ask its user for another (RFC 3206 §4).
            self.replyError("locked-out", "SYS/TEMP")
        else:
            self.replyError("wrong-login", "AUTH")
        if self._failed_logins >= _LOGINS or isinstance(denial, LockedOut):
            self.closeSession()

    def _note_login(self, reason: str) -> None:
        journal.login("pop3", self.peer.address, self._account, False, reason)

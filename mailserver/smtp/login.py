"""The part of an SMTP session that logs somebody in: AUTH (RFC 4954), and who may send without it (RFC 6409).

Promises:

- One login a session, none inside a transaction, and none before EHLO or HELO. STARTTLS forgets it.
- Without TLS a password is taken from listed networks only, and elsewhere neither offered nor looked at.
- While an exchange goes on every line is a response; whatever ends it, the next line is a command.
- Three wrong logins end the session, and so does one by a client that is locked out.
"""

from collections.abc import Awaitable
from functools import partial

from attrs import evolve

from mailserver.model import reply as replies
from mailserver.net.binding import channel_bindings
from mailserver.smtp.answering import AnsweringSession
from mailserver.smtp.authentication import Authentication, Client, Logins, TurnedAway, WrongLogin
from mailserver.smtp.commands import BadCommand
from mailserver.smtp.reception import Refused, Sender
from mailserver.wire.sasl import LONGEST_LINE

__all__ = ["LoginSession"]

_FAILED_LOGINS = 3


class LoginSession(AnsweringSession):
    """The mixin. The class with it gives the property at the end.

    :ivar sender: who has logged in; ``None`` before.
    :param service: as :attr:`mailserver.smtp.authentication.Client.service`.
    :param logins: how people log in; ``None``: not at all.
    """

    startedTLS: bool

    def __init__(self, service: str, logins: Logins | None) -> None:
        self.sender: Sender | None = None
        self._service = service
        self._logins = logins
        self._authentication: Authentication | None = None  # where AUTH has been said
        self._failed_logins = 0

    @property
    def isAuthenticating(self) -> bool:
        """Whether the next line is a response."""
        return self._authentication is not None and self._authentication.pending

    def mechanisms(self) -> list[bytes]:
        """What AUTH can be said with now; nothing if it cannot."""
        if self._logins is None or self.sender is not None:
            return []
        return [name.encode("ascii") for name in Authentication(self._logins).offered(self._client())]

    def ext_AUTH(self, rest: bytes) -> Awaitable[None]:
        """RFC 4954 §4."""
        if self._logins is None:
            raise BadCommand(replies.NOT_IMPLEMENTED_502)
        if not self._origin.helo or self.sender is not None or self.inTransaction:
            raise BadCommand(replies.BAD_SEQUENCE_503)
        authentication = self._authentication = self._authentication or Authentication(self._logins)
        return self._authenticate(authentication, authentication.begin(rest, self._client()))

    def responseReceived(self, line: bytes) -> Awaitable[None]:
        """A line came while :attr:`isAuthenticating`."""
        authentication = self._authentication
        assert authentication is not None
        return self._authenticate(authentication, authentication.respond(line, self._client()))

    def endExchange(self) -> None:
        """The next line is a command."""
        if self._authentication is not None and self._authentication.pending:
            self._authentication.forget()
            self.setLongestLine(self.bounds.line)

    def forgetLogin(self) -> None:
        """Nobody has logged in."""
        self.endExchange()
        if self._authentication is not None:
            self._authentication.forget()
        self.sender = None

    # --- inside -----------------------------------------------------------------------------------

    def _client(self) -> Client:
        bindings = partial(channel_bindings, self.transport) if self.startedTLS else None
        return Client(self._service, self.peer.address, bindings)

    async def _authenticate(self, authentication: Authentication, step: Awaitable[bytes]) -> None:
        """Answer a step, and draw the consequences."""
        try:
            reply = await step
        except WrongLogin as wrong:
            self._say(wrong.reply)
            self._count()
        except TurnedAway as away:
            self._say(away.reply)
            self.closeSession()
        except Refused as refused:
            if refused.reply is replies.ENCRYPTION_NEEDED_538:
                self._record("AUTH", "no TLS, and the client is in no network without", refused.reply)
            self._refuse(refused)
        else:
            if authentication.avatar is not None:
                self._welcome(authentication.avatar)
            self.reply(reply)
        self.setLongestLine(LONGEST_LINE if authentication.pending else self.bounds.line)

    def _welcome(self, sender: Sender) -> None:
        self.sender = sender
        self._origin = evolve(self._origin, login=sender.account.name)
        if self._origin.protocol.startswith("ESMTP"):
            self._origin = evolve(self._origin, protocol=self._origin.protocol + "A")  # RFC 3848

    def _count(self) -> None:
        self._failed_logins += 1
        if self._failed_logins >= _FAILED_LOGINS:
            self._sayFarewell("too many wrong logins", replies.LOCKED_OUT_421)
            self.closeSession()

    # --- given by the class -----------------------------------------------------------------------

    @property
    def inTransaction(self) -> bool:
        """Whether MAIL was accepted and the message is not complete."""
        raise NotImplementedError

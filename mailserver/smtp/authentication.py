"""AUTH in one SMTP session (RFC 4954): from the mechanism's name to an account that is let in.

:class:`Authentication` is asked by the session what it can offer, is given the AUTH command and then, while
``pending``, every line. When AUTH may come at all, and what happens to those who fail too often, is the
session's to say.

Promises: responses are decoded strictly, and nothing is known of an exchange once it is over, however it
ended; the same words for a wrong name and a wrong password.

Every step has one reply, in octets, or raises :class:`~mailserver.smtp.reception.Refused` with it, which ends
the exchange: 501 for what the mechanism does not have and for a client that gives up, 504 for a mechanism
that is not offered, 538 without TLS, 454 when too many log in already; 535 as :class:`WrongLogin`, 421 as
:class:`TurnedAway`.
"""

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.cred.error import LoginDenied, LoginFailed
from twisted.cred.portal import Portal
from twisted.mail.interfaces import IMessageDeliveryFactory

from mailserver.domains.admission import admit
from mailserver.domains.credentials import Login, Proven
from mailserver.domains.realm import LockedOut
from mailserver.interfaces import StorageTrouble
from mailserver.model import reply as replies
from mailserver.smtp.commands import BadCommand
from mailserver.smtp.reception import Refused
from mailserver.threads import Busy
from mailserver.wire.replies import spell_reply
from mailserver.wire.sasl import (
    Cancelled,
    Challenge,
    Exchange,
    Mechanisms,
    Password,
    Proof,
    decode_response,
    encode_challenge,
    split_auth,
)
from mailserver.wire.scram import Bindings
from mailserver.wire.syntax import BadSyntax

__all__ = ["Authentication", "Client", "Logins", "TurnedAway", "WrongLogin"]


_LOGGED_IN = spell_reply(replies.LOGGED_IN_235)


class WrongLogin(Refused):
    """A wrong name or password."""


class TurnedAway(Refused):
    """The client is locked out: there is nothing more to talk about."""


@frozen
class Logins:
    """What all sessions need to let people in.

    :ivar portal: gives an ``IMessageDeliveryFactory`` for a login.
    :ivar mechanisms: what can be offered to a session with these channel bindings; ``None``: without TLS.
    :ivar plaintext: whether a client of this IP address may log in without TLS.
    """

    portal: Portal
    mechanisms: Callable[[Callable[[], Bindings] | None], Mechanisms]
    plaintext: Callable[[str], bool]


@frozen
class Client:
    """Who logs in, as far as is known.

    :ivar bindings: gives the channel bindings of the connection; ``None`` without TLS.
    """

    service: str
    address: str
    bindings: Callable[[], Bindings] | None


class Authentication:
    """The exchanges of one session."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._exchange: Exchange | None = None
        self._owed: Any = None  # the avatar of who is let in once our own proof has been taken
        self.avatar: Any = None
        """What the realm gave to who has logged in; ``None`` before."""

    @property
    def pending(self) -> bool:
        """Whether the next line is a response."""
        return self._exchange is not None or self._owed is not None

    def offered(self, client: Client) -> tuple[str, ...]:
        """The mechanisms for this client now, the strongest first; none where it may not log in."""
        return self._mechanisms(client).names if self._may(client) else ()

    def forget(self) -> None:
        """There is no exchange, and nobody has logged in."""
        self._exchange = self._owed = self.avatar = None

    async def begin(self, argument: bytes, client: Client) -> bytes:
        """The AUTH command."""
        self.forget()
        if not self._may(client):
            raise Refused(replies.ENCRYPTION_NEEDED_538)
        try:
            name, initial = split_auth(argument)
        except BadSyntax:
            raise BadCommand(replies.BAD_RESPONSE_501) from None
        exchange = self._mechanisms(client).begin(name)
        if exchange is None:
            raise BadCommand(replies.UNKNOWN_MECHANISM_504)
        return await self._step(exchange, initial, client)

    async def respond(self, line: bytes, client: Client) -> bytes:
        """A line while ``pending``."""
        exchange, self._exchange = self._exchange, None
        owed, self._owed = self._owed, None
        try:
            response = decode_response(line)
        except Cancelled:
            raise Refused(replies.CANCELLED_501) from None
        except BadSyntax:
            raise BadCommand(replies.BAD_RESPONSE_501) from None
        if exchange is not None:
            return await self._step(exchange, response, client)
        if response:
            raise BadCommand(replies.BAD_RESPONSE_501)
        self.avatar = owed
        return _LOGGED_IN

    async def _step(self, exchange: Exchange, response: bytes | None, client: Client) -> bytes:
        try:
            step = exchange.step(response)
        except BadSyntax:
            raise BadCommand(replies.BAD_RESPONSE_501) from None
        if isinstance(step, Challenge):
            self._exchange = exchange
            return _challenge(step)
        avatar = await self._admit(step, client)
        if isinstance(step, Password) or not step.final:
            self.avatar = avatar
            return _LOGGED_IN
        self._owed = avatar
        return _challenge(Challenge(step.final))

    async def _admit(self, step: Password | Proof, client: Client) -> Any:
        service, address, tls = client.service, client.address, client.bindings is not None
        login: Login | Proven
        if isinstance(step, Password):
            login = Login(step.name, step.password, service, address, tls)
        else:
            login = Proven(step.name, step.right, service, address, tls)
        try:
            avatar, _ = await admit(self._logins.portal, login, IMessageDeliveryFactory)
        except LockedOut:
            raise TurnedAway(replies.LOCKED_OUT_421) from None
        except (LoginFailed, LoginDenied):
            raise WrongLogin(replies.WRONG_LOGIN_535) from None
        except (Busy, StorageTrouble):
            raise Refused(replies.LOGIN_BUSY_454) from None
        return avatar

    def _may(self, client: Client) -> bool:
        return client.bindings is not None or self._logins.plaintext(client.address)

    def _mechanisms(self, client: Client) -> Mechanisms:
        return self._logins.mechanisms(client.bindings)


def _challenge(challenge: Challenge) -> bytes:
    # Not by spell_reply: the blank must stand before nothing, too, and SCRAM's may be longer than a reply.
    return b"334 %b\r\n" % encode_challenge(challenge)

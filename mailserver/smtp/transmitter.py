"""The SMTP client: one host, one message, an outcome for every recipient.

:class:`Transmitter` connects to an address, opens the conversation (greeting, EHLO or HELO, STARTTLS and
EHLO again, AUTH where we have a login there), runs the transaction, and takes its leave without keeping
anybody waiting for it: the outcomes are returned as soon as the host has given them. A host that speaks LMTP
is opened with LHLO (RFC 2033 §4.1), and may be a UNIX socket.

A connection that is fit for another message waits for one for a while (:mod:`mailserver.smtp.standby`), and
RSET comes first where the last message was not taken. One that proves dead before the host has said
anything to the new message is as if it had not been: a fresh one takes its place, in the same attempt.

TLS is used as the exchanger's :class:`~mailserver.model.exchanger.Security` says. Under ``MAY`` a refused
STARTTLS means going on in clear, and a handshake that fails means one more connection, in clear: mail must
not wait for TLS that nobody asked for (RFC 7435). Under ``ENCRYPT``, ``VERIFY`` and ``DANE`` both, and a host
without STARTTLS, are trouble with the host. A message with REQUIRETLS goes out under the last two only (RFC
8689 §4.2), and so does a password. Under ``DANE`` the host is judged when the handshake is complete, by what
the :class:`~mailserver.model.exchanger.Demand` holds; where it holds nothing, there is no way. Where
TLS comes before the greeting (RFC 8314 §3.3) there is no way on in clear. To a UNIX socket there is no TLS.

A host that refuses the connection, the greeting or EHLO is trouble of HOST reach, with its reply where it
gave one. Nothing about a host is ever raised. Cancelling ``transmit`` cuts the connection. What the host has
said until then is returned, and doubt where the final dot had been sent; ``CancelledError`` means that
nothing is known.
"""

import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ClientFactory

from mailserver import journal
from mailserver.interfaces import IContent
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Exchanger, Login, Security
from mailserver.model.outcome import Delayed, Delivered, Outcome, Scope
from mailserver.model.reply import Reply
from mailserver.model.tlsa import Anchors
from mailserver.net.tls import ClientTLS, Trust
from mailserver.smtp.client import Conversation, Deadlines
from mailserver.smtp.standby import Standby
from mailserver.smtp.transaction import Transaction
from mailserver.smtp.trouble import HostTrouble, TLSTrouble, in_one_line, said
from mailserver.wire.replies import parse_extensions
from mailserver.wire.sasl_client import ClientExchange, choose
from mailserver.wire.syntax import BadSyntax

__all__ = ["Transmission", "Transmitter"]

_MOST_ROOTS = 100
"""The sets of trusted roots that are kept ready."""

Compute = Callable[[Callable[[], bytes]], Awaitable[bytes]]


async def _here(work: Callable[[], bytes]) -> bytes:
    return work()


@frozen
class _Terms:
    """With whom we speak, and how: all that a connection is made by."""

    host: str
    address: str
    port: int
    security: Security
    login: Login | None
    wrapped: bool
    lmtp: bool
    roots: bytes
    anchors: Anchors | None

    @property
    def is_socket(self) -> bool:
        return self.address.startswith("/")

    def __str__(self) -> str:
        return self.address if self.is_socket else f"{self.host}[{self.address}]:{self.port}"


@frozen(eq=False)
class _Errand:
    """What is to be done, and until when."""

    exchanger: Exchanger
    envelope: Envelope
    content: IContent
    recipients: Sequence[Recipient]
    until: float
    terms: _Terms


def _terms(exchanger: Exchanger, envelope: Envelope) -> _Terms:
    """How a message has to be brought to a host."""
    demand = exchanger.demand
    security = exchanger.security if demand is None else demand.security
    strict = envelope.requiretls or exchanger.login is not None
    if strict and security is not Security.DANE:
        security = Security.VERIFY
    return _Terms(
        exchanger.host,
        exchanger.address,
        exchanger.port,
        Security.NONE if exchanger.is_socket else security,
        exchanger.login,
        exchanger.wrapped,
        exchanger.lmtp,
        exchanger.roots,
        None if demand is None else demand.anchors,
    )


@frozen
class Transmission:
    """What became of a message that was offered to a host.

    :ivar outcomes: for every recipient.
    :ivar spoke: whether the host could be spoken to.
    :ivar tls: version, cipher, and what proves the host; empty when in clear.
    :ivar flaw: in TLS: why the host is not proven to be itself; empty: it is.
    """

    outcomes: dict[Recipient, Outcome]
    spoke: bool = False
    tls: str = ""
    flaw: str = ""


class Transmitter:
    """The SMTP client.

    :param reactor: makes the connections (``IReactorTCP``, ``IReactorUNIX``).
    :param clock: measures the deadlines; usually the same object.
    :param hostname: what we call ourselves in EHLO (A-labels).
    :param tls: makes TLS connections that verify nothing; ``None``: STARTTLS is never said under ``MAY``.
    :param strict: makes those that verify.
    :param standby: keeps connections for the next message; ``None``: none is kept.
    :ivar deadlines: may be replaced at any time; who has begun keeps to the old ones.
    :ivar compute: runs a function that takes long, elsewhere; may be replaced before the first message.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        hostname: str,
        tls: ClientTLS | None = None,
        deadlines: Deadlines | None = None,
        strict: ClientTLS | None = None,
        standby: Standby | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._identity = hostname.encode("ascii")
        self._tls = tls
        self._strict = strict
        self.deadlines = deadlines or Deadlines()
        self._standby = standby or Standby(clock)
        self.compute: Compute = _here
        self._standing: set[Conversation] = set()
        self._rooted: dict[tuple[Trust, bytes], ClientTLS] = {}

    async def transmit(
        self, exchanger: Exchanger, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> Transmission:
        """Offer the message to this host, and answer for every recipient. Never raises for a peer."""
        until = self._clock.seconds() + self.deadlines.attempt
        errand = _Errand(exchanger, envelope, content, recipients, until, _terms(exchanger, envelope))
        conversation, outcomes = await self._run(errand)
        if conversation is None:
            return Transmission(outcomes)
        return Transmission(outcomes, True, conversation.tls, conversation.flaw)

    async def stop(self) -> None:
        """Cut the connections that still stand, and return when they are gone."""
        self._standby.clear()
        for conversation in list(self._standing):
            conversation.abandon(HostTrouble("the server stops"))
            await conversation.gone

    # --- the message -------------------------------------------------------------------------------

    async def _run(self, errand: "_Errand") -> tuple[Conversation | None, dict[Recipient, Outcome]]:
        """Over which connection it went, and what became of it."""
        if (kept := self._standby.take(errand.terms)) is not None:
            conversation, used = kept
            conversation.until = errand.until
            outcomes = await self._offer_again(conversation, errand, used)
            if outcomes is not None:
                return conversation, outcomes
        try:
            conversation = await self._open(errand.terms, errand.until)
        except HostTrouble as trouble:
            outcome: Outcome = trouble.outcome(Scope.HOST, errand.exchanger.host)
            return None, dict.fromkeys(errand.recipients, outcome)
        return conversation, await self._hand_over(conversation, errand, 0)

    async def _offer_again(
        self, conversation: Conversation, errand: "_Errand", used: int
    ) -> dict[Recipient, Outcome] | None:
        """Over a connection that was kept; ``None``: it is dead, and nobody has heard of the message."""
        heard = conversation.heard
        outcomes = await self._hand_over(conversation, errand, used)
        dead = conversation.heard == heard and not conversation.is_idle
        silent = (
            isinstance(it, Delayed) and it.scope is Scope.HOST and not it.code for it in outcomes.values()
        )
        return None if dead and all(silent) else outcomes

    async def _hand_over(
        self, conversation: Conversation, errand: "_Errand", used: int
    ) -> dict[Recipient, Outcome]:
        """Run a transaction, and more while the host takes some recipients at a time (§4.5.3.1.10)."""
        outcomes: dict[Recipient, Outcome] = {}
        offered = errand.recipients
        delivered = False
        try:
            while offered:
                transaction = Transaction(
                    conversation, errand.exchanger.host, errand.envelope, errand.content, offered
                )
                outcomes |= await transaction.run()
                delivered = any(isinstance(outcome, Delivered) for outcome in transaction.outcomes.values())
                offered = transaction.surplus if delivered and conversation.is_idle else []
            if not delivered and self._standby.is_used and conversation.is_idle:
                await self._reset(conversation)
        except CancelledError:
            conversation.abandon(HostTrouble("cancelled"))
            if not outcomes:
                raise
            return outcomes  # who was too many for the first transaction has been delayed by it
        except BaseException:
            conversation.abandon(HostTrouble("an error here"))
            raise
        self._standby.keep(errand.terms, conversation, used + 1)
        return outcomes

    async def _reset(self, conversation: Conversation) -> None:
        """Make a connection whose last message was not taken fit for the next. Raises nothing."""
        try:
            _demand(await conversation.ask(b"RSET", "RSET", conversation.deadlines.farewell))
        except HostTrouble as trouble:
            conversation.abandon(trouble)

    # --- the way there -----------------------------------------------------------------------------

    async def _open(self, terms: "_Terms", until: float) -> Conversation:
        """A conversation in which MAIL can be said. Raises :class:`HostTrouble`."""
        tls = self._tls_for(terms)
        try:
            return await self._dial(terms, until, tls)
        except TLSTrouble as trouble:
            if tls is None or terms.security is not Security.MAY or terms.wrapped:
                raise
            journal.unprotected(terms.host, terms.address, in_one_line(trouble.text))
            return await self._dial(terms, until, None)

    def _tls_for(self, terms: "_Terms") -> ClientTLS | None:
        match terms.security:
            case Security.NONE:
                return None
            case Security.DANE if terms.anchors is None:
                raise HostTrouble("no TLSA records that can be used", "4.7.5")
            case Security.VERIFY:
                if terms.roots:
                    return self._trusting(Trust.PKIX, terms.roots)
                if self._strict is None:
                    self._strict = ClientTLS(Trust.PKIX)
                return self._strict
            case Security.MAY if self._tls is None and not terms.wrapped:
                return None
        if terms.roots:
            return self._trusting(Trust.ANY, terms.roots)
        return self._tls or ClientTLS()

    def _trusting(self, trust: Trust, roots: bytes) -> ClientTLS:
        if (trust, roots) not in self._rooted:
            if len(self._rooted) >= _MOST_ROOTS:
                self._rooted.clear()
            self._rooted[trust, roots] = ClientTLS(trust, roots)
        return self._rooted[trust, roots]

    async def _dial(self, terms: "_Terms", until: float, tls: ClientTLS | None) -> Conversation:
        conversation = await self._connect(terms, until, tls)
        try:
            if terms.wrapped:
                await conversation.wrap()
            await self._greet(conversation, tls, terms.security)
            if terms.login is not None:
                await self._log_in(conversation, terms.login)
        except HostTrouble:
            conversation.leave()
            raise
        except BaseException:
            conversation.abandon(HostTrouble("cancelled"))
            raise
        return conversation

    async def _connect(self, terms: "_Terms", until: float, tls: ClientTLS | None) -> Conversation:
        creator = tls.creator(terms.host or terms.address, terms.anchors) if tls is not None else None
        conversation = Conversation(self._identity, creator, self.deadlines, self._clock, until)
        conversation.lmtp, conversation.is_private = terms.lmtp, terms.is_socket
        seconds = max(min(self.deadlines.connect, until - self._clock.seconds()), 0.0)
        endpoint: Any
        if terms.is_socket:
            endpoint = UNIXClientEndpoint(self._reactor, terms.address, timeout=seconds)
        else:
            family = TCP6ClientEndpoint if ip_address(terms.address).version == 6 else TCP4ClientEndpoint
            endpoint = family(self._reactor, terms.address, terms.port, timeout=seconds)
        try:
            await endpoint.connect(_Dialing(conversation))
        except ConnectingCancelledError:
            raise CancelledError from None
        except (ConnectError, OSError) as error:
            raise HostTrouble(f"no connection to {terms}: {error}", "4.4.1") from error
        self._standing.add(conversation)
        _ = conversation.gone.addCallback(lambda _: self._standing.discard(conversation))
        return conversation

    async def _greet(self, conversation: Conversation, tls: ClientTLS | None, security: Security) -> None:
        deadlines = conversation.deadlines
        _demand(await conversation.answer("the connection", deadlines.greeting))
        await self._hello(conversation)
        if tls is None or conversation.tls:
            return
        if "STARTTLS" in conversation.extensions:
            reply = await conversation.ask(b"STARTTLS", "STARTTLS", deadlines.hello)
            if reply.code == 220:
                await conversation.secure()
                await self._hello_inside(conversation)
                return
        if security is not Security.MAY:
            raise TLSTrouble("the host does not do STARTTLS now", "4.7.4")

    async def _hello(self, conversation: Conversation) -> None:
        seconds = conversation.deadlines.hello
        verb = "LHLO" if conversation.lmtp else "EHLO"
        reply = await conversation.ask(verb.encode() + b" " + self._identity, verb, seconds)
        if reply.code >= 500 and not conversation.lmtp:
            # RFC 5321 §3.2: a host that knows no EHLO knows HELO.
            _demand(await conversation.ask(b"HELO " + self._identity, "HELO", seconds))
            return
        _demand(reply)
        conversation.extensions = parse_extensions(reply)

    async def _hello_inside(self, conversation: Conversation) -> None:
        """EHLO again, in TLS. What is offered there is all that counts (RFC 3207 §4.2)."""
        try:
            await self._hello(conversation)
        except HostTrouble as trouble:
            if trouble.reply is not None:
                raise
            # TLS 1.3 is complete for us before the host has agreed; its refusal shows only now.
            raise TLSTrouble(f"TLS broke: {trouble.text}", "4.7.5") from trouble

    async def _log_in(self, conversation: Conversation, login: Login) -> None:
        """RFC 4954. A login that is refused is a mistake of ours, and delays the mail until it is mended."""
        offered = conversation.extensions.get("AUTH", "").upper().split()
        exchange = choose(offered, login.name.encode(), login.password.encode(), secrets.token_urlsafe(24))
        if not conversation.tls or exchange is None:
            raise HostTrouble("the host offers no login that we know, in TLS", "4.7.0")
        try:
            reply = await self._exchange(conversation, exchange)
        except BadSyntax as flaw:
            raise HostTrouble(f"the login failed: {flaw}", "4.7.0") from flaw
        if reply.code != 235 or not exchange.done:
            raise HostTrouble(f"the host refuses our login: {said(reply)}", "4.7.8")

    async def _exchange(self, conversation: Conversation, exchange: ClientExchange) -> Reply:
        seconds = conversation.deadlines.hello
        initial = exchange.initial()
        words = [b"AUTH", exchange.name.encode("ascii")]
        if initial is not None:
            words.append(b64encode(initial) or b"=")
        reply = await conversation.ask(b" ".join(words), "AUTH", seconds)
        while reply.code == 334:
            try:
                challenge = b64decode(reply.text.encode(), validate=True)
                answer = await self.compute(lambda: exchange.answer(challenge))  # noqa: B023 - awaited here
            except (BadSyntax, binascii.Error) as flaw:
                await conversation.ask(b"*", "AUTH", seconds)
                raise BadSyntax(str(flaw)) from flaw
            reply = await conversation.ask(b64encode(answer), "AUTH", seconds)
        return reply


def _demand(reply: Reply) -> None:
    """See that the host agreed. Raises :class:`HostTrouble`."""
    if reply.code >= 300:
        raise HostTrouble("the host refuses", reply=reply)


class _Dialing(ClientFactory):
    noisy = False

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def buildProtocol(self, addr: IAddress | None) -> Conversation:
        return self._conversation

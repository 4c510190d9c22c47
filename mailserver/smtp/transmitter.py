"""The SMTP client as couriers see it: one host, one message, an outcome for every recipient.

:class:`Transmitter` connects to an address, opens the conversation (greeting, EHLO or HELO, STARTTLS and
EHLO again), runs the transaction, and takes its leave without keeping anybody waiting for it: the outcomes
are returned as soon as the host has given them.

TLS is used where it is offered. Under ``Trust.ANY`` a refused STARTTLS means going on in clear, and a
handshake that fails means one more connection, in clear: mail must not wait for TLS that nobody asked
for (RFC 7435). Under ``Trust.PKIX`` both, and a host without STARTTLS, are trouble with the host.

A host that refuses the connection, the greeting or EHLO is trouble of HOST reach, with its reply where it
gave one. Nothing about a host is ever raised; cancelling ``transmit`` cuts the connection.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import IContent, ITransmitter
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Exchanger
from mailserver.model.outcome import Delivered, Outcome, Scope
from mailserver.model.reply import Reply
from mailserver.net.tls import ClientTLS, Trust
from mailserver.smtp.client import Conversation, Deadlines
from mailserver.smtp.transaction import Transaction
from mailserver.smtp.trouble import HostTrouble, TLSTrouble, in_one_line
from mailserver.wire.replies import parse_extensions

__all__ = ["Transmitter"]


@implementer(ITransmitter)
class Transmitter:
    """The SMTP client.

    :param reactor: makes the connections (``IReactorTCP``).
    :param clock: measures the deadlines; usually the same object.
    :param hostname: what we call ourselves in EHLO (A-labels).
    :param tls: makes TLS connections; ``None``: STARTTLS is never said.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        hostname: str,
        tls: ClientTLS | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._identity = hostname.encode("ascii")
        self._tls = tls
        self._deadlines = deadlines or Deadlines()
        self._standing: set[Conversation] = set()

    async def transmit(
        self, exchanger: Exchanger, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        begun = self._clock.seconds()
        tls = ""
        try:
            conversation = await self._open(exchanger, begun + self._deadlines.attempt)
        except HostTrouble as trouble:
            outcome: Outcome = trouble.outcome(Scope.HOST, exchanger.host)
            outcomes = dict.fromkeys(recipients, outcome)
        else:
            tls = conversation.tls
            outcomes = await self._hand_over(conversation, exchanger.host, envelope, content, recipients)
        seconds = self._clock.seconds() - begun
        journal.attempted(envelope.id, exchanger, exchanger.preference, _sum_up(outcomes), seconds, tls)
        return outcomes

    async def stop(self) -> None:
        """Cut the connections that still stand, and return when they are gone."""
        for conversation in list(self._standing):
            conversation.abandon(HostTrouble("the server stops"))
            await conversation.gone

    # --- the message -------------------------------------------------------------------------------

    async def _hand_over(
        self,
        conversation: Conversation,
        host: str,
        envelope: Envelope,
        content: IContent,
        recipients: Sequence[Recipient],
    ) -> dict[Recipient, Outcome]:
        """Run a transaction, and more while the host takes some recipients at a time (§4.5.3.1.10)."""
        outcomes: dict[Recipient, Outcome] = {}
        offered = recipients
        try:
            while offered:
                transaction = Transaction(conversation, host, envelope, content, offered)
                outcomes |= await transaction.run()
                delivered = any(isinstance(outcome, Delivered) for outcome in transaction.outcomes.values())
                offered = transaction.surplus if delivered and conversation.is_idle else []
        except BaseException:
            conversation.abandon(HostTrouble("cancelled"))
            raise
        # One connection for one message. To keep it for the next: ``is_idle`` says whether it can be; where
        # the envelope was refused, RSET comes first.
        conversation.leave()
        return outcomes

    # --- the way there -----------------------------------------------------------------------------

    async def _open(self, exchanger: Exchanger, until: float) -> Conversation:
        """A conversation in which MAIL can be said. Raises :class:`HostTrouble`."""
        try:
            return await self._dial(exchanger, until, self._tls)
        except TLSTrouble as trouble:
            if self._tls is None or self._tls.trust is not Trust.ANY:
                raise
            self._log.info(
                "going on in clear with {host}: {why}", host=str(exchanger), why=in_one_line(trouble.text)
            )
        return await self._dial(exchanger, until, None)

    async def _dial(self, exchanger: Exchanger, until: float, tls: ClientTLS | None) -> Conversation:
        conversation = await self._connect(exchanger, until, tls)
        try:
            await self._greet(conversation, tls)
        except HostTrouble:
            conversation.leave()
            raise
        except BaseException:
            conversation.abandon(HostTrouble("cancelled"))
            raise
        return conversation

    async def _connect(self, exchanger: Exchanger, until: float, tls: ClientTLS | None) -> Conversation:
        creator = tls.creator(exchanger.host or exchanger.address) if tls is not None else None
        conversation = Conversation(self._identity, creator, self._deadlines, self._clock, until)
        family = TCP6ClientEndpoint if ip_address(exchanger.address).version == 6 else TCP4ClientEndpoint
        seconds = max(min(self._deadlines.connect, until - self._clock.seconds()), 0.0)
        endpoint = family(self._reactor, exchanger.address, exchanger.port, timeout=seconds)
        try:
            await endpoint.connect(_Dialing(conversation))
        except ConnectingCancelledError:
            raise CancelledError from None
        except (ConnectError, OSError) as error:
            raise HostTrouble(f"no connection to {exchanger}: {error}", "4.4.1") from error
        self._standing.add(conversation)
        _ = conversation.gone.addCallback(lambda _: self._standing.discard(conversation))
        return conversation

    async def _greet(self, conversation: Conversation, tls: ClientTLS | None) -> None:
        deadlines = conversation.deadlines
        _demand(await conversation.answer("the connection", deadlines.greeting))
        await self._hello(conversation)
        if tls is None:
            return
        if "STARTTLS" in conversation.extensions:
            reply = await conversation.ask(b"STARTTLS", "STARTTLS", deadlines.hello)
            if reply.code == 220:
                await conversation.secure()
                await self._hello_inside(conversation)
                return
        if tls.trust is not Trust.ANY:
            raise TLSTrouble("the host does not do STARTTLS now", "4.7.4")

    async def _hello(self, conversation: Conversation) -> None:
        seconds = conversation.deadlines.hello
        reply = await conversation.ask(b"EHLO " + self._identity, "EHLO", seconds)
        if reply.code >= 500:
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


def _sum_up(outcomes: dict[Recipient, Outcome]) -> str:
    """The result in a few words: how many of each kind, and a telling reply."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        kind = type(outcome).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    # What went wrong tells more than what went well.
    telling = sorted(outcomes.values(), key=lambda outcome: isinstance(outcome, Delivered))[:1]
    return ": ".join([words, *(outcome.reply for outcome in telling)])

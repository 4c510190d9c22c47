"""One connection to one mail host, as seen by the client: commands out, replies in, deadlines.

SMTP and LMTP (RFC 2033) are the same here but for how many replies follow the content.

:class:`Conversation` knows how to talk, not what to say: :mod:`mailserver.smtp.transaction` offers a message
over it, :mod:`mailserver.smtp.transmitter` opens and leaves it. It promises, whatever the host does:

- Each reply answers one command, in order (RFC 2920 §3.1). A reply that nobody asked for, in the midst of
  a message or behind the last one owed, ends the connection; what had been answered before still counts.
- Every wait ends: each has its deadline (RFC 5321 §4.5.3.2), and all together have ``until``.
- What is said leaves at once where the kernel takes it, and waits for the reactor's next turn where not.
- Memory is bounded: replies by :class:`mailserver.wire.replies.ReplyReader`, content by the transport,
  which says when the host has enough to read.
- After STARTTLS nothing that came before TLS is left (RFC 3207 §4.2): a host that said anything behind
  its 220 is not spoken to any more.
- No line goes out that holds CR, LF or NUL.

All trouble is raised as :class:`~mailserver.smtp.trouble.HostTrouble` by whatever is awaited, and by
everything that is asked of the conversation afterwards. 421 is such trouble wherever it comes (RFC 5321
§3.8).
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet import defer
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.mail.smtp import ESMTPClient
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.model.reply import Reply
from mailserver.net.tls import HostTLS, tls_facts
from mailserver.smtp.trouble import HostTrouble, TLSTrouble, said
from mailserver.wire.replies import ReplyReader
from mailserver.wire.syntax import BadSyntax

__all__ = ["Conversation", "Deadlines"]


@frozen
class Deadlines:
    """How long a mail host may take, in seconds (RFC 5321 §4.5.3.2).

    :ivar connect: to accept the connection.
    :ivar greeting: to greet.
    :ivar hello: to answer EHLO, HELO, STARTTLS or RSET.
    :ivar handshake: for a TLS handshake.
    :ivar mail: to answer MAIL.
    :ivar rcpt: to answer each RCPT.
    :ivar data: to answer DATA.
    :ivar block: to take a chunk of content.
    :ivar dot: to answer the final dot.
    :ivar farewell: to answer QUIT, before the connection is cut.
    :ivar attempt: for everything together, from the connection on.
    """

    connect: float = 30.0
    greeting: float = 300.0
    hello: float = 300.0
    handshake: float = 60.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    farewell: float = 5.0
    attempt: float = 7200.0


@implementer(IPushProducer, IHandshakeListener)
class Conversation(ESMTPClient):
    """The protocol. From the base class come the line writer and the vocabulary: ``identity``, ``context``.

    ``dataReceived`` is ours, therefore the base's ``lineReceived`` and with it all of its state machine
    (``smtpState_…``, ``esmtpState_…``, ``tryTLS``, ``authenticate``, ``smtpTransferFailed``,
    ``smtpConnectionFailed``, ``transformChunk``, ``finishedFileTransfer``), its hooks (``getMailFrom``,
    ``getMailTo``, ``getMailData``, ``sentMail``, ``sendError``) and ``TimeoutMixin`` are dead.

    :param identity: what we call ourselves in EHLO.
    :param creator: makes the TLS connection after STARTTLS; ``None``: STARTTLS is not said.
    :param until: when the attempt is over, on this clock.
    """

    __setattr__ = object.__setattr__  # the base's warns of a name of old, at a price for every attribute
    transport: Any
    context: Any  # a HostTLS, or None where STARTTLS is never said
    debug = False  # the base would keep every line, passwords included

    def __init__(
        self,
        identity: bytes,
        creator: HostTLS | None,
        deadlines: Deadlines,
        clock: IReactorTime,
        until: float,
    ) -> None:
        super().__init__(None, creator, identity)
        self.deadlines = deadlines
        self.until = until
        self.extensions: dict[str, str] = {}
        """What the host offers: keyword in upper case → parameters."""
        self.lmtp = False
        """Whether each recipient of the content is answered for (RFC 2033 §4.2)."""
        self.is_private = False
        """Whether there is no network between: nothing that TLS could protect from."""
        self.tls = ""
        """TLS version, cipher, and whether the host is proven to be itself; empty in clear."""
        self.flaw = ""
        """In TLS: why the host is not proven to be itself; empty: it is."""
        self.gone: defer.Deferred[None] = defer.Deferred()
        """Fires when the connection is lost."""
        self.heard = 0
        """How many replies have been taken."""
        self._clock = clock
        self._reader = ReplyReader()
        self._owed = 1  # replies; the first is the greeting
        self._answers: deque[Reply] = deque()
        self._blocked = False
        self._trouble: HostTrouble | None = None
        self._changed: defer.Deferred[None] | None = None
        self._end = 0.0  # when who waits has waited too long
        self._alarm: IDelayedCall | None = None  # rings at _end, or before: then it is set anew
        self._leaving: IDelayedCall | None = None
        self._at_once = False

    @property
    def is_idle(self) -> bool:
        """Whether the connection stands, all is answered, and another command may be said."""
        return self._trouble is None and not self._owed and not self._answers and not self._reader.pending

    # --- talking -----------------------------------------------------------------------------------

    def sendLine(self, line: bytes) -> None:
        self.say(line)

    def say(self, *commands: bytes) -> None:
        """Send commands, in one write; the host owes a reply to each."""
        self._check()
        for command in commands:
            if b"\r" in command or b"\n" in command or b"\0" in command:
                # Whatever let this through: it must not become a command of its own on the wire.
                raise ValueError("CR, LF or NUL in a command")
        self._owed += len(commands)
        self._put(b"\r\n".join(commands) + b"\r\n")

    async def answer(self, what: str, seconds: float) -> Reply:
        """The reply to the oldest command that has not had its. ``what`` names that for the record."""
        if not self._answers:
            await self._until(self._answers.__len__, seconds, f"no answer to {what}")
        reply = self._answers.popleft()
        self.heard += 1
        if reply.code == 421:
            trouble = HostTrouble("the host is closing", reply=reply)
            self.abandon(trouble)
            raise trouble
        return reply

    async def ask(self, command: bytes, what: str, seconds: float) -> Reply:
        """Say one command and return its reply."""
        self.say(command)
        return await self.answer(what, seconds)

    async def stream(self, data: bytes) -> None:
        """Send stuffed content and return when the host can take more.

        Trouble that carries a reply is what the host said in the midst of it.
        """
        self._check()
        self._put(data)
        await self._until(lambda: not self._blocked, self.deadlines.block, "no content taken")
        self._check()

    def finish(self, data: bytes, replies: int = 1) -> None:
        """Send the end of the content, final dot included; the host owes the replies to it."""
        self._check()
        self._owed += replies
        self._put(data)

    async def secure(self) -> None:
        """Begin TLS, after the 220 to STARTTLS. Raises :class:`TLSTrouble` when it does not come about."""
        if not self.is_idle:
            self.abandon(HostTrouble("spoke in clear behind its 220 to STARTTLS", "4.7.0"))
        self._check()
        self.extensions = {}
        await self._shake_hands()

    async def wrap(self) -> None:
        """Begin TLS before the greeting (RFC 8314 §3.3). Raises as :meth:`secure` does."""
        self._check()
        await self._shake_hands()

    async def _shake_hands(self) -> None:
        self._at_once = False
        self.transport.startTLS(self.context)
        try:
            await self._until(lambda: bool(self.tls), self.deadlines.handshake, "no TLS handshake")
        except HostTrouble as trouble:
            why = self.context.flaw or trouble.text
            raise TLSTrouble(f"TLS handshake failed: {why}", "4.7.5") from trouble
        if self.flaw and self.context.is_proven_by_dns:
            # Nothing has been said inside, and nothing will be (RFC 7672 §2.2).
            raise TLSTrouble(f"not the host that DNS names: {self.flaw}", "4.7.5")

    def leave(self) -> None:
        """Say QUIT, and close when the host has answered, or soon. Nothing more can be asked then."""
        if self._trouble is not None:
            self.abandon(self._trouble)
            return
        self.say(b"QUIT")
        self._trouble = HostTrouble("left")
        self.transport.unregisterProducer()
        self._leaving = self._clock.callLater(self.deadlines.farewell, self.transport.abortConnection)

    def abandon(self, why: HostTrouble) -> None:
        """Cut the connection. The first reason given is the one that is raised from now on."""
        if self._trouble is None:
            self._trouble = why
        if not self.gone.called:
            self.transport.abortConnection()
        self._wake()

    def _check(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def _put(self, data: bytes) -> None:
        transport = self.transport
        # As long as nothing of ours waits in the transport nothing can be overtaken. It never has anything
        # waiting that is not in its dataBuffer, because doWrite() has just moved it there.
        if not self._at_once or transport.dataBuffer:
            transport.write(data)
            return
        sent = transport.writeSomeData(data)
        if sent != len(data):
            # An exception in the place of a number is met again by the reactor, which ends the connection.
            transport.write(data[sent:] if isinstance(sent, int) else data)
            transport.doWrite()

    async def _until(self, ready: Callable[[], object], seconds: float, what: str) -> None:
        """Return when ``ready``; raise when it cannot become so, or takes too long."""
        begun = self._clock.seconds()
        end = min(begun + seconds, self.until)
        while not ready():
            self._check()
            try:
                await self._change(end)
            except defer.TimeoutError:
                self.abandon(HostTrouble(f"{what} within {self._clock.seconds() - begun:.0f} s", "4.4.2"))

    async def _change(self, end: float) -> None:
        """Return when something has happened. Raises ``TimeoutError``."""
        self._end = end
        self._set_alarm()
        self._changed = defer.Deferred()
        try:
            await self._changed
        finally:
            self._changed = None

    def _set_alarm(self) -> None:
        """One timer serves many waits: it is moved only where it would ring too late."""
        wait = max(self._end - self._clock.seconds(), 0.0)
        if self._alarm is None:
            self._alarm = self._clock.callLater(wait, self._ring)
        elif self._alarm.getTime() > self._end:
            self._alarm.reset(wait)

    def _ring(self) -> None:
        self._alarm = None
        if self._changed is None:
            return
        if self._clock.seconds() < self._end:
            self._set_alarm()
            return
        changed, self._changed = self._changed, None
        changed.errback(defer.TimeoutError())

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.callback(None)

    # --- what Twisted calls ------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # Not the base's, which would set up its state machine and its timer.
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        # A wrapper around a connection, such as TLS, must not be passed by.
        self._at_once = isinstance(self.transport, Connection)
        # As a push producer we are told when the host does not read.
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._leaving is not None:
            # The answer to QUIT, or as good as that. The timer cuts a close that is not answered.
            self.transport.loseConnection()
            return
        if self._trouble is not None:
            return
        try:
            self._replied(self._reader.feed(data))
            if self._reader.pending:
                self._replied(self._reader.feed(b""))  # raises the flaw that stood behind a reply, if any
        except BadSyntax as flaw:
            self.abandon(HostTrouble(f"not an SMTP reply: {flaw}", "4.5.0"))
        # Only now, when it is known what stood behind: whoever waits may go on to something else at once.
        self._wake()

    def handshakeCompleted(self) -> None:
        connection = self.transport.getHandle()
        self.context.judge(connection)
        self.flaw = self.context.flaw
        proof = "unverified" if self.flaw else "DANE" if self.context.is_proven_by_dns else "verified"
        self.tls = f"{tls_facts(connection)} {proof}"
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._trouble is None:
            self._trouble = HostTrouble(f"connection lost: {reason.getErrorMessage()}", "4.4.2")
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self.gone.callback(None)
        self._wake()

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        self._wake()

    def stopProducing(self) -> None:
        """The transport is gone; ``connectionLost`` follows."""

    def _replied(self, replies: list[Reply]) -> None:
        for reply in replies:
            if not self._owed:
                refusal = reply if reply.code >= 400 else None
                self.abandon(HostTrouble(f"the host spoke out of turn: {said(reply)}", "4.5.0", refusal))
                return
            self._owed -= 1
            self._answers.append(reply)

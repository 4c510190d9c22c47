"""The one mixin on which both server protocols stand: order, bounds and deadlines of a session.

Stands in front of a ``twisted.mail`` server class and takes its framing over. It promises, whatever the
peer sends and however the network cuts it:

- One command is finished before the next begins, also when it has to wait for something (RFC 2920 §3.2).
  Replies leave in order, those of a batch in one write, and at once where the socket takes them.
- Memory is bounded in both directions: reading stops while too much input waits for a slow command, and
  commands stop while the peer does not read its replies.
- Every session ends: there is a deadline for idleness, one for each phase that sets one, and one for the
  whole session; and a close that the peer does not answer becomes an abort after a grace.
- The last reply arrives, also where the peer is still sending: a plain connection is closed for writing
  first, and what comes in is dropped until the peer closes too. (A socket closed with unread input sends
  RST, which destroys what the peer has not yet read. TLS reads on by itself until its close is answered.)
- After STARTTLS or STLS nothing that came before TLS is left: a session with anything buffered behind the
  command is closed, for it is an attack or a broken client (RFC 3207 §4.2, CVE-2011-0411).
- An exception in a command is logged and answered; the session goes on.

A protocol class puts the mixin first among its bases and overrides the ``…Received`` and ``session…``
methods at the end. Twisted's own ``LineOnlyReceiver.dataReceived`` and ``TimeoutMixin`` are dead then.
"""

import array
import fcntl
import termios
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any, Protocol

from attrs import frozen
from twisted.internet import defer
from twisted.internet.error import ConnectionClosed, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.errand import Errand
from mailserver.interfaces import Verdict
from mailserver.net.deadlines import Deadline, Deadlines
from mailserver.net.direct import direct_to
from mailserver.net.layer import Layers
from mailserver.net.tls import tls_facts
from mailserver.wire.lines import Flaw, Lines

__all__ = ["Bounds", "Connections", "Peer", "Session", "SessionFactory", "peer_of"]

_FLUSH = 16 * 1024
"""Replies are written when they come to this many octets, if not sooner: a peer that floods commands must
block us after this much, not after all its commands."""


@frozen
class Bounds:
    """What a session may cost. Octets and seconds.

    :ivar line: the longest command line, CRLF included (RFC 5321 §4.5.3.1.4 asks for 512).
    :ivar pending: input that may wait for a slow command before reading is paused.
    :ivar dropped: octets of overlong or broken lines after which the session is closed.
    :ivar idle: between two signs of life (RFC 5321 §4.5.3.2.7 asks for 5 minutes).
    :ivar handshake: for a TLS handshake.
    :ivar session: for all of it.
    :ivar grace: between our close and the abort of a connection that the peer keeps open.
    """

    line: int = 2048
    pending: int = 64 * 1024
    dropped: int = 1024 * 1024
    idle: float = 300.0
    handshake: float = 30.0
    session: float = 6 * 3600.0
    grace: float = 5.0


@frozen
class Peer:
    """The other end. ``address`` is an IP address as text, empty where the transport has none."""

    address: str = ""
    port: int = 0


NOBODY = Peer()
"""Nobody has said yet who it is; an equal peer that is not this one has no IP address."""


def peer_of(address: IAddress) -> Peer:
    """The peer's address as a value; a UNIX socket's has no IP address."""
    host, port = getattr(address, "host", ""), getattr(address, "port", 0)
    # A socket that listens on :: shows IPv4 clients as IPv6; they have one name, the IPv4 one.
    return Peer(host.removeprefix("::ffff:") if "." in host else host.partition("%")[0], port)


class Connections(Protocol):
    """Who may connect: :class:`mailserver.access.connections.Connections`."""

    def admit(self, address: str) -> Verdict:
        """Count a connection, unless there are too many."""

    def leave(self, address: str) -> None:
        """One that was counted has ended."""


_COME_IN = Verdict(True, "nobody counts")


@implementer(IPushProducer, IHandshakeListener)
class Session:
    """The mixin. ``factory`` gives ``bounds`` and ``clock``."""

    # Thousands are open at a time: a dictionary for all that the class and its base have would take more than
    # they do. What has a place here is what beginSession sets.
    __slots__ = (
        "__dict__",
        "_abort",
        "_blocked",
        "_busy",
        "_closing",
        "_direct",
        "_drained",
        "_draining",
        "_ended",
        "_eof",
        "_isLasting",
        "_last_active",
        "_lines",
        "_out",
        "_paused",
        "_phase_end",
        "_pumping",
        "_raw",
        "_raw_left",
        "_replies",
        "_running",
        "_session_end",
        "_timer",
        "admission",
        "bounds",
        "clock",
    )

    factory: "SessionFactory"
    transport: Any
    peer: Peer = NOBODY
    said: int = 0
    """Octets given to :meth:`reply` and :meth:`send` so far."""
    tls: str = ""
    """TLS version and cipher, as ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty on a plain connection."""

    mayPeerSpeak: bool = True
    """Whether what comes is heard; not where the peer has to wait for our first word."""

    admission: Verdict
    """Whether there is room for one more; else the protocol class says so and closes."""

    _session_log = Logger()

    # --- for the protocol class ------------------------------------------------------------------

    def meet(self, address: IAddress | None) -> None:
        """Be told who connects, before the connection is made.

        The factory is told, and knows better than the transport, whose peer may be a proxy.
        """
        if address is not None:
            self.peer = peer_of(address)

    def beginSession(self) -> None:
        """Take the connection over. The protocol's ``connectionMade`` calls this first."""
        self.bounds = self.factory.bounds
        self.clock = self.factory.clock
        if self.peer is NOBODY:
            self.peer = peer_of(self.transport.getPeer())
        self._lines = Lines(self.bounds.line)
        self._replies = b""
        self._raw_left: int | None = None  # octets after which raw input ends by itself
        self._raw = self._busy = self._pumping = self._blocked = self._closing = False
        self._paused = self._ended = self._draining = self._eof = False
        self._running: Errand | None = None
        self._isLasting = False
        self._drained: tuple[defer.Deferred[None], ...] = ()
        now = self.clock.seconds()
        self._last_active = now
        self._phase_end: float | None = None
        self._session_end = now + self.bounds.session
        self._timer: Deadline | None = None
        self._abort: Deadline | None = None
        if hasattr(self.transport, "setTcpNoDelay"):
            # Small replies would wait for the ACK of the one before, which the peer delays.
            self.transport.setTcpNoDelay(True)
        # As a push producer we are told when the peer does not read.
        self.transport.registerProducer(self, True)
        self._direct = direct_to(self.transport)
        self._out: Any = self.transport if self._direct is None else self._direct
        if ISSLTransport.providedBy(self.transport):
            self.setPhase(self.bounds.handshake)
        self._arm()
        self.factory.sessions.add(self)
        self.admission = self.factory.admit(self.peer.address)

    def reply(self, data: bytes) -> None:
        """Send ``data``, whole lines, after all that was replied before. Dropped when closing.

        It leaves at the latest when the command under way is finished, or with the next :meth:`send`.
        """
        if self._closing:
            return
        self.said += len(data)
        self._replies += data
        if not (self._pumping or self._busy) or len(self._replies) >= _FLUSH:
            self._flush()

    def beginRaw(self, octets: int | None = None) -> None:
        """From now on input goes to ``rawReceived``, until :meth:`endRaw`.

        :param octets: at most so many (more than 0); with the last of them lines begin again by themselves,
            before they are handed out.
        """
        self._raw = True
        self._raw_left = octets

    def endRaw(self, rest: bytes = b"") -> None:
        """Go back to lines, the first of which begins with ``rest``."""
        self._raw = False
        if rest:
            # More may have come while something was waited for: it stands behind.
            self._lines.feed(rest + self._lines.take())

    def setPhase(self, seconds: float | None) -> None:
        """Give what begins now so many seconds in all, however lively it is; ``None``: no limit."""
        self._phase_end = None if seconds is None else self.clock.seconds() + seconds
        if self._timer is not None and self._phase_end is not None and self._phase_end < self._timer.time:
            self._cancelTimer()
            self._timer = self.factory.deadlines.after(self._phase_end - self.clock.seconds(), self._check)

    def setLongestLine(self, octets: int) -> None:
        """From now on a line may have so many octets, CRLF included, instead of ``bounds.line``."""
        self._lines.limit = octets

    def outlastPeer(self) -> None:
        """The command under way is not cancelled when the connection goes."""
        self._isLasting = True

    @property
    def isRaw(self) -> bool:
        """Whether the next octets are raw input."""
        return self._raw

    def startSessionTLS(self, context: object, ready: bytes) -> None:
        """Reply ``ready`` and begin TLS. The subclass resets its state first.

        Closes instead when anything came behind the command.
        """
        if len(self._lines):
            self._session_log.warn("plaintext behind STARTTLS from {peer}: closing", peer=self.peer.address)
            self.closeSession()
            return
        self.reply(ready)
        self._flush()
        self.setPhase(self.bounds.handshake)
        direct, self._direct = self._direct, None
        if direct is None:
            self.transport.startTLS(context)
        else:
            self.transport = self._out = self.factory.layers(context).begin(self, direct)

    async def send(self, data: bytes) -> None:
        """Write bulk data and wait while the peer has enough to read.

        Raises a ``ConnectionClosed``, as ``ConnectionDone`` or ``ConnectionLost``, when the connection goes
        meanwhile.
        """
        self._flush()
        if self._ended or self._closing:
            raise ConnectionDone
        self.said += len(data)
        self._out.write(data)
        if self._blocked:
            drained: defer.Deferred[None] = defer.Deferred()
            self._drained += (drained,)
            await drained

    def isBehind(self, octets: int) -> bool:
        """Whether more than so many octets are on their way to the peer: here, or in the kernel.

        What the peer's kernel has acknowledged is not. On a TLS connection encrypted octets are counted.
        Where none of this can be told, no.
        """
        transport = _lowest(self.transport)
        writers = getattr(self.clock, "getWriters", None)
        if writers is not None and transport in writers():
            return True
        unacknowledged = array.array("i", [0])
        try:
            fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, unacknowledged)
        except (AttributeError, OSError):
            return False
        return unacknowledged[0] > octets

    def closeSession(self) -> None:
        """Send what was replied, then close. Nothing the peer sent behind is looked at."""
        if self._closing:
            return
        self._flush()
        self._closing = True
        if self._ended:
            return
        self._lines.clear()
        self._cancelTimer()
        self.transport.unregisterProducer()
        # A peer that was paused must be read from again, or TLS never sees its close_notify.
        self._resumeReading()
        # Before the close: a transport may be gone, and connectionLost called, when that returns.
        self._abort = self.factory.deadlines.after(self.bounds.grace, self.transport.abortConnection)
        if self._mayBeSending() and hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def _mayBeSending(self) -> bool:
        """Whether the connection is plain, and closed because of what came: more may be on its way."""
        return (
            (self._pumping or self._busy) and not self._eof and not ISSLTransport.providedBy(self.transport)
        )

    def drainSession(self) -> None:
        """The server stops: say so and close as soon as the command under way is finished."""
        self._draining = True
        if not self._busy and not self._closing:
            self.sessionStopping()
            self.closeSession()

    @property
    def isOpen(self) -> bool:
        """Whether the connection stands and is not being closed."""
        return not (self._closing or self._ended)

    # --- what Twisted calls -----------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        if not self.mayPeerSpeak:
            self.spokeTooEarly()
            return
        self._last_active = self.clock.seconds()
        if self._direct is not None:
            self._direct.inputCame()
        self._lines.feed(data)
        self._pump()

    def handshakeCompleted(self) -> None:
        self.tls = tls_facts(self.transport.getHandle())
        self.setPhase(None)
        self._last_active = self.clock.seconds()
        self.tlsStarted()

    def readConnectionLost(self) -> None:
        """The peer will send no more. Only called on classes that are ``IHalfCloseableProtocol``."""
        # What came before is finished and answered; then there is nothing left to wait for.
        self._eof = True
        if self._closing:
            self.transport.loseConnection()
        else:
            self._pump()

    def writeConnectionLost(self) -> None:
        """Our half is closed: by us at the end, or else the peer reads no more and nothing can reach it."""
        if not self._closing:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = self._closing = True
        self.factory.sessions.discard(self)
        if self.admission.allowed:
            self.factory.leave(self.peer.address)
        self._cancelTimer()
        if self._abort is not None:
            self.factory.deadlines.cancel(self._abort)
        drained, self._drained = self._drained, ()
        for waiter in drained:
            # TLS gives reasons of its own; whoever waits in send() need not know them.
            waiter.errback(reason if reason.check(ConnectionClosed) else Failure(ConnectionLost()))
        if self._running is not None and not self._isLasting:
            self._running.cancel()
        self.sessionLost(reason)
        self.factory.sessionEnded()

    def pauseProducing(self) -> None:
        self._blocked = True

    def resumeProducing(self) -> None:
        self._blocked = False
        if self._direct is not None:
            self._direct.emptied()
        self._last_active = self.clock.seconds()
        drained, self._drained = self._drained, ()
        for waiter in drained:
            waiter.callback(None)
        self._pump()

    def stopProducing(self) -> None:
        """The transport is gone; ``connectionLost`` follows."""
        self._blocked = True

    # --- the pump ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Handle input until there is none, or a command waits, or the peer does not read."""
        if self._pumping:
            return
        self._pumping = True
        try:
            more = True
            while more and not (self._busy or self._blocked or self._closing):
                more = self._step()
                # Looked at even if there was no line: an endless one is dropped as it comes.
                if self._lines.dropped > self.bounds.dropped:
                    self.sessionTimedOut("flood")
                    self.closeSession()
        finally:
            self._pumping = False
        if self._replies:
            self._flush()
        if self._eof and not (self._busy or self._blocked):
            self.closeSession()
        if self._blocked or self._paused or (self._busy and self._lines.held):
            self._regulate()

    def _step(self) -> bool:
        """Handle one piece of input, if there is one; whether there may be another."""
        try:
            waiting: Awaitable[None] | None
            if self._raw:
                data = self._lines.take(self._raw_left)
                if not data:
                    return False
                if self._raw_left is not None:
                    self._raw_left -= len(data)
                    self._raw = self._raw_left > 0
                waiting = self.rawReceived(data)
            else:
                line = self._lines.next()
                if line is None:
                    return False
                waiting = self.flawReceived(line) if isinstance(line, Flaw) else self.commandReceived(line)
        except Exception:
            self._failed(Failure())
            return True
        if waiting is not None:
            self._wait(waiting)
        return bool(self._lines.held)

    def _wait(self, waiting: Awaitable[None]) -> None:
        self._busy = True
        coroutine = waiting if isinstance(waiting, CoroutineType) else _coroutine(waiting)
        self._running = errand = Errand(coroutine, self._finished)
        errand.begin()

    def _failed(self, failure: Failure) -> None:
        if self._ended:
            # The peer is gone and the command was cancelled for it; anything else is worth a line.
            if failure.check(defer.CancelledError, ConnectionClosed) is None:
                self._session_log.failure(
                    "after the connection from {peer} was lost", failure, peer=self.peer.address
                )
            return
        self._session_log.failure("in a command from {peer}", failure, peer=self.peer.address)
        self.commandFailed()

    def _finished(self, result: object) -> None:
        if isinstance(result, Failure):
            self._failed(result)
        self._busy = self._isLasting = False
        self._running = None
        if self._ended:
            return
        self._last_active = self.clock.seconds()
        if self._draining and not self._pumping:
            self.drainSession()
        self._pump()

    def _flush(self) -> None:
        if not self._replies or self._ended or self._closing:
            return
        data, self._replies = self._replies, b""
        self._out.write(data)

    def _regulate(self) -> None:
        """Read on, or not, as memory allows."""
        if self._ended or self._closing:
            return
        if self._blocked or (self._busy and len(self._lines) > self.bounds.pending):
            if not self._paused:
                self._paused = True
                self.transport.pauseProducing()
        else:
            self._resumeReading()

    def _resumeReading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    # --- deadlines --------------------------------------------------------------------------------

    def _expiry(self) -> float:
        """When the session has waited too long, as things stand now."""
        expiry = self._session_end
        if not self._busy or self._blocked:
            # While a command is busy it is we who are slow; while the peer reads nothing, it is the peer.
            expiry = min(expiry, self._last_active + self.bounds.idle)
            if self._phase_end is not None:
                expiry = min(expiry, self._phase_end)
        return expiry

    def _arm(self) -> None:
        # One deadline a session, looked at when it fires, and not touched by every command.
        wait = max(self._expiry() - self.clock.seconds(), 0.0)
        if self._busy and not self._blocked:
            wait = min(wait, self.bounds.idle)
        self._timer = self.factory.deadlines.after(wait, self._check)

    def _check(self) -> None:
        self._timer = None
        if self.clock.seconds() < self._expiry():
            self._arm()
            return
        handshaking = bool(self._phase_end) and not self.tls and ISSLTransport.providedBy(self.transport)
        if self._blocked or handshaking:
            # It would not read our farewell, or could not.
            self.transport.abortConnection()
            return
        self.sessionTimedOut("idle")
        self.closeSession()

    def _cancelTimer(self) -> None:
        if self._timer is not None:
            self.factory.deadlines.cancel(self._timer)
            self._timer = None

    # --- to be overridden -------------------------------------------------------------------------

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        """A command line came, without its CRLF. Return something to wait for, or ``None``."""
        raise NotImplementedError

    def flawReceived(self, flaw: Flaw) -> Awaitable[None] | None:
        """A line came that is none."""
        raise NotImplementedError

    def rawReceived(self, data: bytes) -> Awaitable[None] | None:
        """Input came while raw: at least one octet. All of it is the subclass's; see :meth:`endRaw`."""
        raise NotImplementedError

    def spokeTooEarly(self) -> None:
        """The peer spoke when it may not: what it said is lost."""
        raise NotImplementedError

    def commandFailed(self) -> None:
        """A command raised; it has been logged. Reply that it did not work."""
        raise NotImplementedError

    def sessionTimedOut(self, why: str) -> None:
        """The session ends because of a deadline (``idle``) or a ``flood``. Reply a farewell."""
        raise NotImplementedError

    def sessionStopping(self) -> None:
        """The server stops. Reply a farewell."""
        raise NotImplementedError

    def tlsStarted(self) -> None:
        """The TLS handshake is complete."""

    def sessionLost(self, reason: Failure) -> None:
        """The connection is gone. Called once."""


def _lowest(transport: Any) -> Any:
    """The transport that has the socket, beneath TLS."""
    while (beneath := getattr(transport, "transport", None)) is not None:
        transport = beneath
    return transport


async def _coroutine(waiting: Awaitable[None]) -> None:
    await waiting


class SessionFactory(ServerFactory):
    """What all sessions of a listener share.

    Subclasses override ``buildProtocol``.

    :ivar connections: counts the sessions of all services; set it before the first; ``None``: nobody counts.
    """

    noisy = False

    def __init__(self, bounds: Bounds, clock: IReactorTime) -> None:
        self.bounds = bounds
        self.clock = clock
        self.deadlines = Deadlines(clock)
        self.sessions: set[Session] = set()
        self.connections: Connections | None = None
        self._emptied: list[defer.Deferred[None]] = []
        self._layers: Layers | None = None

    def layers(self, context: object) -> Layers:
        """What makes the TLS of sessions by this context, as ``startTLS`` takes it."""
        if self._layers is None or self._layers.context is not context:
            self._layers = Layers(context, self.clock)
        return self._layers

    def admit(self, address: str) -> Verdict:
        """Whether there is room for a session with this IP address; if so, it is counted."""
        return _COME_IN if self.connections is None else self.connections.admit(address)

    def leave(self, address: str) -> None:
        """A session that was admitted has ended."""
        if self.connections is not None:
            self.connections.leave(address)

    def sessionEnded(self) -> None:
        """A session has ended."""
        if not self.sessions:
            emptied, self._emptied = self._emptied, []
            for waiter in emptied:
                waiter.callback(None)

    async def drain(self, grace: float = 30.0) -> None:
        """Ask all sessions to end, and return when they have.

        :param grace: seconds that a command under way gets; then the connection is cut.
        """
        for session in list(self.sessions):
            session.drainSession()
        if not self.sessions:
            return
        emptied: defer.Deferred[None] = defer.Deferred()
        self._emptied.append(emptied)
        cut = self.clock.callLater(grace, self._cut)
        await emptied
        if cut.active():
            cut.cancel()

    def _cut(self) -> None:
        for session in list(self.sessions):
            session.transport.abortConnection()

"""Mail hosts on loopback that behave as told: the remote world of rehearsals and tests.

A :class:`MailHost` is a small SMTP server of its own: it shares no code with ``mailserver.smtp``, so that
it is an independent peer. It takes every message unless its :class:`Behaviour` says otherwise for a stage
of the session: another reply, or a :class:`Deed` instead of one. What it was sent is kept for the asking.

All hosts of a rehearsal listen on one port, each on its own loopback address, as the mail hosts of the
world all listen on port 25; :func:`common_port` finds a port that is free on all of them. A host that is
to refuse connections is simply never started.

It is lenient about what clients may say and when: whether our client keeps to RFC 5321 is read from
:attr:`MailHost.commands`. No limits: it is for peers that mean well.
"""

import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from enum import Enum
from ipaddress import ip_address
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IOpenSSLContextFactory, IReactorTCP
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

__all__ = ["Behaviour", "Deed", "MailHost", "ReceivedMail", "Stage", "common_port"]


class Stage(Enum):
    """A point of the session at which a host can be told what to do."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    """The first octets after 354; only deeds make sense here. Silence means: reads no more."""
    DOT = "dot"
    RSET = "RSET"
    QUIT = "QUIT"
    OTHER = "other"


class Deed(Enum):
    """What a host does instead of replying."""

    DROP = "closes the connection"
    RESET = "resets the connection"
    SILENCE = "says nothing more"


@frozen
class Behaviour:
    """How a host behaves; the default takes every message.

    :ivar answers: what it says, or does, at a stage instead of its usual reply. The text is sent as it
        stands, plus CRLF; after a 421 the host closes. A refused DOT keeps no message.
    :ivar recipients: the same for RCPT, by address; goes before ``answers``.
    :ivar extensions: the lines of the EHLO reply; STARTTLS is added where there is ``tls``.
    :ivar tls: the server's TLS context; ``None`` for a host without TLS.
    :ivar wrapped: TLS comes before the greeting.
    :ivar lmtp: it speaks LMTP (RFC 2033): LHLO, and an answer for each recipient to the final dot.
    :ivar shares: with LMTP: these answers, by address; others as ``answers`` says for DOT.
    :ivar babbles: after STARTTLS, goes on in clear: a handshake that breaks.
    """

    answers: Mapping[Stage, str | Deed] = field(factory=dict)
    recipients: Mapping[str, str | Deed] = field(factory=dict)
    extensions: tuple[str, ...] = (
        "PIPELINING",
        "SIZE 104857600",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
    )
    tls: IOpenSSLContextFactory | None = None
    babbles: bool = False
    wrapped: bool = False
    lmtp: bool = False
    shares: Mapping[str, str | Deed] = field(factory=dict)


@frozen
class ReceivedMail:
    """One message that a host took.

    :ivar recipients: those it accepted, in order.
    :ivar content: in wire form, dots unstuffed.
    :ivar helo: what the client called itself.
    :ivar tls: the TLS version, as ``TLSv1.3``; empty in clear.
    :ivar server_name: the name the client asked for in TLS (SNI); empty without.
    :ivar parameters: what followed the address in MAIL, then in each RCPT accepted.
    :ivar connection: which of the host's connections it came over, from 1.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    helo: str = ""
    tls: str = ""
    server_name: str = ""
    parameters: tuple[str, ...] = ()
    connection: int = 0


class MailHost:
    """One mail host.

    :param name: what it calls itself; the address literal where not given.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        address: str,
        port: int,
        behaviour: Behaviour | None = None,
        name: str = "",
    ) -> None:
        self.address = address  # or the path of a UNIX socket
        self.port = port
        self.name = name or f"[{address}]"
        self.behaviour = behaviour or Behaviour()
        """May be changed at any time, also in the middle of a session."""
        self.connections = 0
        """How often it was connected to."""
        self.messages: list[ReceivedMail] = []
        """What it took."""
        self.commands: list[str] = []
        """Every command line it was sent, over all connections, in order."""
        self.visits: set[_Visit] = set()
        """The connections that stand now."""
        self._reactor = reactor
        self._listening: IListeningPort | None = None
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def start(self) -> None:
        """Listen. Port 0 becomes the real one. Raises ``CannotListenError``."""
        visitors = _Visitors(self)
        if self.address.startswith("/"):
            self._listening = self._reactor.listenUNIX(self.address, visitors)  # type: ignore[attr-defined]
            return
        listening = self._reactor.listenTCP(self.port, visitors, interface=self.address)
        self._listening = listening
        self.port = listening.getHost().port  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Listen no more, and cut the connections that stand. Harmless when not listening."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await _settled(listening.stopListening())
        gone = []
        for visit in list(self.visits):
            gone.append(visit.gone)
            visit.transport.abortConnection()
        for end in gone:
            await end

    async def received(self, count: int = 1) -> None:
        """Return when it has taken ``count`` messages in all. Cancellable."""
        if len(self.messages) < count:
            enough: Deferred[None] = Deferred()
            self._waiting.append((count, enough))
            await enough

    def keep(self, mail: ReceivedMail) -> None:
        """Take a message in."""
        self.messages.append(mail)
        waiting, self._waiting = self._waiting, []
        for count, enough in waiting:
            if len(self.messages) < count:
                self._waiting.append((count, enough))
            elif not enough.called:
                enough.callback(None)


async def _settled(waiting: object) -> None:
    if isinstance(waiting, Deferred):
        await waiting


class _Visitors(ServerFactory):
    noisy = False

    def __init__(self, host: MailHost) -> None:
        self._host = host

    def buildProtocol(self, addr: object) -> "_Visit":
        return _Visit(self._host)


class _Visit(Protocol):
    """One connection to a host."""

    transport: Any

    def __init__(self, host: MailHost) -> None:
        self.gone: Deferred[None] = Deferred()
        self._host = host
        self._buffer = bytearray()
        self._called = ""
        self._taking_content = False
        self._babbling = False
        self._over = False  # silent or closing: nothing more is said
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._parameters: list[str] = []

    def connectionMade(self) -> None:
        self._host.connections += 1
        self._number = self._host.connections
        self._host.visits.add(self)
        if self._host.behaviour.wrapped:
            self.transport.startTLS(self._host.behaviour.tls)
        self._answer(Stage.GREETING, f"220 {self._host.name} ESMTP rehearsal")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._host.visits.discard(self)
        self.gone.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self._babbling:
            self._answer(Stage.OTHER, "500 5.5.2 what?")
            return
        self._buffer += data
        while not self._over and (self._content() if self._taking_content else self._line()):
            pass

    # --- what is said ------------------------------------------------------------------------------

    def _answer(self, stage: Stage, usual: str, told: str | Deed | None = None) -> bool:
        """Say what is said at this stage, or do what is done; whether the answer was positive."""
        answer = told or self._host.behaviour.answers.get(stage, usual)
        if isinstance(answer, Deed):
            self._do(answer)
            return False
        self.transport.write(answer.encode("utf-8") + b"\r\n")
        if answer.startswith(("421", "221")):
            self._over = True
            self.transport.loseConnection()
        return answer.startswith(("2", "3"))

    def _do(self, deed: Deed) -> None:
        self._over = True
        if deed is Deed.DROP:
            self.transport.loseConnection()
        elif deed is Deed.RESET:
            self.transport.abortConnection()
        elif self._taking_content:
            self.transport.pauseProducing()

    # --- commands ----------------------------------------------------------------------------------

    def _line(self) -> bool:
        """Obey one command line; whether there was one."""
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        text = line.decode("utf-8", "backslashreplace")
        self._host.commands.append(text)
        verb, _, argument = text.partition(" ")
        obey = getattr(self, f"_{verb.lower()}", None) if verb.upper() in _VERBS else None
        if obey is None:
            self._answer(Stage.OTHER, "500 5.5.2 what?")
        else:
            obey(argument)
        return True

    def _lhlo(self, name: str) -> None:
        self._ehlo(name)

    def _ehlo(self, name: str) -> None:
        behaviour = self._host.behaviour
        lines = [self._host.name, *behaviour.extensions]
        if behaviour.tls is not None and not self._tls():
            lines.append("STARTTLS")
        usual = "\r\n".join(f"250-{line}" for line in lines[:-1]) + f"\r\n250 {lines[-1]}"
        self._greeted(name, Stage.EHLO, usual.removeprefix("\r\n"))

    def _helo(self, name: str) -> None:
        self._greeted(name, Stage.HELO, f"250 {self._host.name}")

    def _greeted(self, name: str, stage: Stage, usual: str) -> None:
        self._forget()
        if self._answer(stage, usual):
            self._called = name

    def _starttls(self, _: str) -> None:
        behaviour = self._host.behaviour
        if behaviour.tls is None:
            self._answer(Stage.STARTTLS, "502 5.5.1 no TLS here")
        elif not self._answer(Stage.STARTTLS, "220 2.0.0 go ahead"):
            return
        elif behaviour.babbles:
            self._babbling = True
        else:
            self._buffer.clear()
            self._called = ""
            self._forget()
            self.transport.startTLS(behaviour.tls)

    def _mail(self, argument: str) -> None:
        path, parameters = _path(argument)
        self._forget()
        if self._answer(Stage.MAIL, "250 2.1.0 sender ok"):
            self._sender = path
            self._parameters = [parameters]

    def _rcpt(self, argument: str) -> None:
        path, parameters = _path(argument)
        usual = "503 5.5.1 MAIL first" if self._sender is None else "250 2.1.5 recipient ok"
        told = self._host.behaviour.recipients.get(path)
        if self._answer(Stage.RCPT, usual, told):
            self._recipients.append(path)
            self._parameters.append(parameters)

    def _data(self, _: str) -> None:
        usual = "354 go ahead" if self._recipients else "554 5.5.1 no valid recipients"
        self._taking_content = self._answer(Stage.DATA, usual)
        self._searched = 0

    def _rset(self, _: str) -> None:
        self._forget()
        self._answer(Stage.RSET, "250 2.0.0 ok")

    def _noop(self, _: str) -> None:
        self._answer(Stage.OTHER, "250 2.0.0 ok")

    def _quit(self, _: str) -> None:
        self._answer(Stage.QUIT, "221 2.0.0 bye")

    def _forget(self) -> None:
        """End the transaction."""
        self._sender, self._recipients, self._parameters = None, [], []

    # --- content -----------------------------------------------------------------------------------

    def _content(self) -> bool:
        """Take content in, up to the final dot; whether that has come."""
        if not self._buffer:
            return False
        deed = self._host.behaviour.answers.get(Stage.CONTENT)
        if isinstance(deed, Deed):
            self._do(deed)
            return False
        # A CRLF in front lets one search find the dot of an empty message too.
        if self._searched == 0:
            self._buffer[:0] = b"\r\n"
        end = self._buffer.find(b"\r\n.\r\n", self._searched)
        if end < 0:
            self._searched = max(len(self._buffer) - 4, 1)
            return False
        stuffed = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        self._taking_content = False
        behaviour = self._host.behaviour
        shares = [behaviour.shares.get(path) for path in self._recipients] if behaviour.lmtp else [None]
        taken = [not self._over and self._answer(Stage.DOT, "250 2.0.0 taken", share) for share in shares]
        if behaviour.lmtp:
            self._recipients = [path for path, yes in zip(self._recipients, taken, strict=True) if yes]
        if any(taken):
            self._host.keep(self._mail_of(stuffed.replace(b"\r\n.", b"\r\n")[2:]))
        self._forget()
        return True

    def _mail_of(self, content: bytes) -> ReceivedMail:
        tls = self._tls()
        return ReceivedMail(
            sender=self._sender or "",
            recipients=tuple(self._recipients),
            content=content,
            helo=self._called,
            tls=tls.get_protocol_version_name() if tls else "",
            server_name=(tls.get_servername() or b"").decode("ascii") if tls else "",
            parameters=tuple(self._parameters),
            connection=self._number,
        )

    def _tls(self) -> Any:
        """The OpenSSL connection, or ``None`` in clear."""
        return self.transport.getHandle() if self.transport.TLS else None


_VERBS = frozenset(["LHLO", "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"])


def _path(argument: str) -> tuple[str, str]:
    """``FROM:<a@b> SIZE=1`` → ``("a@b", "SIZE=1")``."""
    _, _, rest = argument.partition("<")
    path, _, parameters = rest.rpartition(">") if '"' in rest else rest.partition(">")
    return path, parameters.strip()


def common_port(addresses: Iterable[str]) -> int:
    """A TCP port that is free on all these addresses now. Raises ``OSError`` if none is found."""
    wanted = list(addresses)
    for _ in range(50):
        with ExitStack() as stack:
            port = 0
            try:
                for address in wanted:
                    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
                    taken = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    taken.bind((address, port))
                    port = taken.getsockname()[1]
            except OSError:
                continue
            return port
    raise OSError(f"no port is free on all of {', '.join(wanted)}")

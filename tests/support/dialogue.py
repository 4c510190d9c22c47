"""Golden dialogues: conversations in text files, and the players that hold a server against them.

The format is described in ``tests/dialogues/README.rst``. A dialogue is played in memory against a protocol
object with :func:`play`, in as few segments as it allows or cut as the caller likes, and against any server
at a TCP port with :func:`play_socket`.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from attrs import Factory, define, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import alsoProvides

__all__ = [
    "Cut",
    "Dialogue",
    "MemoryWire",
    "Step",
    "Stored",
    "byte_by_byte",
    "check_stored",
    "load",
    "parse",
    "play",
    "play_socket",
    "whole",
]

DIALOGUES = Path(__file__).parent.parent / "dialogues"


# --- the files ---------------------------------------------------------------------------------------


@frozen
class Step:
    """One line: ``kind`` is ``send``, ``reply``, ``wait``, ``eof``, ``drop``, ``tls``, ``closed`` or ``open``."""

    kind: str
    data: bytes = b""
    line: int = 0


@define
class Stored:
    """A message that must have been stored: its envelope as written, and its content if that is given."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes | None = None


@define
class Dialogue:
    """A parsed file."""

    name: str
    why: str
    settings: dict[str, str] = Factory(dict)
    steps: list[Step] = Factory(list)
    stored: list[Stored] | None = None


_REPEAT = re.compile(rb"\{(.+?)\*([0-9]+)\}")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[rnt0\\])")
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_EVENTS = {
    "C! eof": "eof",
    "C! drop": "drop",
    "C! tls": "tls",
    "S! closed": "closed",
    "S! open": "open",
    "---": "wait",
}


def octets(text: str) -> bytes:
    """What a line's text stands for: escapes and repetitions resolved."""

    def unescape(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return _PLAIN[code] if code in _PLAIN else bytes([int(code[1:], 16)])

    repeated = _REPEAT.sub(lambda match: match.group(1) * int(match.group(2)), text.encode())
    return _ESCAPE.sub(unescape, repeated)


def parse(name: str, text: str) -> Dialogue:
    """Read a dialogue. Raises ``ValueError`` with file and line for anything it does not understand."""
    dialogue = Dialogue(name, "")
    for number, line in enumerate(text.split("\n"), 1):
        if not _parse_line(dialogue, line.rstrip("\n"), number):
            raise ValueError(f"{name}:{number}: not understood: {line}")
    if not dialogue.why:
        raise ValueError(f"{name}: does not say why it exists")
    return dialogue


def _parse_line(dialogue: Dialogue, line: str, number: int) -> bool:
    mark, _, text = line.partition(" ")
    if line.startswith("#"):
        dialogue.why += line[1:].strip() + " "
    elif not line.strip():
        pass
    elif line.strip() in _EVENTS:
        dialogue.steps.append(Step(_EVENTS[line.strip()], line=number))
    elif mark in ("C:", "C+"):
        dialogue.steps.append(Step("send", octets(text) + (b"\r\n" if mark == "C:" else b""), number))
    elif mark == "S:":
        dialogue.steps.append(Step("reply", text.encode(), number))
    elif mark == "given:":
        dialogue.settings.update(word.split("=", 1) for word in text.split())
    elif mark == "stored:":
        _parse_stored(dialogue, text)
    elif mark == "|" and dialogue.stored:
        stored = dialogue.stored[-1]
        stored.content = (stored.content or b"") + octets(text) + b"\r\n"
    else:
        return False
    return True


def _parse_stored(dialogue: Dialogue, text: str) -> None:
    dialogue.stored = dialogue.stored or []
    if text.strip() != "nothing":
        sender, _, recipients = text.partition(" -> ")
        named = (sender.strip(), *recipients.split())
        sender, *rest = (word[1:-1] for word in named)
        dialogue.stored.append(Stored(sender, tuple(rest)))


def load(protocol: str) -> list[Dialogue]:
    """All dialogues of a folder of ``tests/dialogues``."""
    files = sorted((DIALOGUES / protocol).glob("*.txt"))
    return [parse(file.stem, file.read_text("utf-8")) for file in files]


# --- the players -------------------------------------------------------------------------------------


Cut = Callable[[bytes], Iterable[bytes]]
"""How a segment is cut into what ``dataReceived`` gets."""


def whole(data: bytes) -> Iterator[bytes]:
    """All at once."""
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """As slowly as can be."""
    for position in range(len(data)):
        yield data[position : position + 1]


class Wire(Protocol):
    """A connection, seen from the client."""

    def send(self, data: bytes) -> None: ...

    def eof(self) -> None: ...

    def drop(self) -> None: ...

    def tls(self) -> None: ...

    def lines(self, count: int) -> list[bytes]:
        """The next ``count`` lines that came, without CRLF; fewer if no more came."""

    def rest(self, closed: bool) -> bytes:
        """What else came; waits for the end of the connection where it is expected."""

    def is_closed(self) -> bool: ...


class _Handle:
    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def export_keying_material(self, label: bytes, length: int, context: bytes) -> bytes:
        return label.ljust(length, b".")

    def get_certificate(self) -> None:
        return None


class MemoryTransport(StringTransport):
    """A transport that can pretend to do TLS."""

    handshaking = False

    def startTLS(self, context: object, normal: bool = True) -> None:
        self.handshaking = True
        alsoProvides(self, ISSLTransport)

    def getHandle(self) -> _Handle:
        return _Handle()


class MemoryWire:
    """A protocol object with a string for a network."""

    def __init__(
        self, protocol: Any, peer: str = "192.0.2.99", cut: Cut = whole, secure: bool = False
    ) -> None:
        self.protocol = protocol
        self.transport = MemoryTransport(peerAddress=IPv4Address("TCP", peer, 40000))
        if secure:
            alsoProvides(self.transport, ISSLTransport)
        self._cut = cut
        self._read = 0
        self._lost = False
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        for piece in self._cut(data):
            if self.transport.disconnecting or self._lost:
                return
            self.protocol.dataReceived(piece)

    def eof(self) -> None:
        IHalfCloseableProtocol(self.protocol).readConnectionLost()

    def drop(self) -> None:
        if not self._lost:
            self._lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def tls(self) -> None:
        assert self.transport.handshaking, "the server did not begin TLS"
        self.protocol.handshakeCompleted()

    def lines(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        data = self.transport.value()
        while len(found) < count and (end := data.find(b"\r\n", self._read)) >= 0:
            found.append(data[self._read : end])
            self._read = end + 2
        return found

    def rest(self, closed: bool) -> bytes:
        data = self.transport.value()[self._read :]
        self._read += len(data)
        return data

    def is_closed(self) -> bool:
        return self.transport.disconnecting or self._lost


class SocketWire:
    """A connection to a server at a TCP port, with blocking calls and a timeout on each."""

    def __init__(self, host: str, port: int, cut: Cut = whole, timeout: float = 10.0) -> None:
        self._socket: socket.socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cut = cut
        self._buffer = b""
        self._ended = False

    def send(self, data: bytes) -> None:
        try:
            for piece in self._cut(data):
                self._socket.sendall(piece)
        except OSError:
            self._ended = True  # the server has closed, as it may after a farewell

    def eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        self._socket.close()
        self._ended = True

    def tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def lines(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            line, separator, rest = self._buffer.partition(b"\r\n")
            if separator:
                found.append(line)
                self._buffer = rest
            elif not self._receive():
                break
        return found

    def rest(self, closed: bool) -> bytes:
        while closed and self._receive():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def is_closed(self) -> bool:
        return self._ended

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        self._buffer += data
        self._ended = self._ended or not data
        return bool(data)


def play(dialogue: Dialogue, wire: Wire) -> None:
    """Play the client's part and compare the server's; ``AssertionError`` names file and line.

    Everything up to a line ``---`` or an event is sent in one piece, and only then the replies are read.
    """
    out, expected = bytearray(), list[Step]()
    for step in [*dialogue.steps, Step("end")]:
        if step.kind == "send":
            out += step.data
        elif step.kind == "reply":
            expected.append(step)
        else:
            if out:
                wire.send(bytes(out))
                out.clear()
            if step.kind == "eof":
                wire.eof()
            else:
                _compare(dialogue, wire, expected)
                expected.clear()
                _look(dialogue, wire, step)


def _look(dialogue: Dialogue, wire: Wire, step: Step) -> None:
    where = f"{dialogue.name}:{step.line}"
    if step.kind == "tls":
        wire.tls()
        return
    if step.kind == "drop":
        wire.drop()
        return
    rest = wire.rest(step.kind == "closed")
    assert not rest, f"{where}: the server also said {rest!r}"
    if step.kind == "closed":
        assert wire.is_closed(), f"{where}: the server did not close"
    elif step.kind == "open":
        assert not wire.is_closed(), f"{where}: the server closed"


def _compare(dialogue: Dialogue, wire: Wire, expected: list[Step]) -> None:
    lines = wire.lines(len(expected))
    for step, line in zip(expected, lines, strict=False):
        pattern = b".*".join(re.escape(part) for part in step.data.split(b"*"))
        assert re.fullmatch(pattern, line), (
            f"{dialogue.name}:{step.line}: expected {step.data!r}, the server said {line!r}"
        )
    if len(lines) < len(expected):
        missing = expected[len(lines)]
        raise AssertionError(f"{dialogue.name}:{missing.line}: expected {missing.data!r}, nothing came")


def play_socket(dialogue: Dialogue, host: str, port: int, cut: Cut = whole, timeout: float = 10.0) -> None:
    """Play a dialogue against the server at a port. What it stored is the caller's to look at."""
    wire = SocketWire(host, port, cut, timeout)
    try:
        play(dialogue, wire)
    finally:
        wire.close()


def check_stored(dialogue: Dialogue, stored: Iterable[tuple[str, Iterable[str], bytes]]) -> None:
    """Compare what was stored: senders, recipients, and the contents below our own Received field."""
    if dialogue.stored is None:
        return
    found = [(sender, sorted(recipients), content) for sender, recipients, content in stored]
    name = dialogue.name
    assert len(found) == len(dialogue.stored), f"{name}: {len(found)} messages stored: {found}"
    for wanted, (sender, recipients, content) in zip(dialogue.stored, found, strict=True):
        assert (sender, recipients) == (wanted.sender, sorted(wanted.recipients)), name
        assert content.startswith(b"Received: "), name
        if wanted.content is not None:
            # Our field ends where the first line begins that does not go on with a blank.
            below = re.sub(rb"\AReceived: [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)*", b"", content)
            assert below == wanted.content, f"{name}: {below!r} was stored"

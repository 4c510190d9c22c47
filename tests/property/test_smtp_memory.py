"""What a session may hold, whatever it is sent: measured, in every state, while far more than that passes by."""

import tracemalloc

import pytest
from twisted.internet.testing import StringTransport

from mailserver.smtp.server import SMTPServer
from tests.support.reception import Premises

HELLO = b"EHLO c\r\nMAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<alice@example.lan>\r\n"
SEGMENT = 64 * 1024
PASSING = 16 * 1024 * 1024
BOUND = 1024 * 1024


class Deaf(StringTransport):
    """The peer reads nothing after ``unread`` octets; nothing written is kept."""

    unread = 64 * 1024
    stopped = False

    def write(self, data: bytes) -> None:
        self.unread -= len(data)
        if self.unread < 0 and self.streaming and not self.stopped:
            self.stopped = True
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.disconnecting = True


def filled(piece: bytes) -> bytes:
    return piece * (SEGMENT // len(piece))


@pytest.mark.parametrize(
    "piece", [b"x", b"\r\n", b"NOOP\r\n", b"\0", b"\r", b"\n", b"A: b\r\n", b".\r\n..", b"RCPT TO:<a@"]
)
@pytest.mark.parametrize(
    "state", [b"", HELLO, HELLO + b"DATA\r\n", HELLO + b"DATA\r\n\r\n", HELLO + b"BDAT 99999999999\r\n", b"BDAT 99999999999\r\n"]
)  # fmt: skip
def test_a_session_holds_little(state: bytes, piece: bytes) -> None:
    premises = Premises({"size": str(1 << 40)})
    premises.spool.draft = lambda *_: Sink()  # type: ignore[method-assign, assignment, return-value]
    transport, segment = Deaf(), filled(piece)
    session: SMTPServer = premises.factory.buildProtocol(None)
    session.makeConnection(transport)
    session.dataReceived(state)
    tracemalloc.start()
    try:
        for _ in range(PASSING // SEGMENT):
            if transport.disconnecting or transport.producerState == "paused":
                break
            session.dataReceived(segment)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BOUND


class Sink:
    """A draft on a disk that is fast and has no end."""

    id = "Q"

    def write(self, data: bytes) -> None:
        pass

    def abandon(self) -> None:
        pass

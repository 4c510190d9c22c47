"""Handshakes over real sockets: whose they are, and what becomes of one that does not go on."""

import re
import socket
import ssl
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailserver.net.certificates import ensure_self_signed
from mailserver.net.session import Bounds, Session, SessionFactory
from mailserver.net.tls import Certificates, Version

PIECES = [b"%07d" % number * 7000 for number in range(400)]
"""About 20 MB: more than the kernel holds for anybody."""


class Greeter(Session, Protocol):
    """Greets, begins TLS at STARTTLS, and answers everything else with its TLS facts."""

    factory: "Greeters"

    def sessionStopping(self) -> None:
        """A session that has not ended when the test has says nothing more."""

    def connectionMade(self) -> None:
        self.beginSession()
        self.reply(b"220 hello\r\n")

    def commandReceived(self, line: bytes) -> Awaitable[None] | None:
        if line == b"STARTTLS":
            self.startSessionTLS(self.factory.certificates.current(), b"220 go\r\n")
        elif line == b"MUCH":
            return self._much()
        else:
            self.reply(f"250 {self.tls}\r\n".encode())
        return None

    async def _much(self) -> None:
        for number, piece in enumerate(PIECES):
            self.factory.sent = number
            await self.send(piece)
        self.reply(b"221 that was all\r\n")
        self.closeSession()

    def sessionTimedOut(self, why: str) -> None:
        self.reply(b"421 " + why.encode() + b"\r\n")

    def sessionLost(self, reason: Failure) -> None:
        pass


class Greeters(SessionFactory):
    def __init__(self, certificates: Certificates, bounds: Bounds) -> None:
        super().__init__(bounds, reactor)  # type: ignore[arg-type]
        self.certificates = certificates
        self.sent = 0  # pieces

    def buildProtocol(self, addr: IAddress | None) -> Greeter:
        session = Greeter()
        session.factory = self
        session.meet(addr)
        return session


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class HandshakeTests(TestCase):
    timeout = 60

    def serve(self, implicit: bool, bounds: Bounds) -> tuple[str, int]:
        self.asked: list[str] = []

        def oldest(client: str) -> Version:
            self.asked.append(client)
            return Version.TLS_1_2

        certificates = Certificates(oldest)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        certificates.load(ensure_self_signed(Path(directory.name), "mail.example.lan"))
        factory: Any = Greeters(certificates, bounds)
        self.factory = factory
        self.addCleanup(factory.drain)
        around = TLSMemoryBIOFactory(certificates, False, factory) if implicit else factory
        port = reactor.listenTCP(0, around, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return "127.0.0.1", port.getHost().port

    async def test_the_client_of_a_handshake_is_known(self) -> None:
        for implicit in (True, False):
            address = self.serve(implicit, Bounds())
            facts = await deferToThread(self._shake, address, implicit)
            assert re.search(rb"^250 TLSv1\.3 TLS_\w+\r\n", facts)
            assert self.asked == ["127.0.0.1"]

    @staticmethod
    def _shake(address: tuple[str, int], implicit: bool) -> bytes:
        with socket.create_connection(address, 30) as raw:
            if not implicit:
                raw.recv(100)
                raw.sendall(b"STARTTLS\r\n")
                raw.recv(100)
            with careless().wrap_socket(raw) as connection:
                if implicit:
                    connection.recv(100)
                connection.sendall(b"WHAT\r\n")
                return connection.recv(100)

    async def test_one_that_stands_still_is_cut_off(self) -> None:
        for implicit in (True, False):
            for beginning in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
                # At once: who does not go on would not read a farewell either, and needs no grace.
                address = self.serve(implicit, Bounds(handshake=0.1, grace=600.0))
                rest = await deferToThread(self._stall, address, implicit, beginning)
                assert rest == b""

    async def test_one_that_drips_is_cut_off_too(self) -> None:
        for implicit in (True, False):
            address = self.serve(implicit, Bounds(handshake=0.2))
            await deferToThread(self._drip, address, implicit)

    async def test_much_arrives_in_order_however_slowly_it_is_read(self) -> None:
        for implicit in (True, False):
            address = self.serve(implicit, Bounds())
            held, came = await deferToThread(self._read, address, implicit)
            assert held < len(PIECES) / 2  # it waited for us
            assert came == b"".join(PIECES) + b"221 that was all\r\n"

    def _read(self, address: tuple[str, int], implicit: bool) -> tuple[int, bytes]:
        raw = self._begin(address, implicit)
        # An end that is not told by close_notify raises.
        with careless().wrap_socket(raw, suppress_ragged_eofs=False) as connection:
            if implicit:
                connection.recv(100)
            connection.sendall(b"MUCH\r\n")
            came = bytearray(connection.recv(7000))
            before = -1
            while before != self.factory.sent:
                before = self.factory.sent
                time.sleep(0.05)
            while data := connection.recv(1 << 16):
                came += data
            return before, bytes(came)

    @staticmethod
    def _begin(address: tuple[str, int], implicit: bool) -> socket.socket:
        raw = socket.create_connection(address, 30)
        if not implicit:
            raw.recv(100)
            raw.sendall(b"STARTTLS\r\n")
            raw.recv(100)
        return raw

    def _stall(self, address: tuple[str, int], implicit: bool, beginning: bytes) -> bytes:
        with self._begin(address, implicit) as raw:
            raw.sendall(beginning)
            try:
                return raw.recv(100)
            except ConnectionResetError:
                return b""

    def _drip(self, address: tuple[str, int], implicit: bool) -> None:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500
        with self._begin(address, implicit) as raw:
            raw.settimeout(0.02)
            for octet in hello:
                try:
                    raw.sendall(bytes([octet]))
                    if not raw.recv(1):
                        return
                except TimeoutError:
                    continue
                except ConnectionError:
                    return
        raise AssertionError("the handshake was waited for")

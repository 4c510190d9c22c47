"""The golden dialogues of the POP3 server: in memory, whole and byte by byte, and over a socket with real TLS.

The mailbox is the one of :mod:`tests.support.postoffice`. What a dialogue may be given: ``plaintext`` (a login
without TLS is allowed) and ``tls`` (STLS is offered), ``yes`` or ``no``; ``delay``, seconds of login delay; ``left``, the numbers of the messages
that must be there in the end; ``slow=yes`` where the server holds an answer back; ``whole=yes`` where it
matters what comes in one segment.
"""

import poplib
import shutil
import ssl as stdlib_ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from tests.support.dialogue import Cut, Dialogue, MemoryWire, byte_by_byte, load, play, play_socket, whole
from tests.support.postoffice import PostOffice, fill, left_in

DIALOGUES = load("pop3")


class Wire(MemoryWire):
    """A wire whose clock goes on while the client waits."""

    clock: Any

    def lines(self, count: int) -> list[bytes]:
        found = super().lines(count)
        for _ in range(10):
            if len(found) < count:
                self.clock.advance(1)
                found += super().lines(count - len(found))
        return found


def office_for(dialogue: Dialogue, box: Path, context: object, clock: Any = None) -> PostOffice:
    given = dialogue.settings
    offered = context if given.get("tls") == "yes" else None
    office = PostOffice(
        box, clock, context=lambda: offered, plaintext=lambda address: given["plaintext"] == "yes"
    )
    office.delay.seconds = float(given.get("delay", 0))
    return office


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=[dialogue.name for dialogue in DIALOGUES])
def test_dialogue(dialogue: Dialogue, cut: Cut, tmp_path: Path) -> None:
    if cut is byte_by_byte and "whole" in dialogue.settings:
        pytest.skip("is about what comes in one segment")
    fill(tmp_path)
    office = office_for(dialogue, tmp_path, object())
    wire = Wire(office.factory.buildProtocol(None), "192.0.2.7", cut)
    wire.clock = office.clock
    play(dialogue, wire)
    wire.drop()
    assert left_in(tmp_path) == dialogue.settings["left"]
    assert office.logouts == len(office.drops)
    assert not office.clock.getDelayedCalls()


def test_there_are_enough() -> None:
    assert len(DIALOGUES) >= 50


class OverSockets(TestCase):
    def setUp(self) -> None:
        issued = trustme.CA().issue_cert("mail.example.lan")
        pem = b"".join([issued.private_key_pem.bytes(), *(blob.bytes() for blob in issued.cert_chain_pems)])
        self.context = ssl.PrivateCertificate.loadPEM(pem).options()

    async def test_dialogues(self) -> None:
        for dialogue in DIALOGUES:
            if "slow" not in dialogue.settings:  # those wait for seconds, which a clock in memory has
                await self.play(dialogue, self.context)

    async def test_implicit_tls(self) -> None:
        """RFC 8314 §3.2: TLS from the first octet; a login is allowed, STLS is not offered."""
        box = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, box, ignore_errors=True)
        fill(box)
        office = PostOffice(box, reactor, context=lambda: self.context, plaintext=lambda address: False)
        factory = TLSMemoryBIOFactory(self.context, False, office.factory)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]

        def client() -> tuple[dict[str, list[str]], bytes]:
            trusting = stdlib_ssl._create_unverified_context()
            pop = poplib.POP3_SSL("127.0.0.1", port.getHost().port, timeout=10, context=trusting)
            capabilities = pop.capa()
            pop.user("alice")
            pop.pass_("secret")
            text = b"\r\n".join(pop.retr(2)[1])
            pop.quit()
            return capabilities, text

        capabilities, text = await deferToThread(client)
        assert "USER" in capabilities
        assert "STLS" not in capabilities
        assert text == b"Subject: dots\r\n\r\n.\r\n..two\r\n.three\r\n...."
        assert office.asked[0].tls is True
        await port.stopListening()
        await office.factory.drain()

    async def play(self, dialogue: Dialogue, context: object) -> None:
        box = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, box, ignore_errors=True)
        fill(box)
        office = office_for(dialogue, box, context, reactor)
        port = reactor.listenTCP(0, office.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        try:
            await deferToThread(play_socket, dialogue, "127.0.0.1", port.getHost().port)
        finally:
            await port.stopListening()
            await office.factory.drain()
        assert left_in(box) == dialogue.settings["left"], dialogue.name
        assert office.logouts == len(office.drops), dialogue.name

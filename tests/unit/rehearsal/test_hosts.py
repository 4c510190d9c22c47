"""The made-up mail hosts behave as told, asked by an independent client: the standard library's."""

import smtplib
import socket
import ssl

import pytest
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, ReceivedMail, Stage, common_port

MESSAGE = b"Subject: x\r\n\r\n.dot\r\n..\r\n"


def send(port, recipients=("b@outside.example",), message=MESSAGE, address="127.0.0.1"):
    with smtplib.SMTP(address, port, local_hostname="client.example", timeout=5) as client:
        return client.sendmail("a@example.lan", list(recipients), message)


class MailHostTest(TestCase):
    def host(self, **behaviour):
        host = MailHost(reactor, "127.0.0.1", 0, Behaviour(**behaviour), name="mx.example")
        host.start()
        self.addCleanup(lambda: ensureDeferred(host.stop()))
        return host

    async def test_takes_a_message_and_keeps_it(self):
        host = self.host()
        await deferToThread(send, host.port, ["b@outside.example", "c@outside.example"])
        await host.received(1)
        assert host.messages == [
            ReceivedMail(
                sender="a@example.lan",
                recipients=("b@outside.example", "c@outside.example"),
                content=MESSAGE,
                helo="client.example",
                parameters=("size=24", "", ""),
                connection=1,
            )
        ]
        assert host.connections == 1
        assert host.commands[0] == "ehlo client.example"

    async def test_content_comes_out_as_it_went_in_whatever_its_size(self):
        host = self.host()
        contents = [b"\r\n", b".\r\n", b"x\r\n" * 500_000]
        for content in contents:
            await deferToThread(send, host.port, message=content)
        await host.received(3)
        assert [mail.content for mail in host.messages] == contents

    async def test_everything_in_one_segment_and_no_content_at_all(self):
        host = self.host()

        def say():
            with socket.create_connection(("127.0.0.1", host.port), timeout=5) as client:
                client.sendall(
                    b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example> NOTIFY=NEVER\r\nDATA\r\n.\r\nNOOP\r\nQUIT\r\n"
                )
                return [line[:3] for line in client.makefile("rb") if line[3:4] == b" "]

        assert await deferToThread(say) == [b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"221"]
        assert host.messages[0].content == b""
        assert host.messages[0].parameters == ("", "NOTIFY=NEVER")

    async def test_answers_by_recipient(self):
        host = self.host(recipients={"c@x.example": "450 4.2.1 later", "d@x.example": "550 5.1.1 nobody"})
        refused = await deferToThread(send, host.port, ["b@x.example", "c@x.example", "d@x.example"])
        assert refused == {"c@x.example": (450, b"4.2.1 later"), "d@x.example": (550, b"5.1.1 nobody")}
        assert host.messages[0].recipients == ("b@x.example",)

    async def test_a_refused_stage(self):
        for stage, error in {
            Stage.GREETING: smtplib.SMTPConnectError,
            Stage.MAIL: smtplib.SMTPSenderRefused,
            Stage.RCPT: smtplib.SMTPRecipientsRefused,
            Stage.DATA: smtplib.SMTPDataError,
            Stage.DOT: smtplib.SMTPDataError,
        }.items():
            host = self.host(answers={stage: "554 5.0.0 no"})
            with pytest.raises(error):
                await deferToThread(send, host.port)
            assert host.messages == []

    async def test_refused_ehlo_leads_to_helo(self):
        host = self.host(answers={Stage.EHLO: "502 5.5.1 no"})
        await deferToThread(send, host.port)
        assert [line.split()[0] for line in host.commands[:2]] == ["ehlo", "helo"]

    async def test_drops_at_each_stage(self):
        for stage in (
            Stage.GREETING,
            Stage.EHLO,
            Stage.MAIL,
            Stage.RCPT,
            Stage.DATA,
            Stage.CONTENT,
            Stage.DOT,
        ):
            for deed in (Deed.DROP, Deed.RESET):
                host = self.host(answers={stage: deed})
                with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
                    await deferToThread(send, host.port)
                assert host.messages == []

    async def test_silence(self):
        host = self.host(answers={Stage.GREETING: Deed.SILENCE})

        def ask():
            with socket.create_connection(("127.0.0.1", host.port), timeout=0.2) as client:
                return client.recv(100)

        with pytest.raises(TimeoutError):
            await deferToThread(ask)

    async def test_closes_after_421(self):
        host = self.host(answers={Stage.GREETING: "421 4.3.2 busy"})

        def ask():
            with socket.create_connection(("127.0.0.1", host.port), timeout=5) as client:
                return client.makefile("rb").read()

        assert await deferToThread(ask) == b"421 4.3.2 busy\r\n"

    async def test_starttls(self):
        authority = trustme.CA()
        pem = authority.issue_cert("mx.example")
        own = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate.loadPEM(pem.cert_chain_pems[0].bytes()),
            KeyPair.load(pem.private_key_pem.bytes(), 1),
        )
        host = self.host(tls=CertificateOptions(privateKey=own.privateKey.original, certificate=own.original))
        context = ssl.create_default_context()
        authority.configure_trust(context)

        def ask():
            with smtplib.SMTP("127.0.0.1", host.port, timeout=5) as client:
                client._host = "mx.example"
                client.starttls(context=context)
                client.sendmail("a@example.lan", ["b@outside.example"], MESSAGE)

        await deferToThread(ask)
        assert host.messages[0].tls == "TLSv1.3"
        assert host.messages[0].server_name == "mx.example"
        assert host.messages[0].content == MESSAGE

    async def test_stop_cuts_the_connections_that_stand(self):
        host = self.host(answers={Stage.GREETING: Deed.SILENCE})
        with socket.create_connection(("127.0.0.1", host.port), timeout=5):
            while not host.visits:
                await _turn()
            await host.stop()
        assert not host.visits
        with pytest.raises(OSError, match="refused"):
            await deferToThread(send, host.port)

    async def test_a_common_port_serves_all_addresses(self):
        addresses = ["127.0.0.10", "127.0.0.30", "127.0.0.50"]
        port = common_port(addresses)
        hosts = [MailHost(reactor, address, port) for address in addresses]
        for host in hosts:
            host.start()
            await deferToThread(send, port, address=host.address)
            await host.stop()
            assert len(host.messages) == 1


def _turn():
    turned = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned

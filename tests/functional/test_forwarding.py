"""Mail that an alias sends outside: under a sender of ours, and reports find their way back."""

import email
import smtplib

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mailserver.rehearsal.hosts import Behaviour, MailHost, Stage, common_port
from mailserver.rehearsal.nameserver import Nameserver
from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import ServerTestCase, count, fetch_all, smtp, until

FAR, HOME, DEAF = "127.0.0.61", "127.0.0.62", "127.0.0.63"
STRANGER = "127.0.1.1"
MESSAGE = b"Subject: lunch\r\nFrom: carol@home.example\r\n\r\nHello\r\n"


class ForwardingTests(ServerTestCase):
    """carol@home.example writes to an alias here that leads to far.example."""

    def setUp(self) -> None:
        self.port = common_port([FAR, HOME, DEAF])
        self.far = MailHost(reactor, FAR, self.port)  # type: ignore[arg-type]
        self.home = MailHost(reactor, HOME, self.port)  # type: ignore[arg-type]
        refuses = Behaviour(answers={Stage.RCPT: "550 5.1.1 Nobody of that name"}, extensions=())
        self.deaf = MailHost(reactor, DEAF, self.port, refuses)  # type: ignore[arg-type]
        zone = {}
        for name, address in (("far", FAR), ("home", HOME), ("deaf", DEAF)):
            zone[f"{name}.example"] = [f"MX 10 mx.{name}.example."]
            zone[f"mx.{name}.example"] = [f"A {address}"]
        self.names = Nameserver(reactor, zone)

    def test_forwarding(self) -> object:
        async def play() -> None:
            address, port = await self.names.start()
            hosts = (self.far, self.home, self.deaf)
            for host in hosts:
                host.start()
            try:
                await self.play(self._forward, f"{address}:{port}")
            finally:
                await self.names.stop()
                for host in hosts:
                    await host.stop()

        return Deferred.fromCoroutine(play())

    def _forward(self, dns: str) -> None:
        server = self.server(
            aliases={"example.lan": "away: dave@far.example\ngone: dave@deaf.example\nteam: alice, bob\n"},
            dns=dns,
            networks=("127.0.0.1/32",),
            tables={"delivery": f'port = {self.port}\nloopback = true\nretry = ["1s"]'},
        )
        server.start()
        sender = self._outside(server)
        self._report_comes_back(server, sender)
        self._loop_ends(server, sender)
        self._refused_outside(server)
        self._expanded(server)

    def _outside(self, server: ServerProcess) -> str:
        with smtp(server, STRANGER) as session:
            session.sendmail("carol@home.example", ["away@example.lan"], MESSAGE)
        until(lambda: self.far.messages, "the mail at the alias's target")
        mail = self.far.messages[0]
        assert mail.recipients == ("dave@far.example",)
        assert mail.sender.startswith("SRS0=")
        assert mail.sender.endswith("=home.example=carol@example.lan")
        assert mail.content.startswith(b"Delivered-To: away@example.lan\r\n")
        return mail.sender

    def _report_comes_back(self, server: ServerProcess, sender: str) -> None:
        with smtp(server, STRANGER) as session:
            session.sendmail("", [sender], b"Subject: Undelivered\r\n\r\nIt could not be delivered.\r\n")
        until(lambda: self.home.messages, "the report at the first sender's")
        report = self.home.messages[0]
        assert (report.sender, report.recipients) == ("", ("carol@home.example",))
        forged = sender.replace("carol", "victor")
        for mail_from, to in (("mallory@far.example", sender), ("", forged)):
            with smtp(server, STRANGER) as session, pytest.raises(smtplib.SMTPRecipientsRefused) as raised:
                session.sendmail(mail_from, [to], MESSAGE)
            assert raised.value.recipients[to][0] == 550

    def _loop_ends(self, server: ServerProcess, sender: str) -> None:
        with smtp(server, STRANGER) as session:
            session.sendmail(sender, ["away@example.lan"], self.far.messages[0].content)
        until(lambda: len(self.home.messages) == 2, "the report of the loop")
        assert len(self.far.messages) == 1
        assert b"Status: 5.4.6" in self.home.messages[1].content

    def _refused_outside(self, server: ServerProcess) -> None:
        with smtp(server, STRANGER) as session:
            session.sendmail("carol@home.example", ["gone@example.lan"], MESSAGE, ["RET=FULL"])
        until(lambda: len(self.home.messages) == 3, "the report of the refusal")
        report = email.message_from_bytes(self.home.messages[2].content)
        assert report.get_content_type() == "multipart/report"
        assert report["To"] == "<carol@home.example>"
        parts: list[email.message.Message] = report.get_payload()  # type: ignore[assignment]
        fields = parts[1].get_payload()[1]  # type: ignore[index]
        assert fields["Action"] == "failed"  # type: ignore[index]
        assert fields["Original-Recipient"] == "rfc822; gone@example.lan"  # type: ignore[index]
        assert parts[2].get_content_type() == "text/rfc822-headers"

    def _expanded(self, server: ServerProcess) -> None:
        with smtp(server) as session:
            session.sendmail(
                "carol@home.example", ["team@example.lan"], MESSAGE, rcpt_options=["NOTIFY=SUCCESS"]
            )
        until(lambda: len(self.home.messages) == 4, "the report of the expansion")
        until(lambda: count(server) and count(server, "bob@example.lan"), "the mail at both")
        assert b"Action: expanded" in self.home.messages[3].content
        assert b"Delivered-To: team@example.lan" in fetch_all(server)[0]
        assert len(self.home.messages) == 4

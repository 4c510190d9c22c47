"""Ways other than to the MX hosts, through the real program: backup MX, programs, TLS from the first octet."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.net.certificates import read_pair
from mailserver.net.tls import Certificates
from mailserver.rehearsal.hosts import Behaviour, MailHost, common_port
from mailserver.rehearsal.nameserver import Nameserver
from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import ServerTestCase, count, fetch_all, smtp, until

reactor: Any = default_reactor
STRANGER = "127.0.0.2"
BETTER, WORSE = "127.0.0.110", "127.0.0.130"
MESSAGE = b"From: alice@example.lan\r\nSubject: x\r\n\r\nhello\r\n"
BACKUP = """[[route]]
domains = ["backup.example", "ours.example"]
to = "backup"
recipients = ["ann"]
recipients_file = "known"
lifetime = "30d"
"""
# Each tries to reach friend@elsewhere.example through us or through the host that we are the backup of.
TRICKS = [
    "<friend@elsewhere.example>",
    "<FRIEND@ELSEWHERE.EXAMPLE>",
    "<friend%elsewhere.example@backup.example>",
    "<friend%elsewhere.example@example.lan>",
    "<elsewhere.example!friend@backup.example>",
    "<elsewhere.example!ann@backup.example>",
    '<"friend@elsewhere.example"@backup.example>',
    '<"friend%elsewhere.example"@backup.example>',
    "<@backup.example:friend@elsewhere.example>",
    "<@backup.example,@example.lan:friend@elsewhere.example>",
    "<@backup.example:friend%elsewhere.example@example.lan>",
    "<friend@elsewhere.example@backup.example>",
    "<ann@backup.example@elsewhere.example>",
    "<ann@backup.example,friend@elsewhere.example>",
    "<ann@backup.example> <friend@elsewhere.example>",
    "<friend@sub.backup.example>",
    "<friend@xbackup.example>",
    "<friend@backup.example.elsewhere.example>",
    "<friend@[127.0.0.110]>",
    "<ann@[127.0.0.110]>",
    "<ann@backup.example.>",
    "<friend>",
]


def told(server: ServerProcess, *words: str) -> list[str]:
    """The lines of the journal with all these words."""
    lines = server.log.read_text().split("\n")
    return [line for line in lines if all(word in line for word in words)]


class BackupTests(ServerTestCase):
    def setUp(self) -> None:
        self.port = common_port([BETTER, WORSE])
        self.better, self.worse = (MailHost(reactor, it, self.port) for it in (BETTER, WORSE))
        zone = {
            "mx10.example": [f"A {BETTER}"],
            "mx30.example": [f"A {WORSE}"],
            "backup.example": ["MX 10 mx10.example.", "MX 20 mail.example.lan.", "MX 30 mx30.example."],
            "alias.example": ["MX 10 mx2.alias.example.", "MX 30 mx30.example."],
            "mx2.alias.example": ["A 203.0.113.7"],
            "behind.example": ["MX 10 mx2.behind.example.", "MX 30 mx30.example."],
            "mx2.behind.example": ["A 203.0.113.9"],
            "ours.example": ["MX 10 mail.example.lan.", "MX 30 mx30.example."],
            "elsewhere.example": ["MX 10 mx30.example."],
        }
        self.names = Nameserver(reactor, zone)

    def stage(self, story: Callable[[ServerProcess], None], route: str = BACKUP) -> object:
        async def play() -> None:
            address, port = await self.names.start()
            self.worse.start()
            text = f'port = {self.port}\nloopback = true\nretry = ["1s"]\n{route}'
            server = self.server(dns=f"{address}:{port}", tables={"delivery": text})
            (server.config.parent / "known").write_text("ben\n")
            try:
                await self.play(story, server)
            finally:
                for host in (self.better, self.worse):
                    await host.stop()
                await self.names.stop()

        return Deferred.fromCoroutine(play())

    def start_better(self) -> None:
        reactor.callFromThread(self.better.start)

    def test_it_waits_for_the_better_host_and_asks_no_worse(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            with smtp(server, STRANGER) as session:
                to = ["ann@backup.example", "Ben+x@backup.example", "eve@backup.example"]
                refused = session.sendmail("x@stranger.example", to, MESSAGE)
            assert {name: code for name, (code, _) in refused.items()} == {"eve@backup.example": 550}
            until(
                lambda: told(server, " refused ", "eve@backup.example", "rule=mailserver.toml:"), "its reason"
            )
            until(lambda: len(told(server, " delayed ", "ann@backup.example")) >= 2, "two attempts")
            self.start_better()
            until(
                lambda: (
                    sorted(to for mail in self.better.messages for to in mail.recipients)
                    == ["Ben+x@backup.example", "ann@backup.example"]
                ),
                "the mail",
            )
            assert self.worse.connections == 0
            until(lambda: told(server, " routed ", "to=backup", "rule=mailserver.toml:"), "the route's line")

        return self.stage(story)

    def test_where_we_are_the_best_it_would_loop(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            for domain in ("ours.example", "alias.example", "behind.example"):
                with smtp(server) as session:
                    session.sendmail("alice@example.lan", [f"ann@{domain}"], MESSAGE)
                until(lambda: count(server), "the report")
                assert b"5.4.6" in fetch_all(server, delete=True)[0], domain
            assert self.worse.connections == 0

        return self.stage(story, f'own_names = ["mx2.alias.example", "203.0.113.9"]\n{BACKUP}')

    def test_no_relay_for_anybody_else(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            said = {}
            for trick in TRICKS:
                with smtp(server, STRANGER) as session:
                    session.ehlo()
                    assert session.docmd("MAIL FROM:<x@stranger.example>")[0] == 250
                    said[trick] = session.docmd(f"RCPT TO:{trick}")[0]
            assert {trick for trick, code in said.items() if code < 500} == set()
            with smtp(server, STRANGER) as session:
                session.sendmail("x@stranger.example", ["ann@backup.example"], MESSAGE)

        return self.stage(story)

    def test_nor_where_nobody_is_listed(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            for trick in TRICKS:
                with smtp(server, STRANGER) as session:
                    session.ehlo()
                    session.docmd("MAIL FROM:<x@stranger.example>")
                    assert session.docmd(f"RCPT TO:{trick}")[0] >= 500, trick
            until(lambda: told(server, "nobody is listed"), "the warning")

        return self.stage(story, '[[route]]\ndomains = ["backup.example"]\nto = "backup"\n')

    def test_list_and_route_are_read_again(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            (server.config.parent / "known").write_text("eve\n")
            server.reload()
            until(lambda: told(server, " reloaded "), "the reload")
            with smtp(server, STRANGER) as session:
                session.ehlo()
                session.docmd("MAIL FROM:<x@stranger.example>")
                codes = [session.docmd(f"RCPT TO:<{name}@backup.example>")[0] for name in ("eve", "ben")]
            assert codes == [250, 550]

        return self.stage(story)


class PipeTests(ServerTestCase):
    def test_a_program_for_a_hosted_domain(self) -> object:
        place = Path(tempfile.mkdtemp())
        script = place / "take.py"
        script.write_text(
            f"import os, sys\nopen({str(place / 'taken')!r}, 'ab').write(sys.stdin.buffer.read())\n"
            "if sys.argv[1] == 'bob':\n    print('5.7.26 Not to bob'); sys.exit(1)\n"
        )
        route = (
            f'[[route]]\ndomains = ["piped.example"]\nto = "pipe"\n'
            f'command = ["{sys.executable}", "-S", "{script}", "{{user}}"]'
        )
        server = self.server(
            users={"example.lan": "alice:{PLAIN}secret\n", "piped.example": "ann:{PLAIN}x\nbob:{PLAIN}x\n"},
            tables={"delivery": f'retry = ["1s"]\n{route}'},
        )

        def story() -> None:
            server.start()
            with smtp(server) as session:
                to = ["ann@piped.example", "bob@piped.example", "eve@piped.example"]
                refused = session.sendmail("alice@example.lan", to, MESSAGE)
            assert list(refused) == ["eve@piped.example"]
            until(lambda: count(server), "the report")
            (report,) = fetch_all(server)
            assert b"5.7.26" in report
            assert b"Not to bob" in report
            assert b"ann@piped.example" not in report
            assert b"Delivered-To: ann@piped.example\n" in (place / "taken").read_bytes()
            until(lambda: told(server, " delivered ", "ann@piped.example", "2.1.5"), "its line")
            assert not list(server.state.glob("mail/piped.example/**/new/*"))

        return self.play(story)


class WrappedTests(ServerTestCase):
    def test_tls_from_the_first_octet_by_a_root_of_ones_own(self) -> object:
        place = Path(tempfile.mkdtemp())
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(place / "ca.pem"))
        leaf = ca.issue_cert("relay.example")
        (place / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        (place / "key.pem").write_bytes(leaf.private_key_pem.bytes())
        certificates = Certificates()
        certificates.load(read_pair(place / "chain.pem", place / "key.pem"))
        host = MailHost(reactor, "127.0.0.1", 0, Behaviour(tls=certificates.current(), wrapped=True))
        names = Nameserver(reactor, {"relay.example": ["A 127.0.0.1"]})

        async def play() -> None:
            host.start()
            address, port = await names.start()
            route = (
                f'[[route]]\nto = "smarthost"\nsmarthost = ["smtps://relay.example:{host.port}"]\n'
                f'tls = "verify"\ntls_roots = "{place}/ca.pem"'
            )
            server = self.server(dns=f"{address}:{port}", tables={"delivery": route})
            try:
                await self.play(story, server)
            finally:
                await host.stop()
                await names.stop()

        def story(server: ServerProcess) -> None:
            server.start()
            with smtp(server) as session:
                session.sendmail("alice@example.lan", ["carol@outside.example"], MESSAGE)
            (mail,) = until(lambda: host.messages, "the mail")
            assert (mail.tls, mail.server_name) == ("TLSv1.3", "relay.example")
            assert "STARTTLS" not in host.commands

        return Deferred.fromCoroutine(play())

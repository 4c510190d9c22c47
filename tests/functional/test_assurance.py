"""What domains publish about the TLS of their mail hosts, kept by the real program: DANE and MTA-STS."""

import re
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.rehearsal.hosts import Behaviour, MailHost, common_port
from mailserver.rehearsal.nameserver import Fault, Nameserver
from mailserver.rehearsal.server import ServerProcess
from tests.support.certificates import credentials, loaded
from tests.support.rehearsal import ServerTestCase, run, smtp, until

reactor: Any = default_reactor
HOSTS = {"first": "127.0.0.160", "second": "127.0.0.161"}
MESSAGE = b"From: alice@example.lan\r\nSubject: x\r\n\r\nhello\r\n"

CA = trustme.CA()
STRANGER = trustme.CA()


def key_of(certificate: x509.Certificate) -> str:
    """A TLSA record for a host's own key."""
    spelled = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {sha256(spelled).hexdigest()}"


def mailctl(server: ServerProcess, *arguments: str) -> str:
    command = (sys.executable, "-m", "mailserver.cli.main", "--config", str(server.config), *arguments)
    return run(*command).stdout.decode()


class Stage(ServerTestCase):
    """Two mail hosts of one domain, each with a certificate of its own name."""

    issuer = CA

    def setUp(self) -> None:
        self.port = common_port(HOSTS.values())
        self.names = Nameserver(reactor)
        zone = self.names.zone
        self.certificates: dict[str, x509.Certificate] = {}
        self.hosts: dict[str, MailHost] = {}
        directory = Path(self.mktemp())
        for number, (name, address) in enumerate(HOSTS.items()):
            zone.add("example.org", "MX", f"{number} {name}.example.org.")
            zone.add(f"{name}.example.org", "A", address)
            pair = credentials(self.issuer, directory / name, f"{name}.example.org")
            self.certificates[name] = pair.chain[0]
            tls = loaded(pair).current()
            self.hosts[name] = MailHost(
                reactor, address, self.port, Behaviour(tls=tls), f"{name}.example.org"
            )

    def tlsa(self, name: str, record: str) -> None:
        self.names.zone.add(f"_{self.port}._tcp.{name}.example.org", "TLSA", record)

    def stage(self, story: Callable[[ServerProcess], None], **tables: str) -> object:
        async def play() -> None:
            address, port = await self.names.start()
            for host in self.hosts.values():
                host.start()
            try:
                await self.play(story, self.start(f"{address}:{port}", tables))
            finally:
                for host in self.hosts.values():
                    await host.stop()
                await self.names.stop()

        return Deferred.fromCoroutine(play())

    def start(self, dns: str, tables: Mapping[str, str]) -> ServerProcess:
        delivery = f'port = {self.port}\nloopback = true\nretry = ["1s"]\n{tables.get("delivery", "")}'
        return self.server(dns=dns, tables={**tables, "delivery": delivery})

    def send(self, server: ServerProcess, recipient: str = "carol@example.org", **options: Any) -> None:
        with smtp(server) as session:
            session.sendmail("alice@example.lan", [recipient], MESSAGE, **options)

    def taken(self, name: str) -> int:
        return len(self.hosts[name].messages)

    def in_log(self, server: ServerProcess, *words: str) -> list[str]:
        lines = server.log.read_text().split("\n")
        return [line for line in lines if all(word in line for word in words)]

    def told(self, server: ServerProcess, *words: str) -> list[str]:
        """The same, waiting: mail arrives a little before the log says so."""
        return until(lambda: self.in_log(server, *words), " ".join(words))


class DANETests(Stage):
    issuer = STRANGER

    def setUp(self) -> None:
        super().setUp()
        self.names.signed.add("example.org")

    def test_a_host_that_fits_is_asked_and_one_that_does_not_is_passed_over(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("second"), "the mail at the host that fits")
            assert self.taken("first") == 0
            assert self.in_log(server, " attempted ", "first.example.org", "no TLSA record fits")
            (taken,) = self.told(server, " attempted ", "second.example.org", '"1 delivered')
            assert ' DANE"' in taken
            assert 'policy="dane (DANE)"' in taken
            assert self.hosts["second"].messages[0].server_name == "second.example.org"

        self.tlsa("first", key_of(self.certificates["second"]))
        self.tlsa("second", key_of(self.certificates["second"]))
        return self.stage(story)

    def test_where_dns_is_bogus_the_mail_waits(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.in_log(server, " delayed ", "TLSA"), "the delay")
            assert [host.connections for host in self.hosts.values()] == [0, 0]
            (id,) = set(re.findall(r" delayed id=(\w+)", server.log.read_text()))
            shown = mailctl(server, "queue", "show", id)
            assert re.search(r"asked first.example.org .*policy may.* passed over: .* TLSA", shown), shown
            for name in HOSTS:
                self.names.heal(f"_{self.port}._tcp.{name}.example.org")
            until(lambda: self.taken("first"), "the mail, once DNS is whole")

        for name in HOSTS:
            self.names.play(f"_{self.port}._tcp.{name}.example.org", Fault.SERVFAIL)
        return self.stage(story, dns='timeout = "2s"')

    def test_records_nobody_vouches_for_are_none(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("first"), "the mail")
            (taken,) = self.told(server, " attempted ", "first.example.org")
            assert ' unverified"' in taken
            assert "policy=may" in taken

        self.names.signed.clear()
        self.tlsa("first", key_of(self.certificates["second"]))
        return self.stage(story)

    def test_records_that_cannot_be_used_demand_tls(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.hosts["first"].behaviour = Behaviour()
            self.send(server)
            until(lambda: self.taken("second"), "the mail where there is TLS")
            assert self.taken("first") == 0

        for name in HOSTS:
            self.tlsa(name, f"1 1 1 {'00' * 32}")
        return self.stage(story)

    def test_demanded_and_not_there(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.in_log(server, " delayed ", "no TLSA records that can be used"), "the delay")
            assert [host.connections for host in self.hosts.values()] == [0, 0]

        return self.stage(story, delivery='tls = "dane"')

    def test_a_downgrade_is_told_of(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("first"), "the mail in TLS")
            self.hosts["first"].behaviour = Behaviour()
            until(lambda: not self.hosts["first"].visits, "the end of the connection that was kept")
            self.send(server)
            until(lambda: self.taken("first") == 2, "the mail in clear")
            assert self.told(server, " downgraded ", "domain=example.org", "before=encrypted", "now=clear")

        return self.stage(story)

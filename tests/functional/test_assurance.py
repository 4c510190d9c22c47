"""What domains publish about the TLS of their mail hosts, kept by the real program: DANE and MTA-STS."""

import re
import ssl
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
from tests.support.policyhost import POLICY, PolicyHost, response
from tests.support.rehearsal import ServerTestCase, mailctl, smtp, until

reactor: Any = default_reactor
HOSTS = {"first": "127.0.0.160", "second": "127.0.0.161"}
MESSAGE = b"From: alice@example.lan\r\nSubject: x\r\n\r\nhello\r\n"

CA = trustme.CA()
STRANGER = trustme.CA()


def key_of(certificate: x509.Certificate) -> str:
    """A TLSA record for a host's own key."""
    spelled = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {sha256(spelled).hexdigest()}"


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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
            assert self.told(server, " attempted ", "first.example.org", "no TLSA record fits")
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


class MTASTSTests(Stage):
    """The first host's certificate is not a trusted one; the second's is."""

    def setUp(self) -> None:
        super().setUp()
        directory = Path(self.mktemp())
        self.serve(PolicyHost(reactor, CA, directory / "policy", "mta-sts.example.org", None))
        self.names.zone.add("_mta-sts.example.org", "TXT", '"v=STSv1; id=1;"')
        self.names.zone.add("mta-sts.example.org", "A", "127.0.0.1")
        untrusted = credentials(STRANGER, directory / "untrusted", "first.example.org")
        self.certificates["first"] = untrusted.chain[0]
        self.hosts["first"].behaviour = Behaviour(tls=loaded(untrusted).current())
        self.roots = (directory / "roots.pem").absolute()
        CA.cert_pem.write_to_path(str(self.roots))

    def serve(self, policies: PolicyHost) -> None:
        self.policies = policies
        self.policy_port = policies.start("127.0.0.1")
        self.addCleanup(lambda: Deferred.fromCoroutine(policies.stop()))

    def publish(self, mode: bytes, mx: bytes = b"*.example.org") -> None:
        self.policies.says = response(POLICY % (mode, mx))

    def start(self, dns: str, tables: Mapping[str, str]) -> ServerProcess:
        delivery = (
            f'mta_sts_port = {self.policy_port}\ntls_roots = "{self.roots}"\n{tables.get("delivery", "")}'
        )
        return super().start(dns, {**tables, "delivery": delivery})

    def test_enforced(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("second"), "the mail at the host that is trusted")
            assert (self.taken("first"), self.hosts["first"].connections) == (0, 1)
            attempts = self.told(server, " attempted ", "first.example.org", "verify (MTA-STS)")
            assert "not trusted" in attempts[0], attempts
            (taken,) = self.told(server, " attempted ", "second.example.org", '"1 delivered')
            assert ' verified"' in taken
            # The policy outlives the process, and that it cannot be asked for any more.
            assert server.stop() == 0
            self.names.zone.remove("_mta-sts.example.org")
            server.start()
            self.send(server)
            until(lambda: self.taken("second") == 2, "the mail at the host that is trusted, again")
            assert (self.taken("first"), len(self.policies.asked)) == (0, 1)

        self.publish(b"enforce")
        return self.stage(story)

    def test_enforced_with_other_hosts(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.in_log(server, " delayed ", "policy (MTA-STS)"), "the delay")
            assert [host.connections for host in self.hosts.values()] == [0, 0]

        self.publish(b"enforce", b"mx.elsewhere.example")
        return self.stage(story)

    def test_only_tried(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("first"), "the mail")
            assert self.told(server, " warned ", "where=MTA-STS", "first.example.org", "not trusted")

        self.publish(b"testing")
        return self.stage(story)

    def test_dane_goes_first(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("first"), "the mail")
            assert self.policies.asked == []

        self.publish(b"enforce", b"mx.elsewhere.example")
        self.names.signed.add("example.org")
        self.tlsa("first", key_of(self.certificates["first"]))
        return self.stage(story)

    def test_a_policy_host_that_proves_nothing_has_none(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server)
            until(lambda: self.taken("first"), "the mail")
            assert self.told(server, " warned ", "where=MTA-STS", "not for mta-sts.example.org")
            assert self.policies.asked == []

        self.serve(PolicyHost(reactor, CA, Path(self.mktemp()), "forger.example", None))
        self.publish(b"enforce", b"mx.elsewhere.example")
        return self.stage(story)

    def test_requiretls(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            with smtp(server) as session:
                session.starttls(context=careless())
                session.sendmail("alice@example.lan", ["carol@example.org"], MESSAGE, ["REQUIRETLS"])
                session.sendmail("alice@example.lan", ["dave@unvouched.example"], MESSAGE, ["REQUIRETLS"])
            until(lambda: self.taken("second"), "the mail at the host that is proven")
            assert self.taken("first") == 0
            assert self.hosts["second"].messages[0].recipients == ("carol@example.org",)
            assert "REQUIRETLS" in self.hosts["second"].messages[0].parameters[0]
            assert self.told(server, " failed ", "dave@unvouched.example", "5.7.10")

        self.names.zone.add("unvouched.example", "MX", "1 second.example.org.")
        tls = self.hosts["second"].behaviour.tls
        self.hosts["second"].behaviour = Behaviour(tls=tls, extensions=("REQUIRETLS", "8BITMIME"))
        self.publish(b"enforce")
        return self.stage(story)

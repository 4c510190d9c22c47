"""Mail for the world through the real program: which mail hosts are asked, and what each answer leads to."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.net.certificates import ensure_self_signed
from mailserver.net.tls import Certificates
from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage, common_port
from mailserver.rehearsal.nameserver import Fault, Nameserver
from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import PASSWORD, ServerTestCase, count, fetch_all, smtp, until

reactor: Any = default_reactor
HOSTS = {10: "127.0.0.110", 30: "127.0.0.130", 50: "127.0.0.150"}
TLS = 'certificate = "chain.pem"\nkey = "key.pem"'
MESSAGE = b"From: alice@example.lan\r\nSubject: x\r\n\r\nhello\r\n"
BUSY = Behaviour(answers={Stage.GREETING: "421 4.3.2 too busy"})


class SendingTests(ServerTestCase):
    def setUp(self) -> None:
        self.port = common_port(list(HOSTS.values()))
        zone = {f"mx{number}.outside.example": [f"A {address}"] for number, address in HOSTS.items()}
        zone["outside.example"] = [f"MX {number} mx{number}.outside.example." for number in HOSTS]
        zone["null.example"] = ["MX 0 ."]
        zone["us.example"] = ["MX 10 mail.example.lan.", "MX 20 mx30.outside.example."]
        zone["tls.example"] = ["MX 10 mx10.outside.example.", "MX 50 mx50.outside.example."]
        zone["verified.example"] = zone["tls.example"]
        self.names = Nameserver(reactor, zone)
        self.hosts = {number: MailHost(reactor, address, self.port) for number, address in HOSTS.items()}

    def stage(self, behaviours: Mapping[int, Behaviour | None], story: Any, tables: str = "") -> object:
        """Play a story with some hosts: those that are not named refuse connections."""

        async def play() -> None:
            address, port = await self.names.start()
            for number, behaviour in behaviours.items():
                self.hosts[number].behaviour = behaviour or Behaviour()
                self.hosts[number].start()
            try:
                server = self.server(
                    dns=f"{address}:{port}",
                    tables={
                        "delivery": f'port = {self.port}\nloopback = true\nretry = ["1s"]\n{tables}',
                        "dns": 'timeout = "2s"',
                    },
                )
                await self.play(story, server)
            finally:
                for host in self.hosts.values():
                    await host.stop()
                await self.names.stop()

        return Deferred.fromCoroutine(play())

    def send(self, server: ServerProcess, *recipients: str) -> None:
        with smtp(server) as session:
            session.sendmail("alice@example.lan", list(recipients), MESSAGE)

    def taken(self, number: int) -> list[tuple[str, ...]]:
        return [mail.recipients for mail in self.hosts[number].messages]

    def report(self, server: ServerProcess) -> bytes:
        until(lambda: count(server), "a report")
        return fetch_all(server)[0]

    def in_log(self, server: ServerProcess, words: Iterable[str]) -> list[str]:
        lines = server.log.read_text().split("\n")
        return [line for line in lines if all(word in line for word in words)]

    def test_10_refuses_30_says_421_50_accepts(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, "carol@outside.example")
            until(lambda: self.taken(50), "the mail")
            assert self.hosts[30].connections == 1
            until(lambda: len(self.in_log(server, [" attempted "])) == 3, "three attempts")
            (ordered,) = self.in_log(server, [" ordered "])
            assert "seed=" in ordered

        return self.stage({30: BUSY, 50: None}, story)

    def test_one_accepted_one_450_one_550(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, *(f"{name}@outside.example" for name in ("yes", "later", "never")))
            until(lambda: self.taken(30), "the one that another host may help")
            assert self.taken(10) == [("yes@outside.example",)]
            assert self.taken(30) == [("later@outside.example",)]
            report = self.report(server)
            assert b"never@outside.example" in report
            assert b"yes@outside.example" not in report

        picky = Behaviour(
            recipients={"later@outside.example": "450 4.2.0 later", "never@outside.example": "550 5.1.1 no"}
        )
        return self.stage({10: picky, 30: None}, story)

    def test_dropped_after_the_final_dot(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, "carol@outside.example")
            until(lambda: self.in_log(server, [" delayed ", "scope=doubt"]), "the doubt")
            assert self.hosts[30].connections == 0, "the mail may be in: nobody else is asked in that run"
            self.hosts[10].behaviour = Behaviour()
            until(lambda: self.taken(10), "the mail, in the next run")

        return self.stage({10: Behaviour(answers={Stage.DOT: Deed.DROP}), 30: None}, story)

    def bad_certificate(self) -> Behaviour:
        directory = Path(tempfile.mkdtemp())
        certificates = Certificates()
        certificates.load(ensure_self_signed(directory, "wrong.example"))
        return Behaviour(tls=certificates.current())

    def test_a_bad_certificate_under_may(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, "carol@tls.example")
            until(lambda: self.taken(10), "the mail")
            assert self.hosts[10].messages[0].tls

        return self.stage({10: self.bad_certificate(), 50: None}, story)

    def test_a_bad_certificate_under_verify(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, "carol@verified.example", "carol@tls.example")
            until(lambda: self.in_log(server, [" delayed ", "carol@verified.example"]), "the delay")
            until(lambda: self.taken(10), "the mail for the other domain")
            assert {mail for mails in self.taken(10) + self.taken(50) for mail in mails} == {
                "carol@tls.example"
            }
            until(lambda: self.in_log(server, [" routed ", "mailserver.toml:"]), "the route")

        route = '[[route]]\ndomains = ["verified.example"]\ntls = "verify"'
        return self.stage({10: self.bad_certificate(), 50: None}, story, route)

    def test_those_that_dns_settles(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            for domain, status in [("null.example", b"5.1.10"), ("us.example", b"5.4.6")]:
                self.send(server, f"carol@{domain}")
                until(lambda: count(server), "a report")
                assert status in fetch_all(server, delete=True)[0]
            self.names.play("outside.example", Fault.SERVFAIL)
            self.send(server, "carol@outside.example")
            until(lambda: len(self.in_log(server, [" delayed ", "4.4.3"])) >= 2, "two attempts without DNS")
            self.names.heal("outside.example")
            until(lambda: self.taken(10), "the mail, once DNS answers")

        return self.stage({10: None, 30: None}, story)

    def test_a_connection_carries_many_messages(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            for number in range(20):
                self.send(server, f"carol{number}@outside.example")
            until(lambda: len(self.taken(10)) == 20, "the mail")
            assert len(set(self.taken(10))) == 20
            assert self.hosts[10].connections < 10

        return self.stage({10: None}, story)

    def test_routes_discard_and_refuse(self) -> object:
        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, "a@gone.example", "b@below.closed.example", "c@outside.example")
            assert b"Not to them" in self.report(server)
            until(lambda: self.taken(10), "the mail")
            assert self.taken(10) == [("c@outside.example",)]

        routes = (
            '[[route]]\ndomains = ["gone.example"]\nto = "discard"\n'
            '[[route]]\ndomains = [".closed.example"]\nto = "refuse"\ntext = "Not to them"\n'
            f'[[route]]\nto = "smarthost"\nsmarthost = ["{HOSTS[50]}:{self.port}", "{HOSTS[10]}:{self.port}"]'
        )
        return self.stage({10: None}, story, routes)


class SmarthostTests(ServerTestCase):
    """A second server of the same kind relays for the first, which logs in there by SCRAM over verified TLS."""

    def setUp(self) -> None:
        self.names = Nameserver(reactor, {"relay.example": ["A 127.0.0.1"]})

    def test_logs_in(self) -> object:
        async def play() -> None:
            address, port = await self.names.start()
            try:
                await self.play(self._relay, f"{address}:{port}")
            finally:
                await self.names.stop()

        return Deferred.fromCoroutine(play())

    def _relay(self, dns: str) -> None:
        ca = trustme.CA()
        leaf = ca.issue_cert("relay.example")
        relay = self.server(services=("submission", "pop3"), tables={"tls": TLS}, networks=("192.0.2.1/32",))
        roots = relay.directory / "roots.pem"
        ca.cert_pem.write_to_path(str(roots))
        (relay.directory / "etc" / "chain.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
        (relay.directory / "etc" / "key.pem").write_bytes(leaf.private_key_pem.bytes())
        relay.start()
        _, port = relay.address("submission")
        route = (
            f'[[route]]\nto = "smarthost"\nsmarthost = ["relay.example:{port}"]\n'
            'username = "alice@example.lan"\npassword_file = "password"'
        )
        server = self.server(
            users={"first.example": "alice:{PLAIN}secret\n"}, dns=dns, tables={"delivery": route}
        )
        (server.directory / "etc" / "password").write_text(PASSWORD + "\n")
        server.start(environment={"SSL_CERT_FILE": str(roots)})
        with smtp(server) as session:
            session.sendmail("alice@example.lan", ["bob@example.lan"], MESSAGE)
        until(lambda: count(relay, "bob@example.lan"), "the mail at the relay")
        assert "with ESMTPSA" in fetch_all(relay, "bob@example.lan")[0].decode()
        assert PASSWORD not in server.log.read_text()

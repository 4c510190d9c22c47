"""The SMTP client towards the hosts that the administrator names: LMTP, UNIX sockets, TLS from the first octet."""

from pathlib import Path
from typing import Any

import trustme
from twisted.internet.defer import Deferred

from mailserver.model.envelope import Recipient
from mailserver.model.exchanger import Exchanger, Security
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.net.certificates import read_pair
from mailserver.net.tls import ClientTLS
from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage
from mailserver.smtp.outbound import Outbound
from mailserver.smtp.standby import Standby
from mailserver.smtp.transmitter import Transmitter
from tests.unit.smtp.test_transmitter import (
    BODY,
    ENVELOPE,
    A,
    B,
    C,
    Held,
    Loopback,
    deferred,
    loaded,
    reactor,
    turn,
)

__all__ = ["LMTPTests", "WrappedTests"]


class LMTPTests(Loopback):
    def at_socket(self, behaviour: Behaviour) -> MailHost:
        host = MailHost(reactor, f"{self.directory.name}/lmtp", 0, behaviour, "mda.example.lan")
        host.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(host.stop()))
        return host

    async def given(self, host: MailHost, transmitter: Transmitter | None = None) -> dict[Recipient, Outcome]:
        name = "localhost" if host.address.startswith("/") else "mda.example.lan"
        exchanger = Exchanger(name, host.address, host.port, lmtp=True)
        return await Outbound(transmitter or self.transmitter(), self.clock).transmit(
            exchanger, ENVELOPE, Held(BODY), (A, B, C)
        )

    @deferred
    async def test_over_tcp(self) -> None:
        behaviour = Behaviour(
            lmtp=True,
            recipients={"b@example.org": "550 5.1.1 nobody"},
            shares={"c@example.org": "452 4.2.2 full"},
        )
        host = self.host(behaviour)
        outcomes = await self.given(host)
        assert outcomes == {
            A: Delivered("250 2.0.0 taken", "2.0.0", "mda.example.lan"),
            B: Failed(Scope.RECIPIENT, "550 5.1.1 nobody", "5.1.1", "mda.example.lan", 550),
            C: Delayed(Scope.RECIPIENT, "452 4.2.2 full", "4.2.2", "mda.example.lan", 452),
        }
        assert host.commands[0] == "LHLO mail.example.lan"
        (mail,) = host.messages
        assert mail.recipients == ("a@example.org",)
        assert mail.content == BODY

    @deferred
    async def test_no_helo_instead_of_lhlo(self) -> None:
        host = self.host(Behaviour(lmtp=True, answers={Stage.EHLO: "500 what?"}))
        outcomes: Any = await self.given(host)
        assert outcomes[A].scope is Scope.HOST
        await turn(3)
        assert host.commands == ["LHLO mail.example.lan", "QUIT"]

    @deferred
    async def test_cut_among_the_answers(self) -> None:
        host = self.host(Behaviour(lmtp=True, shares={"b@example.org": Deed.DROP}))
        outcomes: Any = await self.given(host)
        assert isinstance(outcomes[A], Delivered)
        assert [outcomes[one].scope for one in (B, C)] == [Scope.DOUBT] * 2

    @deferred
    async def test_a_socket_and_the_next_message_over_the_same_connection(self) -> None:
        host = self.at_socket(Behaviour(lmtp=True))
        transmitter = Transmitter(reactor, self.clock, "mail.example.lan", standby=Standby(self.clock, 5.0))
        for _ in range(2):
            outcomes = await self.given(host, transmitter)
            assert set(outcomes.values()) == {Delivered("250 2.0.0 taken", "2.0.0", "localhost")}
        assert host.connections == 1
        assert len(host.messages) == 2
        assert self.attempts()[0]["address"] == host.address
        await transmitter.stop()

    @deferred
    async def test_a_socket_where_nobody_is(self) -> None:
        host = MailHost(reactor, f"{self.directory.name}/nowhere", 0)
        outcomes: Any = await self.given(host)
        assert (outcomes[A].scope, outcomes[A].status) == (Scope.HOST, "4.4.1")
        assert host.address in outcomes[A].reply


class WrappedTests(Loopback):
    def issued(self, ca: trustme.CA, name: str = "mx.example.org") -> Behaviour:
        issued = ca.issue_cert(name)
        chain, key = f"{self.directory.name}/chain.pem", f"{self.directory.name}/key.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(chain)
        issued.private_key_pem.write_to_path(key)
        return Behaviour(tls=loaded(read_pair(Path(chain), Path(key))).current(), wrapped=True)

    async def sent(self, host: MailHost, security: Security, roots: bytes = b"") -> Outcome:
        exchanger = Exchanger(
            "mx.example.org", "127.0.0.1", host.port, 10, security, wrapped=True, roots=roots
        )
        transmitter = self.transmitter(ClientTLS())
        transmitter._strict = None
        return (await Outbound(transmitter, self.clock).transmit(exchanger, ENVELOPE, Held(BODY), (A,)))[A]

    @deferred
    async def test_before_the_greeting(self) -> None:
        host = self.host(self.issued(trustme.CA()))
        assert isinstance(await self.sent(host, Security.MAY), Delivered)
        assert (host.messages[0].tls, host.messages[0].server_name) == ("TLSv1.3", "mx.example.org")
        assert not any(command.startswith("STARTTLS") for command in host.commands)

    @deferred
    async def test_never_in_clear(self) -> None:
        """A host that greets at once, in clear, is not spoken to, whatever the policy."""
        host = self.host()
        outcome: Any = await self.sent(host, Security.MAY)
        assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
        assert "TLS" in outcome.reply
        assert not host.commands
        assert host.connections == 1

    @deferred
    async def test_roots_of_ones_own(self) -> None:
        ca = trustme.CA()
        host = self.host(self.issued(ca))
        own, other = ca.cert_pem.bytes(), trustme.CA().cert_pem.bytes()
        assert isinstance(await self.sent(host, Security.VERIFY, own), Delivered)
        for roots in (other, b""):
            outcome: Any = await self.sent(host, Security.VERIFY, roots)
            assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
        assert len(host.messages) == 1

    @deferred
    async def test_roots_of_ones_own_hold_for_names_too(self) -> None:
        ca = trustme.CA()
        host = self.host(self.issued(ca, "other.example.org"))
        outcome = await self.sent(host, Security.VERIFY, ca.cert_pem.bytes())
        assert isinstance(outcome, Delayed)

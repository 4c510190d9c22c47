"""A worker speaks to hosts for its parent: over real sockets, to a made-up host."""

from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailserver.handing import Outlet, way
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import Exchanger
from mailserver.model.outcome import Delayed, Delivered, Scope
from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage
from mailserver.smtp.plain import read_transmission, spell_host, spell_request
from mailserver.threads import Pool
from mailserver.workers.transmitting import Transmitting

reactor: Any = installed
ANN, BEN = (Recipient(Address(name, "example.org")) for name in ("ann", "ben"))
ENVELOPE = Envelope(QueueID("1B"), Address("x", "example.lan"), (ANN, BEN), Origin(), 1.0, 16)
CONTENT = b"Subject: x\r\n\r\n.\r\n"


def config(greeting: float = 30.0) -> Any:
    delivery = SimpleNamespace(connect_timeout=5.0, greeting_timeout=greeting)
    return SimpleNamespace(hostname="mail.example.lan", delivery=delivery)


class TransmittingTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.host = MailHost(reactor, "127.0.0.1", 0, name="mx.example.org")
        self.host.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.host.stop()))
        inner, outer = way()
        self.transmitting = Transmitting(
            reactor, config(), inner.detach(), Pool("chores", 1, reactor.callFromThread)
        )
        self.outlet = Outlet(reactor, outer)
        self.addCleanup(self.outlet.close)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.transmitting.stop(0.0)))

    def ask(self, *recipients: Recipient) -> "Deferred[Any]":
        host = spell_host(Exchanger("mx.example.org", "127.0.0.1", self.host.port))
        asked = self.outlet.hand_over(spell_request(host, ENVELOPE, recipients), CONTENT)
        return asked.addCallback(read_transmission, recipients)

    async def turns(self, until: Any) -> None:
        while not until():
            turned: Deferred[None] = Deferred()
            reactor.callLater(0.005, turned.callback, None)
            await turned

    async def test_it_says_what_it_is_handed(self) -> None:
        done = await self.ask(ANN, BEN)
        taken = Delivered("250 2.0.0 taken", "2.0.0", "mx.example.org")
        assert done.outcomes == {ANN: taken, BEN: taken}
        (mail,) = self.host.messages
        assert (mail.recipients, mail.content) == (("ann@example.org", "ben@example.org"), CONTENT)
        assert mail.helo == "mail.example.lan"

    async def test_a_connection_stands_for_the_next(self) -> None:
        for _ in range(3):
            assert (await self.ask(BEN)).spoke
        assert (self.host.connections, len(self.host.messages)) == (1, 3)

    async def test_a_reload_reaches_what_is_said_from_then_on(self) -> None:
        self.host.behaviour = Behaviour(answers={Stage.GREETING: Deed.SILENCE})
        self.transmitting.reload(config(greeting=0.05))
        outcome = (await self.ask(ANN)).outcomes[ANN]
        assert (type(outcome), outcome.scope) == (Delayed, Scope.HOST)
        assert outcome.reply.startswith("no answer to the connection within")

    async def test_the_end(self) -> None:
        """What can be said is said; then no connection is left."""
        self.host.behaviour = Behaviour(answers={Stage.DOT: Deed.SILENCE})
        asked = self.ask(ANN)
        await self.turns(lambda: "DATA" in self.host.commands)
        self.outlet.finish()
        stopping = Deferred.fromCoroutine(self.transmitting.stop(0.2))
        done = await asked
        assert done.outcomes[ANN].scope is Scope.DOUBT
        await stopping
        await self.turns(lambda: not self.host.visits)

    async def test_what_waits_for_another_message_is_left(self) -> None:
        await self.ask(ANN)
        assert len(self.host.visits) == 1
        self.outlet.finish()
        await self.transmitting.stop(5.0)
        await self.turns(lambda: not self.host.visits)

"""Who speaks to which host: this process or another, and what follows when that one goes."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailserver.interfaces import ITransmitter, StorageTrouble
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Security
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.smtp.outbound import Outbound
from mailserver.smtp.plain import read_host, read_request, spell_transmission
from mailserver.smtp.transmitter import Transmission
from mailserver.spool.content import MemoryContent

ANN, BEN = (Recipient(Address(name, "example.org")) for name in ("ann", "ben"))
ENVELOPE = Envelope(QueueID("1B"), Address("x", "example.lan"), (ANN, BEN), Origin("192.0.2.9"), 1.0, 4)
CONTENT = MemoryContent(b"x\r\n.")
HERE, THERE = Delivered("250 here"), Delivered("250 there", host="mx")


class Large(MemoryContent):
    """On the disk."""

    def whole(self) -> bytes | None:
        return None


class FakeTransmitter:
    """This process's own."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def transmit(
        self, exchanger: Exchanger, envelope: Envelope, content: Any, recipients: Sequence[Recipient]
    ) -> Transmission:
        self.asked.append(exchanger.host)
        return Transmission(dict.fromkeys(recipients, HERE))


class FakeOutlet:
    """To another process; what is handed over waits."""

    def __init__(self) -> None:
        self.closed: Any = None
        self.finished = False
        self.handed: list[tuple[Exchanger, Envelope, bytes, Deferred[Any]]] = []

    def hand_over(self, facts: Any, *octets: bytes) -> "Deferred[Any]":
        asked: Deferred[Any] = Deferred(lambda _: None)
        host, envelope = read_request(facts)
        self.handed.append((read_host(host), envelope, b"".join(octets), asked))
        return asked

    def finish(self) -> None:
        self.finished = True

    def hosts(self) -> list[str]:
        return [exchanger.host for exchanger, *_ in self.handed]

    def answer(self, outcome: Outcome = THERE, spoke: bool = True, tls: str = "", flaw: str = "") -> None:
        """Answer the oldest that waits."""
        envelope, asked = next((it[1], it[3]) for it in self.handed if not it[3].called)
        done = Transmission(dict.fromkeys(envelope.recipients, outcome), spoke, tls, flaw)
        asked.callback(spell_transmission(done, envelope.recipients))


class OutboundTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.own = FakeTransmitter()
        self.outbound = Outbound(self.own, self.clock)  # type: ignore[arg-type]
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def open(self, number: int) -> FakeOutlet:
        outlet = FakeOutlet()
        self.outbound.open(number, outlet)  # type: ignore[arg-type]
        return outlet

    def send(self, host: str = "mx", content: Any = CONTENT, **more: Any) -> "Deferred[dict[Any, Any]]":
        exchanger = Exchanger(host, f"at {host}", 25, **more)
        return Deferred.fromCoroutine(self.outbound.transmit(exchanger, ENVELOPE, content, (ANN, BEN)))

    def told(self, event: str) -> list[dict[str, Any]]:
        return [told["mail_fields"] for told in self.events if told.get("mail_event") == event]

    def test_the_seam_is_kept(self) -> None:
        assert verifyObject(ITransmitter, self.outbound)

    # --- whose it is

    def test_alone(self) -> None:
        assert self.successResultOf(self.send()) == {ANN: HERE, BEN: HERE}
        assert self.own.asked == ["mx"]

    def test_by_another_process(self) -> None:
        outlet = self.open(1)
        sending = self.send()
        ((exchanger, envelope, octets, _),) = outlet.handed
        assert (exchanger, envelope, octets) == (Exchanger("mx", "at mx", 25), ENVELOPE, b"x\r\n.")
        self.assertNoResult(sending)
        outlet.answer()
        assert self.successResultOf(sending) == {ANN: THERE, BEN: THERE}
        assert self.own.asked == []

    def test_it_is_told_of_those_only_who_are_asked_for(self) -> None:
        outlet = self.open(1)
        exchanger = Exchanger("mx", "at mx", 25)
        sending = Deferred.fromCoroutine(self.outbound.transmit(exchanger, ENVELOPE, CONTENT, (BEN,)))
        assert outlet.handed[0][1] == evolve(ENVELOPE, recipients=(BEN,))
        outlet.answer()
        assert self.successResultOf(sending) == {BEN: THERE}

    def test_what_is_not_at_hand_is_brought_from_here(self) -> None:
        outlet = self.open(1)
        assert self.successResultOf(self.send(content=Large(b"x"))) == {ANN: HERE, BEN: HERE}
        assert outlet.handed == []

    def test_a_host_keeps_to_one_process(self) -> None:
        first, second = self.open(1), self.open(2)
        for host in ("a", "b", "a", "c", "b", "a", "c", "d"):
            self.send(host)
        # Who is idle has the next host, of several the last; then who has less to do.
        assert second.hosts() == ["a", "a", "a", "d"]
        assert first.hosts() == ["b", "c", "b", "c"]

    def test_until_no_connection_stands_any_more(self) -> None:
        first, second = self.open(1), self.open(2)
        self.send("a")
        self.send("b")
        self.clock.advance(4.9)
        self.send("b")
        first.answer()
        first.answer()
        self.send("a")
        assert (first.hosts(), second.hosts()) == (["b", "b"], ["a", "a"])
        self.clock.advance(5)
        self.send("a")
        assert (first.hosts(), second.hosts()) == (["b", "b", "a"], ["a", "a"])

    def test_one_that_comes_has_its_share(self) -> None:
        first = self.open(1)
        self.send("a")
        second = self.open(2)
        self.send("a")
        assert (first.hosts(), second.hosts()) == (["a"], ["a"])

    def test_one_that_does_not_answer_is_given_nothing_more(self) -> None:
        """It stands still, or all of its hosts do."""
        first, second = self.open(1), self.open(2)
        for _ in range(3):
            self.send("a")
            self.clock.advance(4)
        assert (first.hosts(), second.hosts()) == ([], ["a", "a", "a"])
        self.send("a")
        self.send("b")
        assert (first.hosts(), second.hosts()) == (["a", "b"], ["a", "a", "a"])
        self.clock.advance(4)
        second.answer()
        self.send("c")
        self.clock.advance(4)
        self.send("d")
        assert (first.hosts(), second.hosts()) == (["a", "b", "d"], ["a", "a", "a", "c"])
        self.clock.advance(10)
        assert self.own.asked == []
        self.send("a")
        assert self.own.asked == ["a"]

    def test_one_that_had_nothing_to_do_is_not_quiet(self) -> None:
        outlet = self.open(1)
        self.clock.advance(100)
        self.send("a")
        self.send("b")
        assert outlet.hosts() == ["a", "b"]

    def test_what_is_known_of_hosts_is_bounded(self) -> None:
        """Who was spoken to longest ago is forgotten first."""
        self.open(1)
        for number in range(10_010):
            self.send(f"h{number}")
            if number == 9_000:
                self.send("h0")
        assert len(self.outbound._homes) == 10_000
        assert ("at h0", 25) in self.outbound._homes
        assert ("at h1", 25) not in self.outbound._homes

    def test_a_host_is_its_address_and_port(self) -> None:
        first, second = self.open(1), self.open(2)
        for port in (25, 26):
            exchanger = Exchanger("mx", "192.0.2.1", port)
            _ = Deferred.fromCoroutine(self.outbound.transmit(exchanger, ENVELOPE, CONTENT, (ANN,)))
        assert (len(first.handed), len(second.handed)) == (1, 1)

    # --- the end of one

    def test_left(self) -> None:
        """It answers for what it has; the others have the rest."""
        first, second = self.open(1), self.open(2)
        before = self.send()
        self.outbound.leave(2)
        assert second.finished
        after = self.send()
        assert (first.hosts(), second.hosts()) == (["mx"], ["mx"])
        second.answer()
        first.answer()
        assert self.successResultOf(before) == self.successResultOf(after)
        self.outbound.leave(1)
        self.outbound.leave(1)
        assert self.successResultOf(self.send()) == {ANN: HERE, BEN: HERE}

    def test_dead_is_doubt(self) -> None:
        """It may have said all; nobody else is asked in this run."""
        outlet = self.open(1)
        sending = self.send()
        outlet.closed()
        outlet.handed[0][3].errback(StorageTrouble("gone"))
        outcomes = self.successResultOf(sending)
        assert {type(it) for it in outcomes.values()} == {Delayed}
        assert {(it.scope, it.status, it.host) for it in outcomes.values()} == {(Scope.DOUBT, "4.3.2", "")}
        assert self.successResultOf(self.send()) == {ANN: HERE, BEN: HERE}

    def test_one_that_is_replaced_takes_nothing_with_it(self) -> None:
        old = self.open(1)
        new = self.open(1)
        self.send()
        old.closed()
        self.send()
        assert (old.hosts(), new.hosts()) == ([], ["mx", "mx"])

    def test_broken_off_is_as_cancelled(self) -> None:
        outlet = self.open(1)
        sending = self.send()
        outlet.handed[0][3].callback(None)
        with pytest.raises(CancelledError):
            self.failureResultOf(sending).raiseException()

    def test_failed_is_nothing_known(self) -> None:
        """Whoever asks for it has words for that, and a pause."""
        outlet = self.open(1)
        sending = self.send()
        outlet.handed[0][3].callback(False)
        assert self.successResultOf(sending) == {}

    def test_an_answer_that_makes_no_sense_is_doubt(self) -> None:
        outlet = self.open(1)
        for nonsense in ([[], True, "", ""], "x", [[["bounced", 1, 2, 3, 4, 5]] * 2, True, "", ""]):
            sending = self.send()
            outlet.handed[-1][3].callback(nonsense)
            outcomes = self.successResultOf(sending)
            assert {it.scope for it in outcomes.values()} == {Scope.DOUBT}
            assert len(self.flushLoggedErrors()) == 1

    def test_cancelled_here(self) -> None:
        outlet = self.open(1)
        sending = self.send()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        assert self.outbound._ways[1].busy == 0
        assert outlet.handed[0][3].called

    # --- what is noted

    def test_an_attempt(self) -> None:
        outlet = self.open(1)
        self.send(demand=Demand(Security.VERIFY, "MTA-STS"))
        self.clock.advance(1.5)
        outlet.answer(tls="TLSv1.3 X verified")
        (told,) = self.told("attempted")
        assert {name: str(value) for name, value in told.items()} == {
            **{"id": "1B", "host": "mx", "address": "at mx", "preference": "0", "seconds": "1.500"},
            **{"result": "2 delivered: 250 there", "tls": "TLSv1.3 X verified", "policy": "verify (MTA-STS)"},
        }

    def test_without_a_demand_it_is_what_is_configured(self) -> None:
        self.send(security=Security.ENCRYPT)
        (told,) = self.told("attempted")
        assert str(told["policy"]) == "encrypt"

    def test_the_result_in_few_words(self) -> None:
        no = Failed(Scope.RECIPIENT, "550 no", "5.1.1", "mx", 550)
        outlet = self.open(1)
        for outcomes, words in (
            ({ANN: THERE}, "1 delivered: 250 there"),
            ({ANN: THERE, BEN: no}, "1 delivered, 1 failed: 550 no"),
            ({}, ""),
        ):
            self.events.clear()
            self.send()
            done = Transmission(outcomes, spoke=True)
            outlet.handed[-1][3].callback(spell_transmission(done, (ANN, BEN)))
            (told,) = self.told("attempted")
            assert told["result"] == words

    def test_a_downgrade(self) -> None:
        """Whoever spoke to the host: the memory is here."""
        outlet = self.open(1)
        self.send()
        outlet.answer(tls="TLSv1.3 X verified")
        self.send()
        outlet.answer(spoke=False)  # nobody answers: that says nothing of protection
        assert self.told("downgraded") == []
        self.send()
        outlet.answer(tls="TLSv1.3 X unverified", flaw="self-signed")
        self.send()
        outlet.answer()
        falls = [(told["before"], told["now"], told["reason"]) for told in self.told("downgraded")]
        assert falls == [
            ("verified", "encrypted", "self-signed"),
            ("verified", "clear", "TLS does not come about"),
        ]

    def test_a_policy_that_is_only_tried(self) -> None:
        outlet = self.open(1)
        for tls, flaw, why in (("TLSv1.3", "expired", "expired"), ("", "", "no TLS"), ("TLSv1.3", "", "")):
            self.events.clear()
            self.send(demand=Demand(Security.MAY, "MTA-STS", is_trial=True))
            outlet.answer(tls=tls, flaw=flaw)
            assert [told["what"].rpartition(": ")[2] for told in self.told("warned")] == [why] * bool(why)

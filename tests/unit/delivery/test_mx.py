"""MX fallback as a table: what hosts say, who is asked next, and what the run ends with."""

from random import Random

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.mx import MXCourier, more_telling
from mailserver.interfaces import ICourier, ITransmitter
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Security
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.net.exchangers import Found
from mailserver.net.failings import Failings

ANN, BEN, CAT = [Recipient(Address(name, "outside.example")) for name in ("ann", "ben", "cat")]

# What hosts say. The first is what an unreachable host is.
REFUSES = Delayed(Scope.HOST, "connection refused", "4.4.1")
BUSY = Delayed(Scope.HOST, "421 busy", "4.3.2", "mx", 421)
HOST_SAYS_NO = Failed(Scope.HOST, "554 no", "5.3.2", "mx", 554)
LATER = Delayed(Scope.MESSAGE, "451 later", "4.3.0", "mx", 451)
NEVER = Failed(Scope.MESSAGE, "554 spam", "5.7.1", "mx", 554)
GREY = Delayed(Scope.RECIPIENT, "450 grey", "4.2.1", "mx", 450)
NOBODY = Failed(Scope.RECIPIENT, "550 nobody", "5.1.1", "mx", 550)
DOUBT = Delayed(Scope.DOUBT, "connection lost after the dot", "4.4.2", "mx")
TAKEN = Delivered("250 ok", "2.0.0", "mx")
UNKNOWN = Delayed(Scope.HOST, "DNS does not answer about mx20", "4.4.3")


def exchangers(count):
    return tuple(Exchanger(f"mx{n}", f"192.0.2.{n}", 25, n * 10) for n in range(1, count + 1))


class FakeFinder:
    def __init__(self, found):
        self.found = found
        self.domains = []

    async def find(self, domain):
        self.domains.append(domain)
        return self.found


@implementer(ITransmitter)
class FakeTransmitter:
    """Hosts that say what the script says: an outcome for all, one for each, or an exception."""

    def __init__(self, script):
        self.script = list(script)
        self.asked = []

    async def transmit(self, exchanger, envelope, content, recipients):
        self.asked.append((exchanger.host, tuple(recipients)))
        says = self.script[len(self.asked) - 1]
        if isinstance(says, Exception):
            raise says
        if isinstance(says, Deferred):
            return await says
        if isinstance(says, dict):
            return {recipient: says[recipient] for recipient in recipients if recipient in says}
        return dict.fromkeys(recipients, says)


def play(script, recipients=(ANN,), trouble=None, hosts=None, **options):
    """What became of the recipients, and whom the hosts were asked for."""
    transmitter = FakeTransmitter(script)
    finder = FakeFinder(Found(exchangers(len(script) if hosts is None else hosts), trouble))
    courier = MXCourier(finder, transmitter, **options)
    envelope = Envelope(QueueID("Q"), Address("a", "example.lan"), tuple(recipients), Origin(), 0.0)
    outcomes = []
    Deferred.fromCoroutine(courier.deliver(envelope, None, recipients)).addCallback(outcomes.append)
    return outcomes[0], transmitter.asked


@pytest.mark.parametrize(
    ("script", "asked", "outcome"),
    [
        ([TAKEN, TAKEN], 1, TAKEN),
        ([REFUSES, BUSY, TAKEN], 3, TAKEN),  # 10 refuses connections, 30 answers 421, 50 accepts
        ([HOST_SAYS_NO, TAKEN], 2, TAKEN),
        ([LATER, TAKEN], 2, TAKEN),
        ([GREY, TAKEN], 2, TAKEN),
        ([DOUBT, TAKEN], 1, DOUBT),  # dropped after the final dot: nobody else in this run
        ([NEVER, TAKEN], 1, NEVER),
        ([NOBODY, TAKEN], 1, NOBODY),
        ([REFUSES, NOBODY, TAKEN], 2, NOBODY),
        ([GREY, DOUBT, TAKEN], 2, DOUBT),
        # The most telling: a delay before a failure of a host …
        ([HOST_SAYS_NO, HOST_SAYS_NO], 2, HOST_SAYS_NO),
        ([HOST_SAYS_NO, REFUSES], 2, REFUSES),
        ([REFUSES, HOST_SAYS_NO], 2, REFUSES),
        # … the recipient before the message before the host …
        ([GREY, LATER, BUSY, REFUSES], 4, GREY),
        ([REFUSES, BUSY, LATER, GREY], 4, GREY),
        ([LATER, BUSY], 2, LATER),
        # … what a host said before what we found …
        ([REFUSES, BUSY], 2, BUSY),
        ([BUSY, REFUSES], 2, BUSY),
        # … and the better host.
        ([BUSY, Delayed(Scope.HOST, "421 also busy", "4.3.2", "mx", 421)], 2, BUSY),
    ],
)
def test_fallback(script, asked, outcome):
    outcomes, hosts = play(script)
    assert outcomes == {ANN: outcome}
    assert [host for host, _ in hosts] == [f"mx{n}" for n in range(1, asked + 1)]


def test_partial_acceptance_is_exact():
    script = [{ANN: TAKEN, BEN: GREY, CAT: NOBODY}, {BEN: TAKEN}]
    outcomes, asked = play(script, (ANN, BEN, CAT))
    assert outcomes == {ANN: TAKEN, BEN: TAKEN, CAT: NOBODY}
    assert asked == [("mx1", (ANN, BEN, CAT)), ("mx2", (BEN,))]


def test_partial_acceptance_with_nobody_to_ask_next():
    outcomes, _ = play([{ANN: TAKEN, BEN: GREY, CAT: NOBODY}], (ANN, BEN, CAT))
    assert outcomes == {ANN: TAKEN, BEN: GREY, CAT: NOBODY}


@pytest.mark.parametrize(
    "trouble",
    [
        Failed(Scope.RECIPIENT, "null MX", "5.1.10"),
        Failed(Scope.RECIPIENT, "we are the MX", "5.4.6"),
        Delayed(Scope.HOST, "SERVFAIL", "4.4.3"),
    ],
)
def test_nobody_to_ask(trouble):
    outcomes, asked = play([], (ANN, BEN), trouble)
    assert outcomes == {ANN: trouble, BEN: trouble}
    assert asked == []


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([TAKEN], TAKEN),
        ([NOBODY], NOBODY),
        ([HOST_SAYS_NO], UNKNOWN),  # the host DNS did not answer about may yet take it
        ([BUSY], BUSY),
        ([GREY], GREY),
        ([DOUBT], DOUBT),
    ],
)
def test_a_host_that_dns_did_not_answer_about(script, outcome):
    outcomes, _ = play(script, trouble=UNKNOWN)
    assert outcomes == {ANN: outcome}


def test_not_more_than_so_many_addresses():
    outcomes, asked = play([REFUSES] * 50)
    assert len(asked) == 10
    assert outcomes == {ANN: REFUSES}
    assert len(play([REFUSES] * 50, most=3)[1]) == 3


def test_a_transmitter_that_answers_for_some_only():
    outcomes, asked = play([{ANN: TAKEN}, TAKEN], (ANN, BEN))
    assert outcomes == {ANN: TAKEN, BEN: TAKEN}
    assert asked[1] == ("mx2", (BEN,))


def test_more_telling_is_a_matter_of_the_table_whatever_the_order_but_for_ties():
    chance = Random(3)
    answers = [HOST_SAYS_NO, REFUSES, BUSY, LATER, GREY]
    for _ in range(50):
        said = chance.sample(answers, chance.randint(1, len(answers)))
        told = None
        for answer in said:
            told = more_telling(told, answer)
        assert told == max(said, key=answers.index)


class CourierTest(SynchronousTestCase):
    def test_keeps_its_interface(self):
        assert verifyObject(ICourier, MXCourier(FakeFinder(Found()), FakeTransmitter([])))

    def test_a_bug_in_the_transmitter_is_logged_and_the_next_host_asked(self):
        outcomes, _ = play([ValueError("bug"), TAKEN])
        assert outcomes == {ANN: TAKEN}
        outcomes, _ = play([ValueError("bug")])
        assert outcomes == {ANN: Delayed(Scope.HOST, "internal trouble", "4.3.0", "mx1")}
        assert len(self.flushLoggedErrors(ValueError)) == 2

    def test_each_domain_is_a_transaction_of_its_own(self):
        other = Recipient(Address("dan", "other.example"))
        outcomes, asked = play([TAKEN, TAKEN], (ANN, other, BEN))
        assert outcomes == {ANN: TAKEN, BEN: TAKEN, other: TAKEN}
        assert asked == [("mx1", (other,)), ("mx1", (ANN, BEN))] or asked == [
            ("mx1", (ANN, BEN)),
            ("mx1", (other,)),
        ]

    def test_cancelling_ends_it(self):
        transmitter = FakeTransmitter([Deferred(), TAKEN])
        courier = MXCourier(FakeFinder(Found(exchangers(2))), transmitter)
        envelope = Envelope(QueueID("Q"), Address("a", "example.lan"), (ANN,), Origin(), 0.0)
        running = Deferred.fromCoroutine(courier.deliver(envelope, None, [ANN]))
        running.cancel()
        self.failureResultOf(running, CancelledError)
        assert len(transmitter.asked) == 1


def test_a_host_that_was_silent_goes_last_for_the_next_message():
    failings = Failings(lambda: 0.0)
    assert [host for host, _ in play([REFUSES, TAKEN], failings=failings)[1]] == ["mx1", "mx2"]
    assert [host for host, _ in play([TAKEN, TAKEN], failings=failings)[1]] == ["mx2"]


def test_what_nobody_knows_leaves_a_host_where_it_is():
    """As when the process died that spoke to it."""
    failings = Failings(lambda: 0.0)
    play([REFUSES, TAKEN], failings=failings)
    died = Delayed(Scope.DOUBT, "the process ended", "4.3.2")
    play([died], failings=failings, hosts=1)
    assert [host for host, _ in play([TAKEN, TAKEN], failings=failings)[1]] == ["mx2"]


def test_broken_off_at_the_second_host_what_the_first_said_counts():
    outcomes, asked = play([{ANN: TAKEN, BEN: GREY}, CancelledError()], (ANN, BEN))
    assert outcomes == {ANN: TAKEN, BEN: GREY}
    assert len(asked) == 2


def test_a_host_that_spoke_keeps_its_place():
    failings = Failings(lambda: 0.0)
    for says in (BUSY, GREY, HOST_SAYS_NO):
        assert [host for host, _ in play([says, TAKEN], failings=failings)[1]] == ["mx1", "mx2"]


class FakeAssurance:
    """Demands by host; what is no demand passes the host over."""

    def __init__(self, **demands):
        self.demands = demands
        self.asked = []

    async def demand(self, domain, exchanger, requiretls):
        self.asked.append((domain, exchanger.host, requiretls))
        return self.demands.get(exchanger.host, Demand())


def test_a_host_that_cannot_be_what_is_demanded_is_passed_over():
    bogus = Delayed(Scope.HOST, "DNS does not answer whether there are TLSA records", "4.4.3", "mx1")
    assurance = FakeAssurance(mx1=bogus, mx2=Demand(Security.VERIFY, "MTA-STS"))
    outcomes, asked = play([TAKEN], hosts=2, assurance=assurance)
    assert outcomes == {ANN: TAKEN}
    assert [host for host, _ in asked] == ["mx2"]
    assert assurance.asked == [("outside.example", "mx1", False), ("outside.example", "mx2", False)]
    outcomes, asked = play([], hosts=1, assurance=assurance)
    assert (outcomes, asked) == ({ANN: bogus}, [])

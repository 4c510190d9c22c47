"""Usage: rates at RCPT, first-time recipients, marks, letters to postmaster, and who used the relay."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailserver.access.acquaintances import Acquaintances
from mailserver.access.devices import Devices
from mailserver.access.profiles import Allowance, Over
from mailserver.access.rates import RateRules, Rates
from mailserver.interfaces import StorageFull, Verdict
from mailserver.model.envelope import Origin
from mailserver.model.reply import TOO_MUCH_450, TOO_MUCH_550
from mailserver.model.source import Source
from mailserver.smtp.alarm import Alarm
from mailserver.smtp.reception import Reception, Refused
from mailserver.smtp.usage import Usage
from mailserver.threads import Pool
from tests.support.fakes import address
from tests.support.reception import ARRIVAL, Premises

LINE = Source("mailserver.toml", 30)
ALICE = Origin("192.0.2.99", login="alice@example.lan", tls="TLSv1.3 X")
NEIGHBOUR = Origin("192.168.1.7", 40000, "printer", "SMTP")


class Told(list[tuple[Origin, Verdict]]):
    def __call__(self, origin: Origin, verdict: Verdict) -> None:
        self.append((origin, verdict))


def begin(premises: Premises, origin: Origin, sender: str = "alice@example.lan") -> Reception:
    reception = premises.office.getMessageDelivery()
    assert reception.validateFrom(origin, address(sender)) is None
    return reception


async def send(premises: Premises, origin: Origin, *recipients: str) -> None:
    reception = begin(premises, origin)
    for recipient in recipients:
        waiting = reception.validateTo(address(recipient))
        if waiting is not None:
            await waiting
    message = reception.message()
    waiting = message.write(b"From: <alice@example.lan>\r\n\r\n")
    reply = await message.eomReceived()
    assert reply.code == 250, reply


def sent(premises: Premises, origin: Origin, *recipients: str) -> None:
    SynchronousTestCase().successResultOf(Deferred.fromCoroutine(send(premises, origin, *recipients)))


def holds(premises: Premises) -> list[str]:
    return [envelope.marks.get("hold", "") for envelope, _ in premises.spool.messages]


@pytest.fixture
def premises() -> Iterator[Premises]:
    return Premises()


def limited(premises: Premises, **rates: Any) -> Told:
    told = Told()
    premises.office.rules = evolve(premises.office.rules, rates=RateRules(source=LINE, **rates))
    premises.office.usage = Usage(Rates(premises.clock.seconds), alarm=told)
    return told


@pytest.mark.parametrize(("over", "reply"), [(Over.DELAY, TOO_MUCH_450), (Over.REFUSE, TOO_MUCH_550)])
def test_a_user_over_the_rate(premises: Premises, over: Over, reply: object) -> None:
    told = limited(premises, user=Allowance(1, 0, over, LINE))
    sent(premises, ALICE, "bob@example.lan", "friend@elsewhere.example")
    with pytest.raises(Refused) as refused:
        begin(premises, ALICE).validateTo(address("bob@example.lan"))
    assert refused.value.reply == reply
    sent(premises, NEIGHBOUR, "bob@example.lan")
    assert not told


def test_an_address_over_its_recipients(premises: Premises) -> None:
    limited(premises, address=Allowance(0, 2, Over.DELAY, LINE))
    reception = begin(premises, NEIGHBOUR)
    reception.validateTo(address("bob@example.lan"))
    reception.validateTo(address("friend@elsewhere.example"))
    with pytest.raises(Refused) as refused:
        reception.validateTo(address("carol@example.lan"))
    assert refused.value.reply == TOO_MUCH_450
    assert len(reception.recipients) == 2


def test_who_is_refused_for_another_reason_is_not_counted(premises: Premises) -> None:
    limited(premises, address=Allowance(1, 1, Over.DELAY, LINE))
    reception = begin(premises, Origin("192.0.2.99"))
    for _ in range(5):
        with pytest.raises(Refused):
            reception.validateTo(address("friend@elsewhere.example"))
    reception.validateTo(address("bob@example.lan"))


def test_held_mail_is_marked_and_told_once(premises: Premises) -> None:
    told = limited(premises, user=Allowance(1, 0, Over.HOLD, LINE))
    for _ in range(3):
        sent(premises, ALICE, "bob@example.lan")
    reason = "user alice@example.lan: over 1 messages an hour"
    assert holds(premises) == ["", reason, reason]
    assert [(origin, verdict.reason, verdict.source) for origin, verdict in told] == [(ALICE, reason, LINE)]


class AcquaintanceTests(TestCase):
    def setUp(self) -> None:
        self.premises = Premises()
        self.told = Told()
        self.pool = Pool("test", 1, reactor.callFromThread)  # type: ignore[attr-defined]
        self.pool.start()
        self.store = Acquaintances(Path(self.mktemp()))
        self.addCleanup(self.pool.stop)
        self.now = 1000.0
        self.meet_with(self.meet)
        self.premises.office.rules = evolve(
            self.premises.office.rules, rates=RateRules(first_time=3, source=LINE)
        )

    def meet_with(self, meet: Any) -> None:
        rates = Rates(self.premises.clock.seconds)
        self.premises.office.usage = Usage(rates, meet, None, self.told, lambda: self.now)

    async def meet(self, *arguments: Any) -> bool:
        return await self.pool.run(self.store.meet, *arguments)

    async def test_many_new_recipients_are_held_not_bounced(self) -> None:
        old = ["a@x.example", "b@x.example", "c@x.example"]
        await send(self.premises, ALICE, *old)
        await send(self.premises, ALICE, *old)
        await send(self.premises, ALICE, "d@x.example", *old)
        await send(self.premises, ALICE, "e@x.example")
        reason = "alice@example.lan: over 3 first-time recipients a day"
        assert holds(self.premises) == ["", "", reason, reason]
        assert [verdict.source for _, verdict in self.told] == [LINE]
        self.now += 86401.0
        await send(self.premises, ALICE, "d@x.example")
        assert holds(self.premises)[-1] == ""
        await self.pool.run(self.store.close)

    async def test_machines_of_the_lan_are_not_asked(self) -> None:
        await send(self.premises, NEIGHBOUR, *(f"r{n}@x.example" for n in range(10)))
        assert holds(self.premises) == [""]

    async def test_a_store_that_fails_holds_nobody(self) -> None:
        async def broken(*_: Any) -> bool:
            raise sqlite3.OperationalError("disk I/O error")

        self.meet_with(broken)
        await send(self.premises, ALICE, "a@x.example")
        assert holds(self.premises) == [""]

    async def test_a_client_that_goes_away_is_no_failure(self) -> None:
        never: Deferred[bool] = Deferred()

        async def slow(*_: Any) -> bool:
            return await never

        self.meet_with(slow)
        reception = begin(self.premises, ALICE)
        waiting = reception.validateTo(address("a@x.example"))
        assert waiting is not None
        running = Deferred.fromCoroutine(waiting)  # type: ignore[arg-type]
        running.cancel()
        self.failureResultOf(running)


def test_devices(premises: Premises) -> None:
    devices = Devices(Path("nowhere"), Pool("none", 1, lambda *_: None), premises.clock, lambda: ARRIVAL)
    premises.office.usage = Usage(Rates(premises.clock.seconds), devices=devices)
    sent(premises, NEIGHBOUR, "bob@example.lan", "friend@elsewhere.example")
    sent(premises, Origin("192.0.2.99"), "bob@example.lan")
    with pytest.raises(Refused):
        begin(premises, NEIGHBOUR).validateTo(address("nobody@example.lan"))
    (device,) = devices.list()
    assert (device.address, device.network, device.helo) == ("192.168.1.7", "192.168.1.0/24", "printer")
    assert (device.messages, device.recipients) == (1, 2)
    assert device.error == "RCPT <nobody@example.lan>: no user nobody@example.lan in a domain hosted here"


def test_the_letter_to_postmaster(premises: Premises) -> None:
    alarm = Alarm("mail.example.lan", premises.directory, premises.spool, lambda: ARRIVAL)
    evil = Origin("192.0.2.99", login='j\u00f6rg\r\nBcc: x@example.lan"')
    alarm.sound(evil, Verdict(False, "over 1 messages an hour", LINE))
    ((envelope, content),) = premises.spool.messages
    assert envelope.sender.is_null
    assert [str(it.address) for it in envelope.recipients] == ["postmaster"]
    assert b'Subject: Mail is held: j?rg??Bcc: x@example.lan"\r\n' in content
    assert b"rule: mailserver.toml:30\r\n" in content
    assert content.count(b"\n") == content.count(b"\r\n")
    assert not any("hold" in mail.marks for mail, _ in premises.spool.messages)


def test_a_letter_that_finds_no_room_is_no_failure(premises: Premises) -> None:
    premises.spool.trouble = StorageFull("no room")
    Alarm("mail.example.lan", premises.directory, premises.spool, lambda: ARRIVAL).sound(
        ALICE, Verdict(False, "too much")
    )

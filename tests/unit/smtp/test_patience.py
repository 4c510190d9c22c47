"""What a session is borne with: guesses at names, talk before the greeting, too many connections."""

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.address import IPv4Address

from mailserver.access.connections import ConnectionRules, Connections
from mailserver.smtp.patience import Patience
from tests.support.dialogue import MemoryWire
from tests.support.reception import Premises

TURNED_AWAY = b"421 4.7.0 Too many connections, try again later\r\n"


def connect(premises: Premises, client: str = "") -> MemoryWire:
    return MemoryWire(premises.factory.buildProtocol(None), client or premises.client)


def guess(wire: MemoryWire, number: int) -> bytes:
    wire.send(b"RCPT TO:<nobody%d@example.lan>\r\n" % number)
    return wire.rest(False)


def begin(wire: MemoryWire) -> None:
    wire.send(b"EHLO client.example\r\nMAIL FROM:<x@y.example>\r\n")
    wire.rest(False)


@pytest.mark.parametrize(
    ("most", "delays"), [(10, [0, 0, 1, 2, 4, 8, 16, 16]), (0, [0, 0, 0, 0, 0, 0, 0, 0])]
)
def test_guesses_cost_ever_more(most: int, delays: list[float]) -> None:
    patience = Patience(most)
    assert [patience.unknown() for _ in delays] == delays
    assert not patience.ends


def test_a_message_forgives_waste_and_no_guesses() -> None:
    patience = Patience(1)
    assert [patience.wasted() for _ in range(101)] == [False] * 99 + [True] * 2
    assert patience.ends == "too many commands and no message"
    patience.worked()
    patience.wasted()
    assert not patience.ends
    patience.unknown()
    patience.worked()
    assert patience.ends == "too many unknown recipients"


def test_a_harvester_is_slowed_down_and_then_sent_away() -> None:
    premises = Premises({"unknown": "5"})
    wire = connect(premises)
    begin(wire)
    assert guess(wire, 1).startswith(b"550 5.1.1")
    assert guess(wire, 2).startswith(b"550 5.1.1")
    for seconds in (1, 2):
        assert guess(wire, 3) == b""
        premises.clock.advance(seconds - 0.01)
        assert wire.rest(False) == b""
        premises.clock.advance(0.02)
        assert wire.rest(False) == b"550 5.1.1 No such user here\r\n"
    assert guess(wire, 5) == b""
    premises.clock.advance(4)
    assert wire.rest(False) == (
        b"550 5.1.1 No such user here\r\n421 4.7.0 Too many errors, closing connection\r\n"
    )
    assert wire.is_closed()
    wire.drop()
    assert not premises.clock.getDelayedCalls()


def test_what_was_pipelined_behind_a_guess_waits() -> None:
    premises = Premises({"unknown": "10"})
    wire = connect(premises)
    begin(wire)
    wire.send(
        b"".join(b"RCPT TO:<n%d@example.lan>\r\n" % n for n in range(3)) + b"RCPT TO:<alice@example.lan>\r\n"
    )
    assert wire.rest(False).count(b"550") == 2
    premises.clock.advance(1)
    assert wire.rest(False) == b"550 5.1.1 No such user here\r\n250 2.1.5 Recipient ok\r\n"
    wire.drop()


def test_a_harvester_that_goes_away_leaves_nothing() -> None:
    premises = Premises({"unknown": "10"})
    wire = connect(premises)
    begin(wire)
    for number in range(3):
        guess(wire, number)
    wire.drop()
    assert not premises.clock.getDelayedCalls()


def delayed(**settings: str) -> Premises:
    premises = Premises(settings)
    premises.office.rules = evolve(premises.office.rules, greeting_delay=6.0)
    return premises


def test_the_greeting_waits() -> None:
    premises = delayed()
    wire = connect(premises)
    premises.clock.advance(5.9)
    assert wire.rest(False) == b""
    premises.clock.advance(0.2)
    assert wire.rest(False) == b"220 mail.example.lan ESMTP\r\n"
    wire.send(b"NOOP\r\n")
    assert wire.rest(False) == b"250 2.0.0 Ok\r\n"
    wire.drop()


@pytest.mark.parametrize("early", [b"E", b"EHLO x\r\n", b"\0" * 100])
def test_early_talkers_are_turned_away(early: bytes) -> None:
    premises = delayed()
    wire = connect(premises)
    wire.send(early)
    assert wire.rest(False) == b"554 5.5.1 Spoke before the greeting\r\n"
    assert wire.is_closed()
    wire.drop()
    assert not premises.clock.getDelayedCalls()


def test_listed_networks_and_submission_do_not_wait() -> None:
    assert connect(delayed(relay="yes")).rest(False).startswith(b"220 ")
    premises = delayed()
    premises.factory.service = "submission"
    assert connect(premises).rest(False).startswith(b"220 ")


def test_gone_before_the_greeting() -> None:
    premises = delayed()
    wire = connect(premises)
    wire.drop()
    assert not premises.clock.getDelayedCalls()


def test_too_many_connections() -> None:
    premises = Premises()
    premises.factory.connections = Connections(ConnectionRules(5, 2))
    wires: list[Any] = [connect(premises, "192.0.2.1") for _ in range(3)]
    assert [wire.rest(False)[:3] for wire in wires] == [b"220", b"220", b"421"]
    assert wires[2].is_closed()
    others = [connect(premises, f"192.0.2.{number}") for number in range(2, 6)]
    said = [wire.rest(False) for wire in others]
    assert [it[:3] for it in said] == [b"220", b"220", b"220", b"421"]
    assert said[-1] == TURNED_AWAY
    for wire in (*wires, *others):
        wire.drop()
    assert len(premises.factory.connections) == 0
    assert not premises.clock.getDelayedCalls()
    assert not premises.factory.sessions
    assert connect(premises, "192.0.2.1").rest(False).startswith(b"220")


def test_what_one_who_was_turned_away_says_is_not_looked_at() -> None:
    premises = Premises()
    premises.factory.connections = Connections(ConnectionRules(0, 1))
    first, second = connect(premises), connect(premises)
    second.protocol.dataReceived(b"EHLO x\r\nMAIL FROM:<>\r\n")
    assert second.rest(False) == TURNED_AWAY
    first.drop()
    second.drop()


def test_the_client_is_whom_the_factory_was_told() -> None:
    premises = Premises()
    connections = premises.factory.connections = Connections(ConnectionRules(0, 1))
    behind_a_proxy = premises.factory.buildProtocol(IPv4Address("TCP", "198.51.100.7", 4))
    wire = MemoryWire(behind_a_proxy, "127.0.0.1")
    assert not connections.admit("198.51.100.7").allowed
    wire.drop()
    assert connections.admit("198.51.100.7").allowed

"""What a worker tells its parent of clients of the relay: numbers, once a second, and refusals as they happen."""

from typing import Any

from attrs import frozen
from twisted.internet.task import Clock

from mailserver.access.profiles import Profile
from mailserver.model.envelope import Origin
from mailserver.workers.asking import Answering, Asking
from mailserver.workers.channel import Channel

COPIER, PRINTER = Origin("10.0.0.7", helo="copier"), Origin("10.0.0.8", helo="printer")
LAN = Profile("lan", "office")


class Mentioned(Channel):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.said: list[list[Any]] = []

    def mention(self, kind: str, *facts: Any) -> None:
        self.said.append([kind, *facts])


def asking() -> tuple[Asking, Clock, list[list[Any]]]:
    clock = Clock()
    channel = Mentioned(clock)
    return Asking(channel, clock), clock, channel.said


def test_what_a_second_brings_is_added_up() -> None:
    it, clock, said = asking()
    it.sent(COPIER, LAN, 2)
    it.sent(PRINTER, LAN, 1)
    clock.advance(0.9)
    it.sent(COPIER, LAN, 3)
    assert said == []
    clock.advance(0.1)
    assert said == [
        ["device", "10.0.0.7", "copier", "lan", "office", 2, 5, ""],
        ["device", "10.0.0.8", "printer", "lan", "office", 1, 1, ""],
    ]
    clock.advance(5)
    assert len(said) == 2
    it.sent(COPIER, LAN, 1)
    clock.advance(1)
    assert said[2:] == [["device", "10.0.0.7", "copier", "lan", "office", 1, 1, ""]]


def test_a_refusal_comes_after_what_was_sent_before_it() -> None:
    it, clock, said = asking()
    it.sent(COPIER, LAN, 1)
    it.refused(COPIER, LAN, "RCPT <x@y>: no")
    assert said == [
        ["device", "10.0.0.7", "copier", "lan", "office", 1, 1, ""],
        ["device", "10.0.0.7", "copier", "lan", "office", 0, 0, "RCPT <x@y>: no"],
    ]
    assert not clock.getDelayedCalls()


def test_the_parent_counts_all_of_them() -> None:
    devices = Counting()
    heard = Answering(LedgerOf(devices), lambda *said: None).heard()  # type: ignore[arg-type]
    heard["device"]("10.0.0.7", "copier", "lan", "office", 3, 5, "")
    heard["device"]("10.0.0.7", "copier", "lan", "office", 0, 0, "no")
    assert devices.told == [("10.0.0.7", "copier", "lan", "office", 5, 3), ("10.0.0.7", "no")]


class Counting:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def sent(self, origin: Origin, profile: Profile, recipients: int, messages: int = 1) -> None:
        self.told.append((origin.address, origin.helo, profile.name, profile.owner, recipients, messages))

    def refused(self, origin: Origin, profile: Profile, error: str) -> None:
        self.told.append((origin.address, error))


@frozen
class LedgerOf:
    devices: Counting


def test_at_the_end_all_is_told() -> None:
    it, clock, said = asking()
    it.sent(COPIER, LAN, 1)
    it.tell()
    it.tell()
    assert len(said) == 1
    assert not clock.getDelayedCalls()

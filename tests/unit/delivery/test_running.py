"""What becomes of a program that cannot be ended; the others are real (test_program)."""

import os
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailserver.delivery.couriers.running import run
from tests.support.fakequeue import BytesContent


class Obstinate:
    """A spawner, and its process, which has become another user's."""

    pid = 4_000_000

    def spawnProcess(self, protocol: Any, *arguments: object, **options: object) -> None:
        self.was_left = False
        protocol.makeConnection(self)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """It reads nothing, and so never has to say that it can take no more."""

    unregisterProducer = closeStdin = lambda self: None

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """See above."""

    def loseConnection(self) -> None:
        self.was_left = True


def test_who_cannot_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = []

    def refuse(group: int, number: int) -> None:
        signals.append((group, number))
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    clock, spawner = Clock(), Obstinate()
    message = (b"Return-Path: <>\r\n", BytesContent(b"Subject: x\r\n\r\n"))
    running = Deferred.fromCoroutine(run(spawner, clock, ["true"], {}, message, 10.0))  # type: ignore[arg-type]
    clock.pump([10.0, 5.0])
    assert len(signals) == 2
    assert not running.called
    clock.advance(5.0)
    ended: list[Any] = []
    running.addCallback(ended.append)
    assert ended[0].late
    assert spawner.was_left
    assert not clock.getDelayedCalls()

"""Work is handed over a socket to a reactor, done side by side, and answered; either end may go."""

import struct
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from mailserver.handing import MOST_OCTETS, Outlet, way
from mailserver.interfaces import StorageTrouble
from mailserver.taking import Intake

reactor: Any = installed
MEGABYTE = b"x" * 1024 * 1024


class TakingTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.begun: list[tuple[Any, bytes]] = []
        self.gates: dict[Any, Deferred[Any]] = {}
        self.broken_off: list[Any] = []
        inner, outer = way()
        self.intake = Intake(reactor, inner, self.perform)
        self.outlet = Outlet(reactor, outer)
        self.addCleanup(self.outlet.close)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.intake.stop(0)))

    async def perform(self, facts: Any, octets: bytes) -> Any:
        self.begun.append((facts, octets))
        try:
            if facts in self.gates:
                return await self.gates[facts]
        except CancelledError:
            self.broken_off.append(facts)
            raise
        if facts == "bug":
            raise KeyError(facts)
        return [facts, len(octets)]

    async def turn(self, until: Any = lambda: True) -> None:
        while True:
            turned: Deferred[None] = Deferred()
            reactor.callLater(0.001, turned.callback, None)
            await turned
            if until():
                return

    def ask(self, facts: Any, octets: bytes = b"") -> "Deferred[Any]":
        """Hand over work that waits for its gate."""
        self.gates[facts] = Deferred()
        return self.outlet.hand_over(facts, octets)

    async def test_it_is_done_and_answered(self) -> None:
        assert await self.outlet.hand_over("one", b"octets") == ["one", 6]
        assert await self.outlet.hand_over(("two", None), b"") == [("two", None), 0]

    async def test_side_by_side_and_answered_as_they_end(self) -> None:
        first, second = self.ask("first"), self.ask("second")
        await self.turn(lambda: len(self.begun) == 2)
        self.gates["second"].callback("ended")
        assert await second == "ended"
        assert not first.called
        self.gates["first"].callback("ended too")
        assert await first == "ended too"

    async def test_answers_of_one_turn_leave_together(self) -> None:
        sent = []
        answer = self.intake._inlet.answer
        self.intake._inlet.answer = lambda answers: sent.append(len(answers)) or answer(answers)  # type: ignore
        asked = [self.outlet.hand_over(n, b"") for n in range(50)]
        for n, one in enumerate(asked):
            assert await one == [n, 0]
        assert (sum(sent), len(sent) < 10) == (50, True)

    async def test_more_than_a_socket_holds(self) -> None:
        asked = [self.outlet.hand_over(n, MEGABYTE) for n in range(8)]
        for n, one in enumerate(asked):
            assert await one == [n, len(MEGABYTE)]

    async def test_answers_wait_for_room(self) -> None:
        """The other end does not read for a while; then all come, in order."""
        reactor.removeReader(self.outlet)
        asked = [self.ask(n) for n in range(20)]
        await self.turn(lambda: len(self.begun) == 20)
        for n in range(18):
            self.gates[n].callback(b"y" * 50_000)
        await self.turn(lambda: self.intake._inlet.is_blocked)
        reactor.addReader(self.outlet)
        for n in range(18):
            assert len(await asked[n]) == 50_000
        await self.turn(lambda: not self.intake._inlet.is_blocked)
        for n in (18, 19):
            self.gates[n].callback(n)
            assert await asked[n] == n

    async def test_who_lets_megabytes_of_answers_lie_is_given_up(self) -> None:
        reactor.removeReader(self.outlet)
        asked = [self.ask(n) for n in range(3)]
        await self.turn(lambda: len(self.begun) == 3)
        for n in range(2):
            self.gates[n].callback(MEGABYTE * 2)
            await self.turn()
        await self.turn(lambda: self.broken_off == [2])
        reactor.addReader(self.outlet)
        for one in asked:
            with pytest.raises(StorageTrouble):
                await one

    async def test_a_bug_is_told_and_answered(self) -> None:
        assert await self.outlet.hand_over("bug", b"") is False
        assert len(self.flushLoggedErrors(KeyError)) == 1
        assert await self.outlet.hand_over("next", b"") == ["next", 0]

    async def test_an_answer_that_cannot_be_spelled_closes_it(self) -> None:
        asked = [self.ask("one"), self.ask("two")]
        await self.turn(lambda: len(self.begun) == 2)
        self.gates["one"].callback(object())
        with pytest.raises(StorageTrouble):
            await asked[0]
        with pytest.raises(StorageTrouble):
            await asked[1]
        assert len(self.flushLoggedErrors(ValueError)) == 1

    async def test_what_is_no_frame_closes_it(self) -> None:
        waiting = self.ask("one")
        await self.turn(lambda: len(self.begun) == 1)
        self.outlet._handle.send(struct.pack("!II", MOST_OCTETS, MOST_OCTETS))
        lost = self.outlet.hand_over("behind it", b"")
        await self.turn()
        self.gates["one"].callback("ended")
        assert await waiting == "ended"
        with pytest.raises(StorageTrouble):
            await lost
        assert len(self.begun) == 1

    async def test_the_other_end_dies(self) -> None:
        """Nobody can be told any more what comes of it: work goes on, for it may be half said."""
        waiting = self.ask("one")
        await self.turn(lambda: len(self.begun) == 1)
        self.outlet.close()
        with pytest.raises(StorageTrouble):
            await waiting
        stopping = Deferred.fromCoroutine(self.intake.stop(30))
        await self.turn()
        assert not stopping.called
        self.gates["one"].callback("ended")
        await stopping

    # --- the end

    async def test_the_other_end_finishes(self) -> None:
        """All that was handed over is done and answered; then both are closed."""
        closed: list[bool] = []
        self.outlet.closed = lambda: closed.append(True)
        large = self.ask("large", MEGABYTE * 4)
        small = self.ask("small")
        self.outlet.finish()
        with pytest.raises(StorageTrouble):
            await self.outlet.hand_over("late", b"")
        stopping = Deferred.fromCoroutine(self.intake.stop(30))
        await self.turn(lambda: len(self.begun) == 2)
        self.gates["large"].callback("l")
        assert await large == "l"
        assert not stopping.called
        self.gates["small"].callback("s")
        assert await small == "s"
        await stopping
        await self.turn(lambda: closed == [True])

    async def test_finished_with_nothing_under_way(self) -> None:
        await self.outlet.hand_over("one", b"")
        self.outlet.finish()
        await self.intake.stop(30)

    async def test_what_takes_too_long_is_broken_off_and_answered_for(self) -> None:
        waiting = self.ask("one")
        await self.turn(lambda: len(self.begun) == 1)
        self.outlet.finish()
        stopping = Deferred.fromCoroutine(self.intake.stop(0.05))
        assert await waiting is None
        assert self.broken_off == ["one"]
        await stopping

    async def test_stopped_while_the_other_end_goes_on(self) -> None:
        """Who never finishes waits for no longer than the grace."""
        assert await self.outlet.hand_over("one", b"") == ["one", 0]
        await self.intake.stop(0.05)
        with pytest.raises(StorageTrouble):
            await self.outlet.hand_over("two", b"")
        await self.intake.stop(0.05)

    def test_a_closed_one_has_no_descriptor(self) -> None:
        self.intake.connectionLost()
        assert self.intake.fileno() == -1
        assert self.intake.logPrefix() == "intake"
        self.intake.connectionLost()

"""Many deadlines, one timer."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailserver.net.deadlines import Deadlines


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.passed: list[str] = []

    def after(self, seconds: float, name: str) -> object:
        return self.deadlines.after(seconds, lambda: self.passed.append(name))

    def test_each_passes_at_its_time(self) -> None:
        for name, seconds in (("c", 3), ("a", 1), ("d", 3.5), ("b", 2)):
            self.after(seconds, name)
            assert len(self.clock.getDelayedCalls()) == 1
        for seconds, passed in ((0.9, ""), (0.2, "a"), (0.9, "ab"), (1.0, "abc"), (1.0, "abcd")):
            self.clock.advance(seconds)
            assert "".join(self.passed) == passed
        assert not self.clock.getDelayedCalls()

    def test_what_is_cancelled_does_not_pass(self) -> None:
        first, second = (self.deadlines.after(1, lambda: self.passed.append("never")) for _ in range(2))
        self.after(2, "b")
        self.deadlines.cancel(first)
        self.clock.advance(0.5)
        self.deadlines.cancel(second)
        self.clock.advance(2)
        self.deadlines.cancel(second)
        assert self.passed == ["b"]
        assert not self.clock.getDelayedCalls()

    def test_without_any_there_is_no_timer(self) -> None:
        waiting = [self.deadlines.after(1, self.fail) for _ in range(3)]
        for deadline in waiting:
            assert self.clock.getDelayedCalls()
            self.deadlines.cancel(deadline)
        assert not self.clock.getDelayedCalls()
        assert len(self.deadlines) == 0

    def test_what_is_called_may_ask_for_more_and_cancel(self) -> None:
        def call() -> None:
            self.passed.append("a")
            self.deadlines.cancel(doomed)
            self.after(0, "b")
            self.after(1, "c")

        self.deadlines.after(1, call)
        doomed = self.deadlines.after(1, lambda: self.passed.append("never"))
        self.clock.pump([1, 0, 1])
        assert self.passed == ["a", "b", "c"]
        assert not self.clock.getDelayedCalls()

    def test_one_that_breaks_does_not_hold_up_the_others(self) -> None:
        def broken() -> None:
            raise ZeroDivisionError

        self.deadlines.after(1, broken)
        self.after(1, "b")
        self.after(2, "c")
        self.clock.pump([1, 1])
        assert self.passed == ["b", "c"]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_many_that_are_cancelled_are_forgotten(self) -> None:
        self.after(500, "last")
        for _ in range(10_000):
            self.deadlines.cancel(self.deadlines.after(300, self.fail))
        assert len(self.deadlines._heap) < 100
        self.clock.advance(500)
        assert self.passed == ["last"]

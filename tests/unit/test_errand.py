"""A coroutine that is seen through: its end is told once, and what it waits for can be cancelled."""

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from mailserver.errand import Errand


def begun(coroutine: Coroutine[Any, Any, object]) -> tuple[Errand, list[Any]]:
    """An errand, and what has been told of its end."""
    ends: list[Any] = []
    errand = Errand(coroutine, ends.append)
    errand.begin()
    return errand, ends


async def adding(*terms: "Deferred[int]") -> int:
    total = 0
    for term in terms:
        total += await term
    return total


def test_what_need_not_wait_ends_at_once() -> None:
    assert begun(adding())[1] == [0]
    assert begun(adding(succeed(1), succeed(2)))[1] == [3]


def test_it_waits_for_one_after_the_other() -> None:
    one: Deferred[int] = Deferred()
    two: Deferred[int] = Deferred()
    _, ends = begun(adding(one, succeed(10), two))
    one.callback(1)
    assert ends == []
    two.callback(100)
    assert ends == [111]


def test_what_has_come_meanwhile_need_not_be_waited_for() -> None:
    one: Deferred[int] = Deferred()
    two: Deferred[int] = Deferred()
    _, ends = begun(adding(one, two))
    two.callback(2)
    one.callback(1)
    assert ends == [3]


def test_a_failure_is_raised_where_it_was_waited_for() -> None:
    broken: Deferred[int] = Deferred()

    async def careful() -> str:
        try:
            await broken
        except ZeroDivisionError as error:
            return f"caught {error}"
        return "nothing"

    _, ends = begun(careful())
    broken.errback(ZeroDivisionError("it"))
    assert ends == ["caught it"]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_it_raises_is_told_as_a_failure(at_once: bool) -> None:
    broken: Deferred[int] = fail(ZeroDivisionError()) if at_once else Deferred()
    _, ends = begun(adding(succeed(1), broken))
    if not at_once:
        broken.errback(ZeroDivisionError())
    (failure,) = ends
    assert isinstance(failure, Failure)
    assert failure.check(ZeroDivisionError)


def test_who_cancels_it_cancels_what_it_waits_for() -> None:
    cancelled: list[object] = []
    waiting: Deferred[int] = Deferred(cancelled.append)
    errand, ends = begun(adding(succeed(1), waiting))
    errand.cancel()
    assert cancelled == [waiting]
    (failure,) = ends
    assert failure.check(CancelledError)
    errand.cancel()
    assert len(ends) == 1


def test_what_does_not_let_itself_be_cancelled_goes_on() -> None:
    asked: list[object] = []

    async def stubborn() -> str:
        try:
            await Deferred(asked.append)
        except CancelledError:
            return await Deferred(lambda it: it.callback("done all the same"))
        return "nothing"

    errand, ends = begun(stubborn())
    errand.cancel()
    assert ends == []
    errand.cancel()
    assert ends == ["done all the same"]


@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, SystemExit])
def test_whatever_it_raises_is_told(kind: type[BaseException]) -> None:
    waiting: Deferred[int] = Deferred()

    async def ending() -> None:
        await waiting
        raise kind

    _, ends = begun(ending())
    waiting.callback(1)
    (failure,) = ends
    assert failure.check(kind)


def test_nothing_of_it_stays_on_what_was_waited_for() -> None:
    waiting: Deferred[int] = Deferred()
    _, ends = begun(adding(waiting))
    waiting.errback(ZeroDivisionError())
    assert len(ends) == 1
    assert waiting.result is None


def test_what_it_waits_for_no_more_is_not_cancelled() -> None:
    cancelled: list[object] = []
    waiting: Deferred[int] = Deferred(cancelled.append)
    errands: list[Errand] = []

    async def cancelling_itself() -> int:
        result = await waiting
        errands[0].cancel()
        return result

    errand, ends = begun(cancelling_itself())
    errands.append(errand)
    # Called back and asked to be cancelled, a Deferred would cancel what its result waits for.
    waiting.callback(5)
    errand.cancel()
    assert ends == [5]
    assert cancelled == []
    assert errand._waiting is None


def test_a_thousand_that_are_there_need_no_stack() -> None:
    assert begun(adding(*(succeed(1) for _ in range(10_000))))[1] == [10_000]

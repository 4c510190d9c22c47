"""Waiting for several at once."""

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

__all__ = ["together"]

T = TypeVar("T")


async def together(coroutines: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Run all, wait for all, and return their results in order.

    When some raise, the first of these exceptions is raised, once all have ended. Cancelled, it cancels all.
    """
    running = [Deferred.fromCoroutine(one) for one in coroutines]
    ended: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)
    for succeeded, result in ended:
        if not succeeded:
            raise result.value
    return [result for _, result in ended]

"""A coroutine that is seen through: ``Deferred.fromCoroutine`` at half its cost, for one who waits.

A command of a session that has to wait is a coroutine, one for each message at least, and so is a delivery.
Twisted's way to run one makes a second Deferred, a status beside it and two contexts, for whoever may add
callbacks or look from outside; here nobody does.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Errand"]


class Errand:
    """Runs a coroutine, which awaits Deferreds and nothing else, until it ends.

    :param ended: called once, with what it returned, or with the :class:`Failure` that it raised. Must not
        raise.
    """

    __slots__ = ("_coroutine", "_ended", "_waiting")

    def __init__(
        self, coroutine: Coroutine["Deferred[Any]", Any, object], ended: Callable[[object], object]
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._waiting: Deferred[Any] | None = None

    def begin(self) -> None:
        """Begin; it may end before this returns, so whoever wants to cancel it remembers it first."""
        self._go_on(None)

    def cancel(self) -> None:
        """Cancel what it waits for, as cancelling a Deferred that runs a coroutine does."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _go_on(self, result: object) -> None:
        self._waiting = None
        try:
            if isinstance(result, Failure):
                waiting = result.throwExceptionIntoGenerator(self._coroutine)
            else:
                waiting = self._coroutine.send(result)
        except StopIteration as end:
            result = end.value
        except BaseException:
            result = Failure()
        else:
            self._waiting = waiting
            waiting.addBoth(self._go_on)
            return
        self._ended(result)

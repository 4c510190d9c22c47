"""How often one may log in to one account: LOGIN-DELAY (RFC 2449 §6.5, §8.1.2).

Looked at when the password was right and before the maildrop is locked. Only a login that got its maildrop
counts: one that came too early, or found the maildrop in use, does not put off the next. Times are kept in
memory, and no longer than they matter; where there are too many, the oldest are forgotten, and those accounts
may log in at once. Several processes remember together (IShared).
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from zope.interface import implementer

from mailserver.interfaces import IShared

__all__ = ["LoginDelay", "LoginTooEarly"]

_MOST_ACCOUNTS = 100_000

T = TypeVar("T")


class LoginTooEarly(Exception):
    """The login delay has not passed.

    :ivar seconds: how long it is.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@implementer(IShared)
class LoginDelay:
    """The times of the last logins.

    :param now: seconds, of a clock that nobody sets, the same for all processes.
    :ivar seconds: the delay; 0: none. May be changed at any time.
    """

    def __init__(self, seconds: float, now: Callable[[], float], most: int = _MOST_ACCOUNTS) -> None:
        self.seconds = seconds
        self.tell: Callable[[Any], None] = lambda news: None
        self._now = now
        self._most = most
        self._logins: OrderedDict[str, float] = OrderedDict()

    async def open(self, account: str, maildrop: Callable[[], Awaitable[T]]) -> T:
        """The maildrop. Raises :class:`LoginTooEarly`, and whatever opening it raises."""
        if not self.seconds:
            self._logins.clear()
            return await maildrop()
        last = self._logins.get(account)
        if last is not None and self._now() - last < self.seconds:
            raise LoginTooEarly(self.seconds)
        opened = await maildrop()
        now = self._now()
        self._note(account, now)
        self.tell([account, now])
        return opened

    def hear(self, news: Any, source: int) -> None:
        """See :class:`IShared`."""
        self._note(*news)

    def lost(self, source: int) -> None:
        """See :class:`IShared`. Who has been in has been in."""

    def remember(self) -> Any:
        """See :class:`IShared`."""
        return list(self._logins.items())

    def recall(self, memory: Any) -> None:
        """See :class:`IShared`."""
        self._logins.update(memory)

    def _note(self, account: str, now: float) -> None:
        self._logins[account] = now
        self._logins.move_to_end(account)
        # All of them go where a reload has just ended the delay.
        while self._logins and (
            len(self._logins) > self._most or now - next(iter(self._logins.values())) >= self.seconds
        ):
            self._logins.popitem(last=False)

"""Connections that have done their work and wait for more of it for a few seconds.

A connection is kept for the next message to the very same address on the very same terms, and for no other.
It is left with QUIT when nothing comes in time, when it has carried many messages, or when too many are
kept: then the one that has waited longest goes. One that the host closed, or spoke on, is never handed out.
"""

from collections import OrderedDict
from collections.abc import Hashable

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailserver.smtp.client import Conversation

__all__ = ["USUAL", "Standby"]

USUAL = 5.0
"""Seconds for which a connection to a mail host waits for another message."""


@frozen(eq=False)
class _Kept:
    key: Hashable
    conversation: Conversation
    used: int
    until: float


class Standby:
    """The connections that wait.

    :param seconds: for how long; 0: none is kept.
    :param most: how many.
    :param uses: how many messages one may carry.
    """

    def __init__(self, clock: IReactorTime, seconds: float = 0.0, most: int = 50, uses: int = 100) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._uses = uses
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # in the order in which their time ends
        self._alarm: IDelayedCall | None = None

    @property
    def is_used(self) -> bool:
        """Whether any is ever kept."""
        return self._seconds > 0

    def keep(self, key: Hashable, conversation: Conversation, used: int) -> None:
        """Take a connection that is done with, and keep it or leave it.

        :param used: how many messages it has been offered.
        """
        if not self._seconds or used >= self._uses or not conversation.is_idle:
            conversation.leave()
            return
        until = self._clock.seconds() + self._seconds
        self._kept[id(conversation)] = _Kept(key, conversation, used, until)
        if len(self._kept) > self._most:
            self._leave_oldest()
        if self._alarm is None:
            self._alarm = self._clock.callLater(self._seconds, self._ring)

    def take(self, key: Hashable) -> tuple[Conversation, int] | None:
        """A connection for this key, and how many messages it has been offered."""
        for number, kept in reversed(self._kept.items()):
            if kept.key == key:
                del self._kept[number]
                if kept.conversation.is_idle:
                    return kept.conversation, kept.used
                kept.conversation.leave()
                return self.take(key)
        return None

    def clear(self) -> None:
        """Leave them all."""
        while self._kept:
            self._leave_oldest()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        """One timer serves them all; what was kept after it was set waits for the next."""
        self._alarm = None
        now = self._clock.seconds()
        while self._kept:
            wait = next(iter(self._kept.values())).until - now
            if wait > 0:
                self._alarm = self._clock.callLater(wait, self._ring)
                return
            self._leave_oldest()

    def _leave_oldest(self) -> None:
        _, oldest = self._kept.popitem(last=False)
        oldest.conversation.leave()

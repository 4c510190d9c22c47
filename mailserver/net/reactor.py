"""Twisted's epoll reactor without what it does around every event.

:class:`~twisted.internet.epollreactor.EPollReactor` calls seven functions around each read and each write,
for a prefix in Twisted's old log that nobody here looks at. One command of a session is one event; of what
it costs to take a message that was a twentieth.
"""

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

__all__ = ["shorten"]

_log = Logger()


def shorten(reactor: Any) -> None:
    """Have it call those directly who read and write. A reactor of another kind stays as it is."""
    if not isinstance(reactor, EPollReactor):
        return
    owner: Any = reactor
    handle = (
        owner._doReadOrWrite
    )  # it survives what they raise; what their connectionLost raises, it does not

    def iterate(timeout: float | None) -> None:
        selectables = owner._selectables
        for fd, event in owner._poller.poll(-1 if timeout is None else timeout, len(selectables)):
            selectable = selectables.get(fd)
            if selectable is None:
                continue  # one before it in this turn has closed it
            try:
                handle(selectable, fd, event)
            except Exception:
                _log.failure("in an event of {selectable}", selectable=selectable)

    owner.doIteration = iterate

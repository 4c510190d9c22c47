"""Twisted's epoll reactor without what it does around every event.

:class:`~twisted.internet.epollreactor.EPollReactor` calls seven functions around each read and each write,
for a prefix in Twisted's old log that nobody here looks at. One command of a session is one event; together
they were a twentieth of what it costs to take a message.
"""

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

__all__ = ["shorten"]

_log = Logger()


def shorten(reactor: Any) -> None:
    """Have this reactor call those directly who read and write; one of another kind stays as it is.

    What Twisted itself logs meanwhile names no system any more.
    """
    if not isinstance(reactor, EPollReactor):
        return
    owner: Any = reactor  # of whose private parts three are used
    # It catches what they raise, but not what their connectionLost raises.
    handle = owner._doReadOrWrite

    def iterate(timeout: float | None) -> None:
        selectables = owner._selectables
        for fd, event in owner._poller.poll(-1 if timeout is None else timeout, len(selectables)):
            selectable = selectables.get(fd)
            if selectable is None:
                continue  # one before it in this turn has closed it
            try:
                handle(selectable, fd, event)
            except KeyboardInterrupt:
                raise
            except BaseException:
                _log.failure("in an event of {selectable}", selectable=selectable)

    owner.doIteration = iterate

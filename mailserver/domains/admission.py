"""Asking cred for an avatar, in a way that neither loses one that was given nor lets a guess go uncounted."""

from collections.abc import Callable
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from mailserver.domains.credentials import Login, Proven

__all__ = ["admit"]

_log = Logger()


async def admit(
    portal: Portal, login: Login | Proven, interface: type[Interface]
) -> tuple[Any, Callable[[], object]]:
    """The avatar, and what lets it go again. Raises what the portal raises.

    When this is cancelled, for the peer has gone, the login still runs to its end, so that it is counted,
    and what it gives is let go at once: a lock taken for nobody would stay.
    """
    answer: Deferred[Any] = Deferred()
    _settled = maybeDeferred(portal.login, login, None, interface).addBoth(_settle, answer)
    _, avatar, logout = await answer
    return avatar, logout


def _settle(result: Any, answer: "Deferred[Any]") -> None:
    if not answer.called:
        answer.callback(result)  # a Failure, too
    elif isinstance(result, Failure):
        _log.debug("a login failed after the peer had gone: {failure}", failure=result)
    else:
        result[2]()

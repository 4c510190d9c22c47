"""Asking cred for a maildrop, in a way that never loses one that was given."""

from collections.abc import Callable
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure

from mailserver.domains.realm import Login

__all__ = ["maildrop_for"]

_log = Logger()


async def maildrop_for(portal: Portal, login: Login) -> tuple[Any, Callable[[], object]]:
    """The maildrop, and what lets it go again. Raises what the portal raises.

    When this is cancelled, for the peer has gone, the login still runs to its end, and what it gives is let
    go at once: a lock taken for nobody would stay.
    """
    answer: Deferred[Any] = Deferred()
    _settled = maybeDeferred(portal.login, login, None, IMailboxPOP3).addBoth(_settle, answer)
    _, mbox, logout = await answer
    return mbox, logout


def _settle(result: Any, answer: "Deferred[Any]") -> None:
    if not answer.called:
        answer.callback(result)  # a Failure, too
    elif isinstance(result, Failure):
        _log.debug("a login failed after the peer had gone: {failure}", failure=result)
    else:
        result[2]()

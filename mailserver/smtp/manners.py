"""The part of an SMTP session that shows strangers their place: at the door, and when they guess.

Promises:

- Whom there is no room for is told so with 421 and closed.
- Where the greeting is to wait, whoever speaks before it is turned away with 554: what does not listen is no
  mail server (RFC 5321 §3.1).
- Guesses at recipients are answered ever more slowly, what was pipelined behind them waits, and at last the
  session ends; so it does after too many commands without a message.
"""

from collections.abc import Awaitable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from mailserver.model import reply as replies
from mailserver.smtp.answering import AnsweringSession
from mailserver.smtp.patience import Patience
from mailserver.smtp.reception import UnknownRecipient

__all__ = ["TO_NO_END", "MannersSession"]

TO_NO_END = frozenset({b"EHLO", b"HELO", b"HELP", b"MAIL", b"NOOP", b"RSET", b"VRFY"})
"""Commands of which many do nothing where no message comes between them."""


class MannersSession(AnsweringSession):
    """The mixin. The class with it gives the method at the end.

    :param unknown: how many recipients that do not exist may be named; 0: any number.
    """

    def __init__(self, unknown: int) -> None:
        self._patience = Patience(unknown)
        self._waiting: IDelayedCall | None = None  # until the greeting

    def openDoor(self, delay: float) -> None:
        """Greet, at once or after so many seconds, if there is room."""
        if not self.admission.allowed:
            reason, rule = self.admission.reason, self.admission.source
            self._sayFarewell(reason, replies.TOO_MANY_CONNECTIONS_421, rule)
            self.closeSession()
        elif delay:
            self.mayPeerSpeak = False
            self._waiting = self.clock.callLater(delay, self._opened)
        else:
            self._greet()

    def closeDoor(self) -> None:
        """The connection is gone."""
        if self._waiting is not None:
            self._waiting.cancel()

    def spokeTooEarly(self) -> None:
        self._sayFarewell("spoke before the greeting", replies.TOO_EARLY_554)
        self.closeSession()

    def isTooMuch(self) -> bool:
        """Count a command of :data:`TO_NO_END`; whether it was one too many, and the session is over."""
        return self._patience.wasted() and self._isOver()

    def forgive(self) -> None:
        """A message begins."""
        self._patience.worked()

    def deny(self, unknown: UnknownRecipient) -> Awaitable[None] | None:
        """Answer who guesses at names, the more slowly the longer it goes on."""
        delay = self._patience.unknown()
        if delay:
            return self._denyLater(unknown, delay)
        self._deny(unknown)
        return None

    # --- inside -----------------------------------------------------------------------------------

    def _opened(self) -> None:
        self._waiting = None
        self.mayPeerSpeak = True
        self._greet()

    async def _denyLater(self, unknown: UnknownRecipient, delay: float) -> None:
        await deferLater(self.clock, delay)
        self._deny(unknown)

    def _deny(self, unknown: UnknownRecipient) -> None:
        self._say(unknown.reply)
        self._isOver()

    def _isOver(self) -> bool:
        reason = self._patience.ends
        if reason:
            self._sayFarewell(reason, replies.TOO_MANY_ERRORS_421)
            self.closeSession()
        return bool(reason)

    # --- given by the class -----------------------------------------------------------------------

    def _greet(self) -> None:
        raise NotImplementedError

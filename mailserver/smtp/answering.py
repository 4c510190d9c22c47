"""The part of an SMTP session that answers: replies said, refusals written down, bad commands counted.

What the other parts of a session (:mod:`~mailserver.smtp.manners`, :mod:`~mailserver.smtp.content`,
:mod:`~mailserver.smtp.login`) and the server itself say, they say through this.

Promise: ten bad commands end the session, the tenth with its own reply before the 421.
"""

from collections.abc import Awaitable

from mailserver import journal
from mailserver.model import reply as replies
from mailserver.model.envelope import Origin
from mailserver.model.reply import Reply
from mailserver.model.source import BUILT_IN, Source
from mailserver.net.session import Session
from mailserver.smtp.commands import BadCommand
from mailserver.smtp.reception import Refused
from mailserver.wire.replies import spell_reply

__all__ = ["AnsweringSession"]

_BAD_COMMANDS = 10


class AnsweringSession(Session):
    """The mixin on which the other parts stand."""

    def __init__(self) -> None:
        self._origin = Origin()  # its helo is empty until HELO or EHLO came
        self._errors = 0

    def _say(self, reply: Reply) -> None:
        self.reply(spell_reply(reply))

    def _answer(self, waiting: Awaitable[None] | None, yes: bytes) -> Awaitable[None] | None:
        """Say ``yes``, at once or when what there is to wait for is over and nobody has refused."""
        if waiting is not None:
            return self._answerLater(waiting, yes)
        self.reply(yes)
        return None

    async def _answerLater(self, waiting: Awaitable[None], yes: bytes) -> None:
        try:
            await waiting
        except Refused as refused:
            self._say(refused.reply)
        else:
            self.reply(yes)

    def _refuse(self, refused: Refused) -> None:
        if isinstance(refused, BadCommand):
            self._complain(refused.reply)
        else:
            self._say(refused.reply)

    def _complain(self, reply: Reply) -> None:
        """Answer a bad command; too many of them end the session."""
        self._record("command", reply.text, reply)
        self._say(reply)
        self._errors += 1
        if self._errors >= _BAD_COMMANDS:
            self._sayFarewell("too many bad commands", replies.TOO_MANY_ERRORS_421)
            self.closeSession()

    def _sayFarewell(self, reason: str, reply: Reply, rule: Source = BUILT_IN) -> None:
        """Say why the session ends. Whoever calls this closes it."""
        self._record("session", reason, reply, rule)
        self._say(reply)

    def _record(self, what: str, reason: str, reply: Reply, rule: Source = BUILT_IN) -> None:
        """Write a refusal down for the operator."""
        journal.refused(self._origin, what, reason, rule, f"{reply.code} {reply.status}")

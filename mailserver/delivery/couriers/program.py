"""The courier to programs: aliases of the form ``scanner: |"/usr/local/bin/file-scan --to archive"``.

Only a line in an alias file can name a program; what stands there is split into words as a shell would, and
run without one (:mod:`mailserver.delivery.couriers.running`). The message comes with Return-Path and
Delivered-To on top. The environment is SENDER, RECIPIENT, ORIGINAL_RECIPIENT, QUEUE_ID, SIZE,
CLIENT_ADDRESS, CLIENT_HELO, LOGIN, PATH and LANG; characters from the wire that a script could stumble over
are ``_`` there.

What its end means: :mod:`mailserver.delivery.couriers.programs`. Of an alias with several programs, those
that have taken the message are not run for it again, for as long as this process remembers (the last ten
thousand). When too many messages wait for programs, the next are delayed, so that programs never use up the
slots of local mail.
"""

import shlex
from collections.abc import Sequence

from zope.interface import implementer

from mailserver import journal
from mailserver.delivery.couriers.programs import NOT_STARTED, Errand, Programs, environment
from mailserver.delivery.together import together
from mailserver.interfaces import Forward, IContent, ICourier, IDirectory
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.wire.trace import delivered_to, return_path

__all__ = ["ProgramCourier"]

_MOST_WAITING = 100
_MOST_REMEMBERED = 10_000

_TOO_MANY = Delayed(Scope.RECIPIENT, "too many messages for programs at once", "4.3.2")


@implementer(ICourier)
class ProgramCourier:
    """Delivers to programs.

    :param programs: runs them.
    :param deadline: seconds that one run may take.
    """

    def __init__(
        self,
        directory: IDirectory,
        programs: Programs,
        deadline: float = 300.0,
    ) -> None:
        self._directory = directory
        self._programs = programs
        self._deadline = deadline
        self._waiting = 0
        self._done: dict[tuple[QueueID, Address], set[str]] = {}

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        outcomes = await together(self._deliver(envelope, content, one) for one in recipients)
        return dict(zip(recipients, outcomes, strict=True))

    async def _deliver(self, envelope: Envelope, content: IContent, recipient: Recipient) -> Outcome:
        """All programs of one alias, one after the other; the first that has not taken the mail speaks."""
        alias = self._directory.find(recipient.address)
        if not isinstance(alias, Forward) or not alias.commands:
            return Delayed(Scope.RECIPIENT, "the alias has changed", "4.3.0")
        key = (envelope.id, recipient.address)
        done = self._done.pop(key, set())
        failed: Outcome | None = None
        for command in alias.commands:
            if command in done:
                continue
            outcome = await self._run(command, envelope, content, recipient)
            if isinstance(outcome, Delayed):
                self._remember(key, done)
                return outcome
            done.add(command)
            failed = outcome if isinstance(outcome, Failed) else failed
        return failed or Delivered("delivered to program", "2.1.5")

    def _remember(self, key: tuple[QueueID, Address], done: set[str]) -> None:
        if done:
            self._done[key] = done
            if len(self._done) > _MOST_REMEMBERED:
                del self._done[next(iter(self._done))]

    async def _run(
        self, command: str, envelope: Envelope, content: IContent, recipient: Recipient
    ) -> Outcome:
        header = return_path(envelope.sender) + delivered_to(recipient.address)
        around = environment(envelope, content, [recipient])
        try:
            words = shlex.split(command)
        except ValueError as problem:
            journal.trouble("program", problem, id=envelope.id, command=command)
            return NOT_STARTED
        if self._waiting >= _MOST_WAITING:
            return _TOO_MANY
        self._waiting += 1
        try:
            return await self._programs.run(
                Errand(envelope.id, command, words, around, header, content, self._deadline)
            )
        finally:
            self._waiting -= 1

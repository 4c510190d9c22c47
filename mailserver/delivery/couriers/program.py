"""The courier to programs: aliases of the form ``scanner: |"/usr/local/bin/file-scan --to archive"``.

Only a line in an alias file can name a program; what stands there is split into words as a shell would, and
run without one (:mod:`mailserver.delivery.couriers.running`). The message comes with Return-Path and
Delivered-To on top. The environment is SENDER, RECIPIENT, ORIGINAL_RECIPIENT, QUEUE_ID, SIZE,
CLIENT_ADDRESS, CLIENT_HELO, LOGIN, PATH and LANG; characters from the wire that a script could stumble over
are ``_`` there.

What the exit status means is ``sysexits.h``: 0 is delivered; a message or an address that the program will
never take fails; everything else, a crash, a deadline, a program that is not there, is a delay: the admin
has time to mend it. The sender is told the status; what the program printed goes to the journal.

Of an alias with several programs, those that have taken the message are not run for it again, for as long as
this process remembers (the last ten thousand). Few copies of one program run at a time; when too many
messages wait for programs, the next are delayed, so that programs never use up the slots of local mail.
"""

import re
import shlex
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from zope.interface import implementer

from mailserver import journal
from mailserver.delivery.couriers.running import Ended, run
from mailserver.delivery.together import together
from mailserver.interfaces import Forward, IContent, ICourier, IDirectory
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.wire.trace import delivered_to, return_path

__all__ = ["ProgramCourier", "outcome_of"]

_MOST_OF_ONE = 5
_MOST_WAITING = 100
_MOST_REMEMBERED = 10_000
_NOT_SAFE = re.compile(r"[^A-Za-z0-9@%_=+:,./\[\] -]")

# sysexits.h, and 100 as qmail's programs say it.
_PERMANENT = {
    64: ("5.3.5", "usage error"),
    65: ("5.6.0", "it does not take this message"),
    66: ("5.3.0", "no input"),
    67: ("5.1.1", "no such user"),
    68: ("5.1.2", "no such host"),
    69: ("5.3.0", "not available"),
    70: ("5.3.0", "internal error"),
    76: ("5.5.0", "protocol error"),
    77: ("5.7.1", "not permitted"),
    78: ("5.3.5", "configuration error"),
    100: ("5.3.0", "it does not take this message"),
}


def outcome_of(ended: Ended) -> Outcome:
    """What a program's end means for the recipient."""
    if ended.unread:
        return Delayed(Scope.RECIPIENT, "the stored message cannot be read now", "4.3.0")
    if ended.late:
        return Delayed(Scope.RECIPIENT, "the program did not end in time", "4.3.0")
    if ended.signal:
        return Delayed(Scope.RECIPIENT, f"the program was ended by signal {ended.signal}", "4.3.0")
    if ended.status == 0:
        return Delivered("delivered to program", "2.1.5")
    if ended.status in _PERMANENT:
        status, text = _PERMANENT[ended.status]
        return Failed(Scope.RECIPIENT, f"the program said {ended.status}: {text}", status)
    return Delayed(Scope.RECIPIENT, f"the program said {ended.status}", "4.3.0")


@implementer(ICourier)
class ProgramCourier:
    """Delivers to programs.

    :param deadline: seconds that one run may take.
    :param path: the programs' PATH.
    """

    def __init__(
        self,
        directory: IDirectory,
        spawner: IReactorProcess,
        timers: IReactorTime,
        deadline: float = 300.0,
        path: str = "/usr/local/bin:/usr/bin:/bin",
    ) -> None:
        self._directory = directory
        self._spawner = spawner
        self._timers = timers
        self._deadline = deadline
        self._path = path
        self._places: dict[str, DeferredSemaphore] = {}
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
            outcome = await self._run_in_turn(command, envelope, content, recipient)
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

    async def _run_in_turn(
        self, command: str, envelope: Envelope, content: IContent, recipient: Recipient
    ) -> Outcome:
        if self._waiting >= _MOST_WAITING:
            return Delayed(Scope.RECIPIENT, "too many messages for programs at once", "4.3.2")
        place = self._places.setdefault(command, DeferredSemaphore(_MOST_OF_ONE))
        self._waiting += 1
        try:
            await place.acquire()
            try:
                return await self._run(command, envelope, content, recipient)
            finally:
                place.release()
        finally:
            self._waiting -= 1
            if place.tokens == place.limit and not place.waiting:
                self._places.pop(command, None)

    async def _run(
        self, command: str, envelope: Envelope, content: IContent, recipient: Recipient
    ) -> Outcome:
        header = return_path(envelope.sender) + delivered_to(recipient.address)
        environment = _environment(envelope, content, recipient, self._path)
        try:
            words = shlex.split(command)
            ended = await run(
                self._spawner, self._timers, words, environment, (header, content), self._deadline
            )
        except CancelledError:
            raise
        except Exception as problem:
            journal.trouble("program", repr(problem), id=envelope.id, command=command)
            return Delayed(Scope.RECIPIENT, "the program cannot be started now", "4.3.0")
        if ended.status != 0 or ended.late or ended.unread:
            printed = ended.output.decode("utf-8", "replace").strip()
            status = f"signal {ended.signal}" if ended.signal else ended.status
            journal.trouble(
                "program", printed, id=envelope.id, command=command, status=status, late=ended.late
            )
        return outcome_of(ended)


def _environment(envelope: Envelope, content: IContent, recipient: Recipient, path: str) -> dict[str, str]:
    from_wire = {
        "SENDER": str(envelope.sender),
        "RECIPIENT": str(recipient.address),
        "ORIGINAL_RECIPIENT": recipient.original.partition(";")[2] or str(recipient.address),
        "QUEUE_ID": envelope.id,
        "SIZE": str(content.size),
        "CLIENT_ADDRESS": envelope.origin.address,
        "CLIENT_HELO": envelope.origin.helo,
        "LOGIN": envelope.origin.login,
    }
    # A value that begins with "() {" has been a command to shells before.
    safe = {name: _NOT_SAFE.sub("_", value) for name, value in from_wire.items()}
    return {**safe, "PATH": path, "LANG": "C.UTF-8"}

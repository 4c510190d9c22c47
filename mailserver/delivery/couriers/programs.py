"""What the couriers to programs have in common: environment, turns, and what the end of a program means.

What the exit status means is ``sysexits.h``: 0 is delivered; a message or an address that the program will
never take fails; everything else, a crash, a deadline, a program that is not there, is a delay: the admin
has time to mend it. Where what the program printed begins with a status code of RFC 3463, 4.X.X or 5.X.X,
that counts instead, and the line is for the sender to read. Otherwise the sender is told the status; what
the program printed goes to the journal in either case.

Few copies of one program run at a time; the others wait.
"""

import re
from collections.abc import Mapping, Sequence

from attrs import field, frozen
from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.internet.interfaces import IReactorProcess, IReactorTime

from mailserver import journal
from mailserver.access.routes import Identity
from mailserver.delivery.couriers.running import Ended, run
from mailserver.interfaces import IContent
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope

__all__ = ["NOT_STARTED", "PATH", "Errand", "Programs", "environment", "outcome_of"]

PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs are looked for that are named without one."""

_LONGEST_LINE = 200
_NOT_SAFE = re.compile(r"[^A-Za-z0-9@%_=+:,./\[\] -]")
_OWN_WORDS = re.compile(r"\s*([45]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|$)([^\r\n]*)")

NOT_STARTED = Delayed(Scope.RECIPIENT, "the program cannot be started now", "4.3.0")

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
    if own := _OWN_WORDS.match(ended.output.decode("utf-8", "replace")):
        kind = Failed if own[1].startswith("5") else Delayed
        return kind(Scope.RECIPIENT, f"the program said {ended.status}: {_line(own[2])}", own[1])
    if ended.status in _PERMANENT:
        status, text = _PERMANENT[ended.status]
        return Failed(Scope.RECIPIENT, f"the program said {ended.status}: {text}", status)
    return Delayed(Scope.RECIPIENT, f"the program said {ended.status}", "4.3.0")


def _line(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:_LONGEST_LINE]


@frozen(eq=False)
class Errand:
    """One run.

    :ivar name: what the journal calls the program; as many as ``places`` of one name run at a time.
    :ivar header: goes on top of the content.
    :ivar deadline: seconds.
    """

    id: QueueID
    name: str
    words: Sequence[str]
    environment: Mapping[str, str]
    header: bytes
    content: IContent
    deadline: float = 300.0
    places: int = 5
    identity: Identity | None = field(default=None)


class Programs:
    """Runs programs, in turn."""

    def __init__(self, spawner: IReactorProcess, timers: IReactorTime) -> None:
        self._spawner = spawner
        self._timers = timers
        self._places: dict[str, DeferredSemaphore] = {}

    async def run(self, errand: Errand) -> Outcome:
        """Run a program when it is its turn; never raises for what goes wrong."""
        place = self._places.setdefault(errand.name, DeferredSemaphore(errand.places))
        try:
            await place.acquire()
            try:
                return await self._run(errand)
            finally:
                place.release()
        finally:
            if place.tokens == place.limit and not place.waiting:
                self._places.pop(errand.name, None)

    async def _run(self, errand: Errand) -> Outcome:
        try:
            ended = await run(
                self._spawner,
                self._timers,
                errand.words,
                errand.environment,
                (errand.header, errand.content),
                errand.deadline,
                errand.identity,
            )
        except CancelledError:
            raise
        except Exception as problem:
            journal.trouble("program", repr(problem), id=errand.id, command=errand.name)
            return NOT_STARTED
        if ended.status != 0 or ended.late or ended.unread:
            printed = ended.output.decode("utf-8", "replace").strip()
            status = f"signal {ended.signal}" if ended.signal else ended.status
            journal.trouble(
                "program", printed, id=errand.id, command=errand.name, status=status, late=ended.late
            )
        return outcome_of(ended)


def environment(envelope: Envelope, content: IContent, recipients: Sequence[Recipient]) -> dict[str, str]:
    """What a program finds in its environment: all values fit for a shell to stumble over."""
    first = recipients[0]
    from_wire = {
        "SENDER": str(envelope.sender),
        "RECIPIENT": str(first.address),
        "ORIGINAL_RECIPIENT": first.original.partition(";")[2] or str(first.address),
        "QUEUE_ID": envelope.id,
        "SIZE": str(content.size),
        "CLIENT_ADDRESS": envelope.origin.address,
        "CLIENT_HELO": envelope.origin.helo,
        "LOGIN": envelope.origin.login,
    }
    # A value that begins with "() {" has been a command to shells before.
    safe = {name: _NOT_SAFE.sub("_", value) for name, value in from_wire.items()}
    if len(recipients) > 1:
        safe["RECIPIENT"] = " ".join(
            _NOT_SAFE.sub("_", str(recipient.address)).replace(" ", "_") for recipient in recipients
        )
        del safe["ORIGINAL_RECIPIENT"]
    return {**safe, "PATH": PATH, "LANG": "C.UTF-8"}

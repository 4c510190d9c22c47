"""Where a worker's mail goes: to its parent, which makes that of all workers durable together (law 3).

A worker hands over what is complete, and says 250 when its parent's thread answers that it is on the disk
(:mod:`mailserver.handing`). So all workers share each commit and each sync, and whoever delivers a message
has it in memory already. Content of more than 256 KB goes to a file of the spool while it comes, and only
the file's name is handed over.

A parent that goes takes its workers with it; what it has not answered counts as not stored, and its sender
comes again. A worker that goes before the answer leaves a message that is stored and was not acknowledged: at
worst it comes twice.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mailserver.handing import Outlet, read_failure
from mailserver.model.envelope import Envelope
from mailserver.spool.body import Sealed
from mailserver.spool.plain import spell_message

__all__ = ["Storing"]


class Storing:
    """Both ways to the parent.

    :param mailboxes: the descriptor of the way into mailboxes; ``spool``: of that into the spool.
    :param lost: called, maybe more than once, when a way is closed from the other end.
    """

    def __init__(self, reactor: Any, mailboxes: int, spool: int, lost: Callable[[], object]) -> None:
        self._mailboxes = Outlet(reactor, socket.socket(fileno=mailboxes))
        self._spool = Outlet(reactor, socket.socket(fileno=spool))
        self._mailboxes.closed = self._spool.closed = lost

    async def store(self, envelope: Envelope, content: Sealed) -> None:
        """As :meth:`mailserver.spool.store.Spool.store`."""
        failure = read_failure(await self._spool.hand_over(*spell_message(envelope, content)))
        if failure is not None:
            raise failure

    def deliver(self, facts: Any, *octets: bytes) -> Awaitable[Sequence[Sequence[str] | None]]:
        """See :data:`mailserver.mailboxes.store.HandOver`."""
        return self._mailboxes.hand_over(facts, *octets)

    async def stop(self) -> None:
        """Wait for the answers that are still to come, then close."""
        for way in (self._mailboxes, self._spool):
            await way.settle()
            way.close()

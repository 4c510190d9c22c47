"""Where a worker's mail goes: to its parent, which makes that of all workers durable together (law 3).

A worker hands over what is complete, and says 250 when its parent answers that it is on the disk. So all
workers share each commit and each sync, and whoever delivers a message has it in memory already. Content of
more than 256 KB goes to a file of the spool while it comes, and only the file's name is handed over.

A parent that goes takes its workers with it; what it has not answered counts as not stored, and its sender
comes again. A worker that goes before the answer leaves a message that is stored and was not acknowledged: at
worst it comes twice.
"""

from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailserver.interfaces import Account, IContent, StorageTrouble
from mailserver.machine.storage import Storage
from mailserver.model.envelope import Envelope
from mailserver.spool.body import Sealed
from mailserver.spool.content import MemoryContent
from mailserver.workers.channel import Channel
from mailserver.workers.sharing import Say
from mailserver.workers.spelling import (
    Spelled,
    read_envelope,
    read_failure,
    spell_envelope,
    spell_failure,
)

__all__ = ["Storekeeper", "Storing"]

_Named = tuple[str, int, int]
"""An account: its name, its quota in octets and in messages."""

Answer = Sequence[Sequence[str] | None]
"""For each of what was to be stored, why it is not (:func:`~mailserver.workers.spelling.spell_failure`)."""


class Storing:
    """The worker's end."""

    def __init__(self, channel: Channel) -> None:
        self._say = channel.say
        self._numbers = count(1)
        self._asked: dict[int, Deferred[Answer]] = {}
        self._is_alone = False

    async def store(self, envelope: Envelope, content: Sealed) -> None:
        """As :meth:`mailserver.spool.store.Spool.store`."""
        octets = b"".join(content.chunks)
        (answer,) = await self._ask(
            "store", spell_envelope(envelope), content.size, octets, content.file, content.head
        )
        failure = read_failure(answer)
        if failure is not None:
            raise failure

    async def deliver_copies(
        self, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> list[Exception | None]:
        """As :meth:`mailserver.interfaces.IMailStore.deliver_copies`, of content that is at hand."""
        whole = content.whole()
        assert whole is not None
        named = [(account.name, account.quota, account.messages) for account in accounts]
        return [read_failure(one) for one in await self._ask("deliver", named, whole, header)]

    def answered(self, number: int, answer: Answer) -> None:
        """The parent has answered."""
        asked = self._asked.pop(number)
        if not asked.called:
            asked.callback(answer)

    def parted(self) -> None:
        """There is no parent any more."""
        self._is_alone = True
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            if not waiting.called:
                waiting.errback(StorageTrouble("the process that stores is gone"))

    async def settle(self) -> None:
        """Return when all that was handed over is answered."""
        waiting = [Deferred[None]() for _ in self._asked]
        for asked, settled in zip(list(self._asked.values()), waiting, strict=True):
            _ = asked.addBoth(_pass_on, settled)
        await DeferredList(waiting)

    def _ask(self, *what: Any) -> "Deferred[Answer]":
        # Whoever asked may be gone when the answer comes.
        asked: Deferred[Answer] = Deferred(lambda _: None)
        if self._is_alone:
            asked.errback(StorageTrouble("the process that stores is gone"))
            return asked
        number = next(self._numbers)
        self._asked[number] = asked
        kind, *facts = what
        self._say(kind, number, *facts)
        return asked


def _pass_on(result: Any, settled: "Deferred[None]") -> Any:
    settled.callback(None)
    return result


class Storekeeper:
    """The parent's end.

    :param say: speaks to the worker.
    """

    _log = Logger()

    def __init__(self, storage: Storage, say: Say) -> None:
        self._storage = storage
        self._say = say

    def heard(self) -> dict[str, Callable[..., None]]:
        """What a worker's messages are for."""
        return {"store": self._store, "deliver": self._deliver}

    def _store(
        self, number: int, envelope: Spelled, size: int, octets: bytes, file: str | None, head: bytes
    ) -> None:
        content = Sealed(size, () if file else (octets,), file, head)
        self._answer(number, self._stored(read_envelope(envelope), content))

    async def _stored(self, envelope: Envelope, content: Sealed) -> list[Exception | None]:
        await self._storage.spool.store(envelope, content)
        return [None]

    def _deliver(self, number: int, named: Sequence[_Named], octets: bytes, header: bytes) -> None:
        accounts = [Account(name, quota=quota, messages=messages) for name, quota, messages in named]
        copies = self._storage.mailboxes.deliver_copies(accounts, MemoryContent(octets), header)
        self._answer(number, copies, len(accounts))

    def _answer(
        self, number: int, storing: Coroutine[Any, Any, list[Exception | None]], places: int = 1
    ) -> None:
        done = Deferred.fromCoroutine(storing).addErrback(self._refuse, places)
        _ = done.addCallback(self._tell, number)

    def _refuse(self, failure: Failure, places: int) -> list[Exception | None]:
        if failure.check(StorageTrouble) is None:
            self._log.failure("while storing for a worker", failure)
        error = failure.value
        return [error if isinstance(error, Exception) else StorageTrouble(str(error))] * places

    def _tell(self, failures: Sequence[Exception | None], number: int) -> None:
        self._say("stored", number, [spell_failure(failure) for failure in failures])

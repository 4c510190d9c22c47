"""An :class:`~mailserver.interfaces.IQueue` in memory, with faults that can be played.

Every answer comes in a later turn of a clock's (or at once, with none), as from a database's thread.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from mailserver.interfaces import Duty, IContent, IQueue, IReport, Settlement, StorageTrouble, Taking, Waiting
from mailserver.model.envelope import Envelope, QueueID, Recipient

__all__ = ["BytesContent", "FakeQueue"]


@implementer(IContent)
class BytesContent:
    """Content from bytes; ``chunk`` limits what one read brings, ``trouble`` after how many octets it fails."""

    is_in_pairs = False

    def __init__(
        self, data: bytes, at_hand: bool = True, chunk: int = 1 << 30, trouble: int | None = None
    ) -> None:
        self.data = data
        self.size = len(data)
        self._at_hand = at_hand
        self._chunk = chunk
        self._trouble = trouble

    def whole(self) -> bytes | None:
        return self.data if self._at_hand and self._trouble is None else None

    async def read(self, offset: int, length: int) -> bytes:
        if self._trouble is not None and offset >= self._trouble:
            raise StorageTrouble("EIO")
        return self.data[offset : offset + min(length, self._chunk)]


@define
class _Waits:
    waiting: Waiting
    due: float
    taken: bool = False


@implementer(IQueue)
class FakeQueue:
    """The queue in dictionaries.

    :param clock: answers come ``delay`` seconds later by it; ``None``: at once.
    :param longest_wait: as the spool's: who waits longer than that when the time went back is due.
    """

    def __init__(
        self, clock: Clock | None = None, delay: float = 0.001, longest_wait: float = 86400.0
    ) -> None:
        self.on_arrival = None
        self.clock = clock
        self.delay = delay
        self.longest_wait = longest_wait
        self.envelopes: dict[QueueID, Envelope] = {}
        self.contents: dict[QueueID, IContent] = {}
        self.states: dict[QueueID, dict[Recipient, _Waits]] = {}
        self.settled: list[tuple[Duty, dict[Recipient, Settlement]]] = []
        self.reports: list[IReport] = []
        self.removed: list[QueueID] = []
        self.released: list[Duty] = []
        self.takes = 0
        self.failures: dict[str, int] = {}  # method: how many calls fail from now on
        self._latest = 0.0
        self._index: dict[str, dict[QueueID, None]] = {}  # destination: messages with somebody waiting

    def add(
        self,
        envelope: Envelope,
        content: bytes | IContent = b"Subject: x\r\n\r\nx\r\n",
        due: float | None = None,
    ) -> None:
        """As a commit of the spool does."""
        if isinstance(content, bytes):
            content = BytesContent(content)
        self.envelopes[envelope.id] = envelope
        self.contents[envelope.id] = content
        when = envelope.arrived if due is None else due
        self.states[envelope.id] = {one: _Waits(Waiting(one), when) for one in envelope.recipients}
        for one in envelope.recipients:
            self._index.setdefault(one.address.domain, {})[envelope.id] = None

    async def take(self, now: float, full: frozenset[str], limit: int) -> Taking:
        await self._turn("take")
        self.takes += 1
        if now < self._latest - 60:
            for waits in self._all():
                waits.due = now if waits.due > now + self.longest_wait else waits.due
        self._latest = now
        left = {name for name in self._index if name in full and any(self._lane(name, now))}
        lanes = {name: self._lane(name, now) for name in self._index if name not in full}
        duties: list[Duty] = []
        while lanes and len(duties) < limit:
            for name, lane in list(lanes.items()):
                if len(duties) < limit:
                    duty = next(lane, None)
                    if duty is None:
                        del lanes[name]
                    else:
                        duties.append(duty)
                        self._mark(duty, True)
        return Taking(duties, frozenset(left | lanes.keys()))

    def arrive(self, *envelopes: Envelope) -> None:
        """Say that these have come, as the commit that has added them does."""
        duties = [
            Duty(
                envelope,
                name,
                tuple(Waiting(one) for one in envelope.recipients if one.address.domain == name),
            )
            for envelope in envelopes
            for name in dict.fromkeys(one.address.domain for one in envelope.recipients)
        ]
        for duty in duties:
            self._mark(duty, True)
        self.on_arrival(duties)

    async def next_due(self) -> float | None:
        # As a database's thread may: what changes while the answer is on its way is not in it.
        seen = min(self._awaited(), default=None)
        await self._turn("next_due")
        return seen

    def _awaited(self) -> Iterator[float]:
        """When those fall due of whose message nobody is taken at their destination."""
        for states in self.states.values():
            taken = {one.address.domain for one, waits in states.items() if waits.taken}
            for one, waits in states.items():
                if one.address.domain not in taken:
                    yield waits.due

    async def content(self, id: QueueID) -> IContent:
        await self._turn("content")
        return self.contents[id]

    async def settle(
        self, duty: Duty, settlements: Mapping[Recipient, Settlement], reports: Sequence[IReport]
    ) -> None:
        await self._turn("settle")
        id = duty.envelope.id
        assert set(settlements) == {waiting.recipient for waiting in duty.waiting}
        self._mark(duty, False)
        for recipient, one in settlements.items():
            if one.next_attempt is None:
                del self.states[id][recipient]
            else:
                waits = self.states[id][recipient]
                waits.due = one.next_attempt
                waits.waiting = evolve(waits.waiting, attempts=waits.waiting.attempts + 1, warned=one.warned)
        if not any(recipient.address.domain == duty.destination for recipient in self.states[id]):
            del self._index[duty.destination][id]
        self.settled.append((duty, dict(settlements)))
        for report in reports:
            self.reports.append(report)
            self.add(report.envelope, report.content)
        if not self.states[id]:
            del self.states[id], self.contents[id], self.envelopes[id]
            self.removed.append(id)

    def release(self, duty: Duty) -> None:
        self.released.append(duty)
        self._mark(duty, False)

    def _all(self) -> list[_Waits]:
        return [waits for state in self.states.values() for waits in state.values()]

    def _lane(self, destination: str, now: float):
        for id in list(self._index[destination]):
            due = tuple(
                waits.waiting
                for recipient, waits in self.states.get(id, {}).items()
                if recipient.address.domain == destination and not waits.taken and waits.due <= now
            )
            if due:
                yield Duty(self.envelopes[id], destination, due)

    def _mark(self, duty: Duty, taken: bool) -> None:
        for waiting in duty.waiting:
            waits = self.states[duty.envelope.id][waiting.recipient]
            assert waits.taken is not taken
            waits.taken = taken

    async def _turn(self, name: str) -> None:
        if self.clock is not None:
            done: Deferred[None] = deferLater(self.clock, self.delay)
            await done
        if self.failures.get(name):
            self.failures[name] -= 1
            raise StorageTrouble(f"{name}: EIO")

"""The queue runner: takes what is due, has it delivered, and has it recorded.

The database knows what is due when; here are only the duties under way and a bounded hand of those that
come next (:mod:`mailserver.delivery.slots`). Mail that has just been stored comes here by itself
(:meth:`Runner.arrived`), and is given back where older mail of its destination may wait in the queue
(:mod:`mailserver.delivery.backlog`), where there is no room for it, or where nobody can be spoken to.

All else is found by a *scan*, which takes duties until the queue has no more for destinations that are not
full. It is made when somebody pokes (:meth:`Runner.wake`), when the next recipient falls due, when a slot
becomes free for mail that had to be left, and in any case once a minute: a poke may be lost (law 2), and
clocks may be set. Pokes during a scan make it go on; none is forgotten. Looks are 3 ms apart, so that what
comes together is found together.

Where a host there spoke to us a duty's slot is free at once, and what was said is recorded behind it, so
that no connection waits for the disk. Elsewhere, and where much waits to be recorded, as on a disk that is
full, it keeps its slot until it is: what a crash would have delivered again is bounded.

How attempts go is learnt: a destination that goes well gets more slots, one where nobody can be spoken to
gets fewer and rests (:mod:`mailserver.delivery.destinations`); when somebody there speaks again, what
waited for that is due at once.

Failures: a queue that cannot be read is journal trouble and read again ten seconds later. Whatever goes
wrong with one duty ends that duty only. :mod:`mailserver.delivery.attempt` and
:mod:`mailserver.delivery.recording` say the rest.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from math import inf

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.delivery.attempt import Couriers, Rerouted, Router, attempt, unreadable
from mailserver.delivery.backlog import Backlog
from mailserver.delivery.destinations import Destinations, went_well
from mailserver.delivery.recording import Recorder
from mailserver.delivery.slots import Place, Slots
from mailserver.delivery.timing import Time
from mailserver.errand import Errand
from mailserver.interfaces import Duty, IContent, IQueue, StorageTrouble
from mailserver.model.envelope import Recipient
from mailserver.model.outcome import Outcome

__all__ = ["Directions", "Runner"]

_BATCH = 200
_LONGEST_SLEEP = 60.0
_AFTER_TROUBLE = 10.0
_AFTER_BREAKING_OFF = 1.0
# What is due and was left is for full destinations; what falls due behind it is looked for this often.
_WHILE_FULL = 1.0
_LAST_WORDS = 5.0
_MOST_UNRECORDED = 200
# From one look at the queue to the next, where a poke asks for it: what comes meanwhile is found together.
_BREATH = 0.003


@define
class Directions:
    """Where mail goes, and who brings it there; may be replaced at a reload.

    :ivar couriers: for each kind of route but ``Nowhere``.
    :ivar rerouted: the courier to a host that the administrator names.
    """

    route: Router
    couriers: Couriers
    rerouted: Rerouted


class Runner:
    """Runs the queue.

    :param recorder: its ``schedule`` may be replaced at any time.
    :param directions: its fields may be replaced at any time; duties under way keep the old ones.
    """

    def __init__(
        self, queue: IQueue, directions: Directions, recorder: Recorder, slots: Slots, time: Time
    ) -> None:
        self.directions = directions
        self.hasten: Callable[[str], Awaitable[None]] | None = None
        """Has what waits for a destination, because of trouble there, due at once."""
        self.destinations = Destinations(time.timers.seconds)
        self._queue = queue
        self._recorder = recorder
        self._slots = slots
        self._time = time
        self._backlog = Backlog()
        self._running = False
        self._poked = False
        self._scanning: Errand | None = None
        self._last_look = -inf
        self._alarm: IDelayedCall | None = None
        self._begun: deque[Duty] = deque()
        self._beginning = False
        self._unrecorded = 0
        self._works: dict[_Work, Errand] = {}
        self._idle: Deferred[None] | None = None

    def start(self) -> None:
        """Begin; the first scan finds whatever an earlier process left."""
        self._running = True
        self.wake()

    def wake(self) -> None:
        """Look soon: mail may have come. Cheap; may be called any number of times, and may be forgotten."""
        self._poked = True
        if self._running and self._scanning is None:
            self._scanning = scan = Errand(self._scan(), self._scanned)
            scan.begin()

    def arrived(self, duties: Sequence[Duty]) -> None:
        """Begin what has come, or look for what is due (:attr:`mailserver.interfaces.IQueue.on_arrival`)."""
        is_to_look = not duties
        for duty in duties:
            if not self._running:
                self._queue.release(duty)  # the first scan finds it, or the next start
            elif self._welcome(duty):
                is_to_look = True
        if is_to_look:
            self.wake()

    def give_back(self) -> None:
        """Give back what is taken but not begun, and look again: what is wanted may have changed."""
        for duty in self._slots.clear():
            self._release(duty)
        self.wake()

    def rest(self) -> None:
        """Take nothing more; what is under way goes on."""
        self._running = False
        self._silence()
        for duty in self._slots.clear():
            self._release(duty)

    async def stop(self, grace: float) -> None:
        """Rest; wait up to ``grace`` seconds for what is under way, then interrupt it.

        What was answered for until then is recorded; the rest is tried at the next start.
        """
        self.rest()
        await self._wait_until_idle(grace)
        for work, errand in list(self._works.items()):
            if work.is_attempting:
                errand.cancel()
        await self._wait_until_idle(_LAST_WORDS)
        if self._scanning is not None:
            self._scanning.cancel()
        for errand in list(self._works.values()):
            errand.cancel()

    # --- looking ---

    async def _scan(self) -> None:
        due = None
        try:
            while self._poked and self._running:
                breath = self._last_look + _BREATH - self._time.timers.seconds()
                if breath > 0:
                    await deferLater(self._time.timers, breath)
                self._poked = False
                self._last_look = self._time.timers.seconds()
                await self._take_all()
                if not self._poked:
                    due = await self._queue.next_due()
            wait = _LONGEST_SLEEP if due is None else due - self._time.now()
        except StorageTrouble as trouble:
            journal.trouble("the queue cannot be read", trouble, again=f"{_AFTER_TROUBLE:.0f}s")
            wait = _AFTER_TROUBLE
        except Exception as problem:
            journal.trouble("the queue's scan", repr(problem), again=f"{_AFTER_TROUBLE:.0f}s")
            wait = _AFTER_TROUBLE
        finally:
            # Nothing waits between the last look at _poked and here, so no poke falls in between.
            self._scanning = None
        # An earlier alarm stays: somebody may have been settled since next_due() looked.
        self._ring_in(wait if wait > 0 else _WHILE_FULL)

    async def _take_all(self) -> None:
        while self._running:
            full = self._slots.full() | self.destinations.resting()
            self._backlog.look()
            try:
                taking = await self._queue.take(self._time.now(), full, _BATCH)
            except BaseException:
                self._backlog.lose()
                raise
            self._backlog.looked(taking.left)
            for duty in taking.duties:
                self._place(duty, self._slots.offer(duty) if self._running else Place.AWAY)
            if len(taking.duties) < _BATCH:
                return  # that was all; what has come since has poked

    def _welcome(self, duty: Duty) -> bool:
        """Begin mail that has just come, unless older mail goes first; whether to look for it at once."""
        name = duty.destination
        try:
            goes_behind = name in self._backlog or self.destinations.rests(name)
            place = Place.AWAY if goes_behind else self._slots.offer(duty, is_fresh=True)
        except Exception as problem:
            # Whoever failed here, what came with it must not stay taken.
            journal.trouble("mail that has come", repr(problem), id=duty.envelope.id)
            place = Place.AWAY
        self._place(duty, place)
        if place is not Place.AWAY:
            return False
        # Where it is full, the end of what is under way there has somebody look, or this.
        self._ring_in(_WHILE_FULL)
        return not self._slots.is_full(name)

    def _place(self, duty: Duty, place: Place) -> None:
        """Begin it, or give it back; one that is parked begins when a slot is free."""
        if place is Place.NOW:
            self._begin(duty)
        elif place is Place.AWAY:
            self._release(duty)

    def _release(self, duty: Duty) -> None:
        """Give a duty back: it is still due."""
        self._queue.release(duty)
        self._backlog.add(duty.destination)

    def _ring_in(self, wait: float) -> None:
        """Have the next scan in ``wait`` seconds, or when it is due already, whichever is first."""
        if not self._running:
            return
        wait = min(max(wait, 0.0), _LONGEST_SLEEP)
        if self._alarm is not None:
            if self._alarm.getTime() <= self._time.timers.seconds() + wait:
                return
            self._alarm.cancel()
        self._alarm = self._time.timers.callLater(wait, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # --- working ---

    def _begin(self, duty: Duty) -> None:
        """Begin a duty that has a slot. A loop, not a recursion, when duties end as soon as they begin."""
        self._begun.append(duty)
        if self._beginning:
            return
        self._beginning = True
        try:
            while self._begun:
                work = _Work(self._begun.popleft())
                errand = self._works[work] = Errand(self._work(work), partial(self._worked, work))
                errand.begin()
        finally:
            self._beginning = False

    async def _work(self, work: "_Work") -> None:
        duty, has_slot = work.duty, True
        try:
            content, outcomes = await self._attempt(duty)
            work.is_attempting = False
            if not outcomes:
                # Broken off before anything was known: by a stop, also of a process that spoke for us.
                self._release(duty)
                self._ring_in(_AFTER_BREAKING_OFF)
                return
            well = went_well(outcomes)
            # What the administrator rerouted says nothing of the destination.
            tells = None if any(waiting.reroute for waiting in duty.waiting) else well
            if well and self._unrecorded < _MOST_UNRECORDED:
                self._adapt(duty, tells)
                has_slot = False
                self._leave(duty)
            rest = await self._record(duty, outcomes, content)
            if has_slot:
                self._adapt(duty, tells)
            if tells:
                await self._cheer(duty.destination)
            elif tells is not None:
                self._let_rest(duty.destination, next(iter(outcomes.values())).reply, rest)
        finally:
            if has_slot:
                self._leave(duty)

    async def _record(
        self, duty: Duty, outcomes: Mapping[Recipient, Outcome], content: IContent | None
    ) -> float:
        """See :meth:`Recorder.record`; in how many seconds the first of those who wait is due, or 0."""
        self._unrecorded += 1
        try:
            due = await self._recorder.record(duty, outcomes, content)
        finally:
            self._unrecorded -= 1
        if len(duty.waiting) < len(duty.envelope.recipients):
            # Others of the message may wait here, whom nobody could see while it was taken.
            self._ring_in(_WHILE_FULL)
        if due is None:
            return 0.0
        wait = due - self._time.now()
        self._ring_in(wait)
        return wait

    def _adapt(self, duty: Duty, well: bool | None) -> None:
        """Give the destination more slots, or fewer, while the duty still has its own."""
        if well is not None:
            for begun in self._slots.learn(duty.destination, well):
                self._begin(begun)

    async def _cheer(self, destination: str) -> None:
        """Somebody speaks there."""
        if self.destinations.recovered(destination) and self.hasten is not None:
            await self.hasten(destination)
            self.wake()

    def _let_rest(self, destination: str, error: str, seconds: float) -> None:
        """Nobody could be spoken to there; its mail is due again in so many seconds."""
        self.destinations.failed(destination, error, seconds)
        for parked in self._slots.withdraw(destination):
            self._release(parked)

    async def _attempt(self, duty: Duty) -> tuple[IContent | None, dict[Recipient, Outcome]]:
        try:
            content = await self._queue.content(duty.envelope.id)
        except CancelledError:
            return None, {}
        except Exception as trouble:
            journal.trouble("the stored message cannot be read", repr(trouble), id=duty.envelope.id)
            return None, unreadable(duty)
        directions = self.directions
        return content, await attempt(
            duty, content, directions.route, directions.couriers, directions.rerouted
        )

    def _leave(self, duty: Duty) -> None:
        """Nobody is asked any more for a duty: its slot is free."""
        begun, more = self._slots.leave(duty)
        if begun is not None:
            self._begin(begun)
        # A look under way may leave something that the backlog does not know yet.
        may_wait = self._backlog or self._scanning is not None
        if (more and may_wait) or self._may_take(duty.destination):
            self.wake()

    def _may_take(self, destination: str) -> bool:
        """Whether something may wait for a destination that is not full: it may just have earned a slot."""
        return destination in self._backlog and not self._slots.is_full(destination)

    # --- what is under way ---

    def _scanned(self, result: object) -> None:
        if isinstance(result, Failure) and not result.check(CancelledError):
            journal.trouble("queue runner", result.getErrorMessage() or repr(result.value))
        self._look_idle()

    def _worked(self, work: "_Work", result: object) -> None:
        del self._works[work]
        if isinstance(result, Failure) and not result.check(CancelledError):
            # The duty stays taken, so that nothing is delivered twice, until the next start.
            problem = result.getErrorMessage() or repr(result.value)
            duty = work.duty
            journal.trouble("a duty broke off", problem, id=duty.envelope.id, destination=duty.destination)
        self._look_idle()

    def _look_idle(self) -> None:
        if self._idle is not None and self._is_idle:
            self._idle.callback(None)
            self._idle = None

    @property
    def _is_idle(self) -> bool:
        return self._scanning is None and not self._works

    async def _wait_until_idle(self, most: float) -> None:
        if self._is_idle:
            return
        self._idle = Deferred()
        try:
            await self._idle.addTimeout(most, self._time.timers)
        except TimeoutError:
            self._idle = None


@define(eq=False)
class _Work:
    """A duty under way."""

    duty: Duty
    is_attempting: bool = field(init=False, default=True)

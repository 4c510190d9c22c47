"""After an attempt: what it means is decided, journalled, reported where a report is owed, and recorded.

The outcomes and the reports are stored in one durable step (laws 1 and 7). When that step fails, it is made
again, after a pause that grows to a minute, for as long as it takes: the duty stays taken meanwhile, so
that nothing is delivered twice by this process. A report that cannot be written does not keep the outcomes
from being recorded; that is journal trouble.
"""

from collections.abc import Mapping
from itertools import chain, repeat

from twisted.internet.task import deferLater

from mailserver import journal
from mailserver.delivery.bounce import LARGEST_ORIGINAL, News, Report, ReportWriter, news, warned
from mailserver.delivery.reading import beginning
from mailserver.delivery.settling import settlement
from mailserver.delivery.timing import Time
from mailserver.interfaces import Duty, IContent, IQueue, Settlement, StorageTrouble
from mailserver.model.envelope import Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.model.retry import Schedule
from mailserver.wire.report import Original

__all__ = ["Recorder"]

_PAUSES = (1, 2, 4, 8, 16, 32)
_LONGEST_PAUSE = 60


class Recorder:
    """Records outcomes.

    :ivar schedule: the retry schedule; may be replaced at any time.
    :ivar schedules: those of destinations that have one of their own; likewise.
    """

    def __init__(self, queue: IQueue, writer: ReportWriter, schedule: Schedule, time: Time) -> None:
        self.schedule = schedule
        self.schedules: Mapping[str, Schedule] = {}
        self._queue = queue
        self._writer = writer
        self._time = time

    async def record(
        self, duty: Duty, outcomes: Mapping[Recipient, Outcome], content: IContent | None
    ) -> float | None:
        """Record what became of everybody in a duty; those without an outcome are due again at once.

        :param content: the message, for the reports; ``None`` when it cannot be read.
        :returns: when the first of those who still wait is due; 0 when a report is; ``None``: nobody.
        """
        now = self._time.now()
        schedule = self.schedules.get(duty.destination, self.schedule)
        settlements = self._decide(duty, outcomes, schedule, now)
        self._journal(duty, settlements)
        owed = news(duty, settlements, schedule, now)
        reports = await self._reports(owed, content, now) if owed else []
        await self._settle(duty, warned(settlements, owed) if reports else settlements, reports)
        for report in reports:
            journal.reported(duty.envelope.id, report.kind.value, report.envelope.id, duty.envelope.sender)
        times = [one.next_attempt for one in settlements.values() if one.next_attempt is not None]
        return 0.0 if reports else min(times, default=None)

    def _decide(
        self, duty: Duty, outcomes: Mapping[Recipient, Outcome], schedule: Schedule, now: float
    ) -> dict[Recipient, Settlement]:
        settlements = {}
        for waiting in duty.waiting:
            recipient = waiting.recipient
            outcome = outcomes.get(recipient)
            if outcome is None:
                interrupted = Delayed(Scope.HOST, "interrupted: this server stopped", "4.3.2")
                settlements[recipient] = Settlement(interrupted, now, waiting.warned)
            else:
                chance = self._time.chance()
                settlements[recipient] = settlement(duty.envelope, waiting, outcome, schedule, now, chance)
        return settlements

    def _journal(self, duty: Duty, settlements: Mapping[Recipient, Settlement]) -> None:
        id = duty.envelope.id
        for recipient, one in settlements.items():
            match one.outcome:
                case Delivered() as outcome:
                    journal.delivered(id, recipient.address, outcome)
                case Failed() as outcome:
                    journal.failed(id, recipient.address, outcome)
                case Delayed() as outcome:
                    journal.delayed(id, recipient.address, outcome, one.next_attempt or 0.0)

    async def _reports(self, owed: list[News], content: IContent | None, now: float) -> list[Report]:
        original = Original(b"")
        try:
            if content is not None:
                data = await beginning(content, LARGEST_ORIGINAL)
                original = Original(data, whole=len(data) == content.size)
        except StorageTrouble as trouble:
            journal.trouble("report without the original", trouble, id=owed[0].envelope.id)
        try:
            return [self._writer.write(one, original, now) for one in owed]
        except Exception as problem:
            journal.trouble("report not written", repr(problem), id=owed[0].envelope.id)
            return []

    async def _settle(
        self, duty: Duty, settlements: Mapping[Recipient, Settlement], reports: list[Report]
    ) -> None:
        for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
            try:
                await self._queue.settle(duty, settlements, reports)
            except StorageTrouble as trouble:
                journal.trouble("outcomes not recorded yet", trouble, id=duty.envelope.id, again=f"{pause}s")
            else:
                return
            await deferLater(self._time.timers, pause)

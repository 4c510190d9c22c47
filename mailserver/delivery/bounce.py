"""When a report is owed to a sender, and the report as a message of this server (RFC 3461 §5, RFC 3464).

:func:`owed` is the whole rule:

=========  =============================================  =================================================
failed     always, but for NOTIFY without FAILURE          RFC 3461 §4.1: without NOTIFY, failures are told
delayed    once, after ``warn_after``; NOTIFY: with DELAY  RFC 3461 §4.1: without NOTIFY it is ours to decide
delivered  with NOTIFY=SUCCESS only                        ``relayed`` where another host took it over
=========  =============================================  =================================================

Nothing is ever reported about a message from the null sender (RFC 5321 §4.5.5), whatever its NOTIFY says:
that is what keeps two servers from reporting to each other for ever. All recipients of one settlement with
news of one kind share a report. A report is stored by the same step that records what it tells (law 7).
"""

from collections.abc import Callable, Iterable, Mapping

from attrs import evolve, frozen
from zope.interface import implementer

from mailserver.interfaces import Duty, IReport, Settlement, Waiting
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, Recipient, make_queue_id
from mailserver.model.outcome import Delivered, Failed
from mailserver.model.retry import Schedule
from mailserver.wire.report import Kind, Original, Reporter, Told, header_part, make_report

__all__ = ["LARGEST_ORIGINAL", "News", "Report", "ReportWriter", "news", "owed", "warned"]

LARGEST_ORIGINAL = 64 * 1024
"""Octets of the original that are read for a report; a longer one is returned as its header."""


@implementer(IReport)
@frozen
class Report:
    """A report ready to be stored.

    :ivar kind: what it tells.
    """

    envelope: Envelope
    content: bytes
    kind: Kind


def owed(
    envelope: Envelope, waiting: Waiting, settlement: Settlement, schedule: Schedule, now: float
) -> Kind | None:
    """Which report is owed about one recipient with this settlement; ``None``: no report."""
    if envelope.sender.is_null:
        return None
    notify = waiting.recipient.notify
    match settlement.outcome:
        case Failed():
            return Kind.FAILED if notify is None or "FAILURE" in notify else None
        case Delivered():
            return Kind.DELIVERED if notify is not None and "SUCCESS" in notify else None
    due = not waiting.warned and schedule.owes_warning(envelope.arrived, now)
    return Kind.DELAYED if due and (notify is None or "DELAY" in notify) else None


@frozen
class News:
    """What one report is to tell about one message."""

    kind: Kind
    envelope: Envelope
    told: tuple[Told, ...]


def news(
    duty: Duty, settlements: Mapping[Recipient, Settlement], schedule: Schedule, now: float
) -> list[News]:
    """The reports that a settlement owes; usually none."""
    if duty.envelope.sender.is_null:
        return []
    told: dict[Kind, list[Told]] = {}
    for waiting in duty.waiting:
        settlement = settlements[waiting.recipient]
        kind = owed(duty.envelope, waiting, settlement, schedule, now)
        if kind is not None:
            until = duty.envelope.arrived + schedule.lifetime if kind is Kind.DELAYED else None
            action = _action(kind, settlement)
            told.setdefault(kind, []).append(Told(waiting.recipient, settlement.outcome, action, now, until))
    return [News(kind, duty.envelope, tuple(about)) for kind, about in told.items()]


def warned(
    settlements: Mapping[Recipient, Settlement], reported: Iterable[News]
) -> dict[Recipient, Settlement]:
    """The settlements, with a mark at those whom a delay report is about."""
    about = {told.recipient for one in reported if one.kind is Kind.DELAYED for told in one.told}
    return {
        recipient: evolve(settlement, warned=True) if recipient in about else settlement
        for recipient, settlement in settlements.items()
    }


def _action(kind: Kind, settlement: Settlement) -> str:
    # RFC 3461 §5.2.2: our client passes no NOTIFY on, so the next host will tell the sender nothing.
    return "relayed" if kind is Kind.DELIVERED and settlement.outcome.host else kind.value


class ReportWriter:
    """Writes reports as messages of this server.

    :param hostname: this server's name.
    :param entropy: gives at least 40 random bits, for queue IDs; so nobody can foresee a boundary either.
    """

    def __init__(self, hostname: str, entropy: Callable[[], int]) -> None:
        self._hostname = hostname
        self._entropy = entropy

    def write(self, news: News, original: Original, now: float) -> Report:
        """Write the report about a message.

        :param original: what is at hand of the message. It is returned whole only where the sender asked
            for that, and with news of failure only (RFC 3461 §4.3); else its header is.
        """
        about = news.envelope
        id = make_queue_id(now, self._entropy())
        whole = original.whole and about.ret == "FULL" and news.kind is Kind.FAILED
        returned = original if whole else Original(header_part(original.content))
        reporter = Reporter(self._hostname, id, now)
        content = make_report(news.kind, about, news.told, returned, reporter)
        envelope = Envelope(
            id=id,
            sender=NULL_SENDER,
            recipients=(Recipient(about.sender),),
            origin=Origin(),
            arrived=now,
            size=len(content),
            body="7BIT" if content.isascii() else "8BITMIME",
            smtputf8=not about.sender.is_ascii,
        )
        return Report(envelope, content, news.kind)

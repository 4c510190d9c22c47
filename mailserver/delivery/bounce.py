"""When a report is owed to a sender, and the report as a message of this server (RFC 3461 §5, RFC 3464).

:func:`owed` is the whole rule:

=========  =============================================  =================================================
failed     always, but for NOTIFY without FAILURE          RFC 3461 §4.1: without NOTIFY, failures are told
delayed    once, after ``warn_after``; NOTIFY: with DELAY  RFC 3461 §4.1: without NOTIFY it is ours to decide
delivered  with NOTIFY=SUCCESS only                        ``relayed`` where another host took it over,
                                                          ``expanded`` where several targets of an alias
                                                          did; not where who took it over tells of success
                                                          itself (RFC 3461 §5.2.2)
=========  =============================================  =================================================

Nothing is ever reported to the null sender (RFC 5321 §4.5.5), whatever its NOTIFY says: that is what keeps
two servers from reporting to each other for ever. A report of this server that fails is told to its
postmaster, and if that fails nobody is told. All recipients of one settlement with news of one kind share a
report. A report is stored by the same step that records what it tells (law 7).

The sender of a message from a *stranger* (no login, no network of ours: ``marks["stranger"]``) may be forged.
What can be refused is refused while the stranger is there. Where such mail fails later all the same (a
mailbox stays full, an alias's target outside refuses it) the failure is reported, as RFC 5321 §6.1 demands:
the alternative is mail that vanishes. But the report holds the header only, whatever RET says, so that it
carries nobody's text to a third person; and a stranger gets a delay report only if he asks for it.
"""

from collections.abc import Callable, Iterable, Mapping

from attrs import evolve, frozen
from zope.interface import implementer

from mailserver.interfaces import Duty, IReport, Settlement, Waiting
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient, make_queue_id
from mailserver.model.outcome import Delivered, Failed
from mailserver.model.retry import Schedule
from mailserver.wire.report import Kind, Original, Reporter, Told, header_part, make_report

__all__ = ["LARGEST_ORIGINAL", "STRANGER", "News", "Report", "ReportWriter", "news", "owed", "warned"]

LARGEST_ORIGINAL = 64 * 1024
"""Octets of the original that are read for a report; a longer one is returned as its header."""

STRANGER = "stranger"
"""The mark of a message whose sender is nobody that we know."""

_FOR_POSTMASTER = "for postmaster"
"""The mark of a report about a report."""


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
    notify = waiting.recipient.notify
    failed = isinstance(settlement.outcome, Failed)
    if envelope.sender.is_null:
        return Kind.FAILED if failed and _is_our_report(envelope) else None
    match settlement.outcome:
        case Failed():
            return Kind.FAILED if notify is None or "FAILURE" in notify else None
        case Delivered(reports=reports):
            wanted = notify is not None and "SUCCESS" in notify
            return Kind.DELIVERED if wanted and not reports else None
    due = not waiting.warned and schedule.owes_warning(envelope.arrived, now)
    wanted = STRANGER not in envelope.marks if notify is None else "DELAY" in notify
    return Kind.DELAYED if due and wanted else None


def _is_our_report(envelope: Envelope) -> bool:
    """Whether a message from the null sender was made here, and is not about another such."""
    return envelope.origin == Origin() and _FOR_POSTMASTER not in envelope.marks


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
    match settlement.outcome:
        case Delivered(expanded=True):
            return "expanded"
        case Delivered(host=host, final=False) if host:
            return "relayed"
    return kind.value


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
        # A report may go where TLS is not to be had: it keeps to the header then (RFC 8689 §5).
        wanted = about.ret == "FULL" and not about.requiretls and STRANGER not in about.marks
        # Of a report that failed, postmaster gets all: it tells what it is about.
        wanted = wanted or about.sender.is_null
        whole = original.whole and wanted and news.kind is Kind.FAILED
        returned = original if whole else Original(header_part(original.content))
        reporter = Reporter(self._hostname, id, now)
        content = make_report(news.kind, about, news.told, returned, reporter)
        to = Address("postmaster", self._hostname) if about.sender.is_null else about.sender
        envelope = Envelope(
            id=id,
            sender=NULL_SENDER,
            recipients=(Recipient(to),),
            origin=Origin(),
            arrived=now,
            size=len(content),
            body="7BIT" if content.isascii() else "8BITMIME",
            smtputf8=not to.is_ascii,
            marks={_FOR_POSTMASTER: "a report that failed"} if about.sender.is_null else {},
        )
        return Report(envelope, content, news.kind)

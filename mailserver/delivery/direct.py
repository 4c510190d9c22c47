"""Direct delivery: mail for mailboxes here lies in them when its sender is told that it was taken.

:class:`Direct` stands before the spool, for those who bring mail. A small message all of whose recipients are
mailboxes here is not queued: the mailboxes' courier has it at the end of its data, and the 250 follows when
all copies are durable: one commit instead of two, and a mailbox or a disk that is full is told to the sending
side while it is there. What is written to its drafts comes from a session, which refuses a CR or an LF that
stands alone, or mends it: nobody looks for one again.

- When all copies are delivered, nothing of the message is left to do; history is told its story.
- When none is, the sender is told why (:class:`~mailserver.interfaces.Undelivered`): a trouble that may pass
  before one that stays, so that the message comes again for whoever can still get it.
- When some are, the message is queued for the others before the 250, and its story ends with theirs. Where
  the queue has no room either, the sender is told so, and may deliver again what has been delivered: a
  duplicate, never a loss (law 1). The same goes for a crash between a copy and the 250.

What goes the old way: mail with a recipient elsewhere, also where a route leads a mailbox's mail away, an
alias that was not expanded, or one with programs; mail whose sender wants to be told of success (RFC 3461
§4.1: the report is stored by the step that records the delivery); mail that is held, or that the
administrator's standing orders concern; and mail of more than 256 KB. That streams into the spool's file
while it comes. Into a mailbox's ``tmp/`` it would have to go before it is known whether it will be taken
at all, for as long as a slow client likes; what would be saved is one fsync in many milliseconds of
copying.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from attrs import evolve, frozen
from zope.interface import implementer

from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.together import together
from mailserver.interfaces import Account, IContent, IDirectory, IDraft, ISpool, Nobody, Standing, Undelivered
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome
from mailserver.spool.content import MemoryContent
from mailserver.spool.rows import spell_address
from mailserver.spool.story import Story, find_message_id

__all__ = ["LARGEST", "Direct"]

LARGEST = 256 * 1024
"""Octets of a message that is kept in memory until its end."""


@implementer(ISpool)
@frozen
class Direct:
    """What those who bring mail see of the spool.

    :ivar courier: the one to the mailboxes.
    :ivar tell: is told the stories of messages that were delivered here.
    :ivar now: seconds since 1970.
    """

    spool: ISpool
    directory: IDirectory
    courier: MailboxCourier
    tell: Callable[[Sequence[Story]], object]
    now: Callable[[], float]

    def draft(self, sender: Address, recipients: Sequence[Recipient]) -> IDraft:
        """As :meth:`mailserver.interfaces.ISpool.draft`."""
        spooled, hosts = self.spool.draft(sender, recipients), self.directory.hosts
        for recipient in recipients:
            if not hosts(recipient.address.domain):
                return spooled
        return DirectDraft(spooled, self)

    def detains(self, envelope: Envelope) -> bool:
        """As :meth:`mailserver.interfaces.ISpool.detains`."""
        return self.spool.detains(envelope)

    def look_up(self, envelope: Envelope) -> dict[Recipient, Standing] | None:
        """Who the recipients are now; ``None``: the message is to be queued."""
        if self.spool.detains(envelope):
            return None
        find, standings = self.directory.find, {}
        for recipient in envelope.recipients:
            standings[recipient] = standing = find(recipient.address)
            # Nobody: who has ceased to exist since RCPT; the courier says so.
            lives_here = (
                not standing.routed if isinstance(standing, Account) else isinstance(standing, Nobody)
            )
            if not lives_here or (recipient.notify is not None and "SUCCESS" in recipient.notify):
                return None
        return standings

    def deliver(
        self, envelope: Envelope, content: bytes, standings: Mapping[Recipient, Standing]
    ) -> Awaitable[dict[Recipient, Outcome]]:
        """Try once, with what the recipients of one domain have in common, as the queue does."""
        stored = MemoryContent(content, is_in_pairs=True)
        if len({recipient.address.domain for recipient in standings}) == 1:
            return self.courier.put(envelope, stored, standings)
        return self._deliver_apart(envelope, stored, standings)

    async def _deliver_apart(
        self, envelope: Envelope, content: IContent, standings: Mapping[Recipient, Standing]
    ) -> dict[Recipient, Outcome]:
        domains: dict[str, dict[Recipient, Standing]] = {}
        for recipient, standing in standings.items():
            domains.setdefault(recipient.address.domain, {})[recipient] = standing
        outcomes: dict[Recipient, Outcome] = {}
        for some in await together(self.courier.put(envelope, content, one) for one in domains.values()):
            outcomes |= some
        return outcomes

    def record(self, envelope: Envelope, content: bytes, delivered: Mapping[Recipient, Delivered]) -> None:
        """Tell the story of the copies that are delivered."""
        now = self.now()
        ended = [
            (
                spell_address(recipient.address),
                recipient.original,
                "delivered",
                now,
                1,
                outcome.status,
                outcome.reply,
                outcome.host,
            )
            for recipient, outcome in delivered.items()
        ]
        self.tell([Story(envelope, find_message_id(content) or "", ended, (), now)])


@implementer(IDraft)
class DirectDraft:
    """A message that is delivered when it is committed, or queued if that cannot be.

    :param spooled: the same message as the spool's.
    """

    __slots__ = ("_chunks", "_direct", "_ended", "_held", "_spooled", "id")

    def __init__(self, spooled: IDraft, direct: Direct) -> None:
        self.id: QueueID = spooled.id
        self._spooled = spooled
        self._direct = direct
        self._chunks: list[bytes] | None = []  # None: the spool's draft has it
        self._held = 0
        self._ended = False

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Add content."""
        chunks = self._chunks
        if chunks is None:
            return self._spooled.write(data)
        chunks.append(data)
        self._held += len(data)
        if self._held <= LARGEST:
            return None
        self._chunks = None
        return self._spooled.write(b"".join(chunks))

    async def commit(self, envelope: Envelope) -> Mapping[Recipient, Delivered]:
        """Deliver or queue it. Cancelling this leaves open what became of it."""
        if self._ended or envelope.id != self.id:
            raise ValueError("a draft is committed once, under its own ID")
        self._ended = True
        chunks, self._chunks = self._chunks, None
        if chunks is None:
            return await self._spooled.commit(envelope)
        content = b"".join(chunks)
        standings = self._direct.look_up(envelope)
        if standings is None:
            return await self._queue(envelope, content)
        outcomes = await self._direct.deliver(envelope, content, standings)
        delivered = {one: it for one, it in outcomes.items() if isinstance(it, Delivered)}
        if not delivered:
            self._spooled.abandon()
            raise Undelivered(_telling(outcomes.values()))
        if len(delivered) == len(outcomes):
            self._spooled.abandon()
        else:
            others = tuple(one for one in envelope.recipients if one not in delivered)
            await self._queue(evolve(envelope, recipients=others), content)
        self._direct.record(envelope, content, delivered)
        return delivered

    def abandon(self) -> None:
        """Forget it, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._chunks = None
            self._spooled.abandon()

    async def _queue(self, envelope: Envelope, content: bytes) -> Mapping[Recipient, Delivered]:
        waiting = self._spooled.write(content)
        if waiting is not None:
            await waiting
        return await self._spooled.commit(envelope)


def _telling(outcomes: Collection[Outcome]) -> Delayed | Failed:
    """The outcome of those of a message that nobody got which its sender is told."""
    passing = [one for one in outcomes if isinstance(one, Delayed)]
    staying = [one for one in outcomes if isinstance(one, Failed)]
    return (passing or staying)[0]

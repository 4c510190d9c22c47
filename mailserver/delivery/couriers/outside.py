"""The courier of what an alias sends outside: under a sender of ours, and with a mark against loops.

It stands before the courier that knows the way (MX hosts, smarthosts …) and hands on to it what nobody
forwarded. Mail is forwarded where it goes to another address than its sender named, which is the
recipient's ``original``. For such a recipient

- the envelope sender is rewritten (:mod:`mailserver.domains.senders`) into the domain of the alias, unless it
  is hosted here; reports of this server still go to the sender as it was;
- the message gets a Delivered-To field with the alias, and is not sent when it has that one already, or has
  been on too many servers (5.4.6, RFC 5321 §6.3): so a loop with another server ends on its first return.

The recipients of one alias stay together; others are transactions of their own.

Known limit: where an earlier host forwarded the mail to the alias, and says so (ORCPT, RFC 3461 §4.2), the
original is that host's address, the alias is not known any more, and the mail goes out as it is.
"""

from collections.abc import Sequence

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from mailserver import journal
from mailserver.delivery.looping import LOOP, loops, read_header
from mailserver.domains.senders import Senders
from mailserver.interfaces import IContent, ICourier, IDirectory, StorageTrouble
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delayed, Outcome, Scope
from mailserver.wire.addresses import parse_address
from mailserver.wire.syntax import BadSyntax
from mailserver.wire.trace import delivered_to

__all__ = ["OutsideCourier"]

_TROUBLE = Delayed(Scope.RECIPIENT, "this server's storage has trouble", "4.3.0")
_BROKEN_OFF = Delayed(Scope.HOST, "broken off before a host was asked", "4.3.2")


@implementer(ICourier)
@frozen
class OutsideCourier:
    """Forwards to the outside.

    :ivar courier: knows the way.
    """

    courier: ICourier
    directory: IDirectory
    senders: Senders

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        groups: dict[Address | None, list[Recipient]] = {}
        for recipient in recipients:
            groups.setdefault(self._alias(recipient), []).append(recipient)
        outcomes: dict[Recipient, Outcome] = {}
        try:
            for alias, group in groups.items():
                if alias is None:
                    outcomes |= await self.courier.deliver(envelope, content, group)
                else:
                    outcomes |= await self._forward(alias, envelope, content, group)
        except CancelledError:
            if not outcomes:
                raise
            return {recipient: outcomes.get(recipient, _BROKEN_OFF) for recipient in recipients}
        return outcomes

    async def _forward(
        self, alias: Address, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        mark = delivered_to(alias)
        try:
            header = await read_header(content)
        except StorageTrouble as trouble:
            journal.trouble("forwarding", trouble, id=envelope.id, recipient=alias)
            return dict.fromkeys(recipients, _TROUBLE)
        # What came through the queue has its own Received on top; a mark there is the forward courier's.
        is_marked = header.header.startswith(mark)
        if not is_marked and loops(header, alias):
            return dict.fromkeys(recipients, LOOP)
        sender = envelope.sender
        if not self.directory.hosts(sender.domain):
            sender = self.senders.under(sender, alias.domain)
        # A name beyond ASCII in the header would need SMTPUTF8 there, which the message may not.
        marked = content if is_marked or not alias.is_ascii else _Marked(content, mark)
        evolved = evolve(envelope, sender=sender, size=marked.size)
        return await self.courier.deliver(evolved, marked, recipients)

    def _alias(self, recipient: Recipient) -> Address | None:
        """The alias here that forwards to a recipient; ``None``: none does, or it leads to somebody here."""
        if self.directory.hosts(recipient.address.domain):
            return None
        try:
            original = parse_address(recipient.original.partition(";")[2])
        except BadSyntax:
            return None
        return original if self.directory.hosts(original.domain) else None


@implementer(IContent)
class _Marked:
    """A message with a field on top."""

    is_in_pairs = False

    def __init__(self, content: IContent, mark: bytes) -> None:
        self.size = content.size + len(mark)
        self._content = content
        self._mark = mark

    def whole(self) -> bytes | None:
        whole = self._content.whole()
        return None if whole is None else self._mark + whole

    async def read(self, offset: int, length: int) -> bytes:
        if offset < len(self._mark):
            return self._mark[offset : offset + length]
        return await self._content.read(offset - len(self._mark), length)

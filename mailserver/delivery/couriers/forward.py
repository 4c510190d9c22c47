"""The courier that follows an alias: a new message to its targets, through the spool (law 7).

Aliases are expanded when mail is accepted; here comes what was not: a report to an alias or to the sender of
forwarded mail, mail that waited while an account became an alias, and mail to an alias with several targets
whose sender wants to be told of success: that it was expanded is said here, once, and the targets are not
asked to say anything (RFC 3461 §5.2.7.2). A single target tells of itself (§5.2.7.1).

The new message is durable before this courier says so. It carries a Delivered-To field with the alias: a
message that comes back to an alias it has been through, or through too many servers, loops and fails (5.4.6,
RFC 5321 §6.3). It keeps the time of arrival of the first, so that forwarding does not lengthen its life.
"""

from collections.abc import Sequence

from attrs import evolve
from zope.interface import implementer

from mailserver import journal
from mailserver.delivery.looping import LOOP, loops, read_header
from mailserver.interfaces import IContent, ICourier, IDirectory, IDraft, ISpool, StorageFull, StorageTrouble
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.wire.trace import HeaderScan, delivered_to

__all__ = ["ForwardCourier"]

_CHUNK = 64 * 1024

_NOBODY = Failed(Scope.RECIPIENT, "no such user here", "5.1.1")
_FULL = Delayed(Scope.RECIPIENT, "no space for mail on this server", "4.3.1")
_TROUBLE = Delayed(Scope.RECIPIENT, "this server's storage has trouble", "4.3.0")


@implementer(ICourier)
class ForwardCourier:
    """Forwards."""

    def __init__(self, directory: IDirectory, spool: ISpool) -> None:
        self._directory = directory
        self._spool = spool

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        try:
            header = await read_header(content)
        except StorageTrouble as trouble:
            journal.trouble("forwarding", trouble, id=envelope.id)
            return dict.fromkeys(recipients, _TROUBLE)
        return {
            recipient: await self._forward(envelope, content, recipient, header) for recipient in recipients
        }

    async def _forward(
        self, envelope: Envelope, content: IContent, recipient: Recipient, header: HeaderScan
    ) -> Outcome:
        alias = recipient.address
        if loops(header, alias):
            return LOOP
        targets = self._directory.expand(recipient)
        if not targets:
            return _NOBODY
        draft = self._spool.draft(envelope.sender, targets)
        mark = delivered_to(alias)
        try:
            await _copy(content, mark, draft)
            size = content.size + len(mark)
            await draft.commit(evolve(envelope, id=draft.id, recipients=targets, size=size))
        except StorageTrouble as trouble:
            journal.trouble("forwarding", trouble, id=envelope.id, recipient=alias)
            return _FULL if isinstance(trouble, StorageFull) else _TROUBLE
        finally:
            draft.abandon()  # harmless after the commit
        several = len(targets) > 1
        return Delivered(f"forwarded as {draft.id}", "2.1.5", reports=not several, expanded=several)


async def _copy(content: IContent, mark: bytes, draft: IDraft) -> None:
    pending = draft.write(mark)
    offset = 0
    while offset < content.size:
        if pending is not None:
            await pending
        data = await content.read(offset, _CHUNK)
        if not data:
            raise StorageTrouble("the stored message is shorter than it was")
        pending = draft.write(data)
        offset += len(data)
    if pending is not None:
        await pending

"""A message being received (:class:`~mailserver.interfaces.IDraft`)."""

from collections.abc import Awaitable, Callable, Mapping

from zope.interface import implementer

from mailserver.interfaces import IDraft, StorageTrouble
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delivered
from mailserver.spool.body import Body, Sealed

__all__ = ["Draft"]


@implementer(IDraft)
class Draft:
    """One message on its way into the spool.

    :param store: commits the message; owns the content from the moment it is called.
    """

    __slots__ = ("_body", "_ended", "_store", "id")

    def __init__(self, id: QueueID, body: Body, store: Callable[[Envelope, Sealed], Awaitable[None]]) -> None:
        self.id = id
        self._body = body
        self._store = store
        self._ended = False

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Add content."""
        return self._body.write(data)

    async def commit(self, envelope: Envelope) -> Mapping[Recipient, Delivered]:
        """Make it durable. Cancelling this after the content is whole leaves open whether it became so."""
        if self._ended or envelope.id != self.id:
            raise ValueError("a draft is committed once, under its own ID")
        try:
            content = await self._body.seal()
        except BaseException:
            self.abandon()
            raise
        if self._ended:
            raise StorageTrouble("the draft was abandoned while it was committed")
        self._ended = True
        await self._store(envelope, content)
        return {}

    def abandon(self) -> None:
        """Forget it, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._body.discard()

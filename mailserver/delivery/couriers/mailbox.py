"""The courier to mailboxes here: final delivery, with Return-Path and Delivered-To on top (RFC 5321 §4.4).

All recipients at once, since the store writes what comes together in one go. A full mailbox delays that
recipient until there is room or the message's lifetime is over; a disk that is full, or does not work,
delays too. A recipient that ceased to exist a moment ago fails.
"""

from collections.abc import Sequence

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from mailserver import journal
from mailserver.delivery.together import together
from mailserver.interfaces import (
    Account,
    IContent,
    ICourier,
    IDirectory,
    IMailStore,
    MailboxFull,
    StorageFull,
    StorageTrouble,
)
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.wire.trace import delivered_to, return_path

__all__ = ["MailboxCourier"]

_DELIVERED = Delivered("delivered to mailbox", "2.1.5")
_NOBODY = Failed(Scope.RECIPIENT, "no such user here", "5.1.1")
_MAILBOX_FULL = Delayed(Scope.RECIPIENT, "mailbox full", "4.2.2")
_STORAGE_FULL = Delayed(Scope.HOST, "no space for mail on this server", "4.3.1")
_TROUBLE = Delayed(Scope.HOST, "this server's mail storage has trouble", "4.3.0")


@implementer(ICourier)
class MailboxCourier:
    """Delivers to the store."""

    def __init__(self, directory: IDirectory, store: IMailStore) -> None:
        self._directory = directory
        self._store = store

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        first = return_path(envelope.sender)
        if len(recipients) == 1:  # the usual case does without a Deferred
            return {recipients[0]: await self._put(envelope, content, recipients[0], first)}
        outcomes = await together(self._put(envelope, content, one, first) for one in recipients)
        return dict(zip(recipients, outcomes, strict=True))

    async def _put(
        self, envelope: Envelope, content: IContent, recipient: Recipient, first: bytes
    ) -> Outcome:
        """One copy. Nothing that goes wrong with it reaches the others."""
        try:
            account = self._directory.find(recipient.address)
            if not isinstance(account, Account):
                return _NOBODY
            await self._store.deliver(account, content, first + delivered_to(recipient.address))
        except CancelledError:
            raise
        except MailboxFull:
            return _MAILBOX_FULL
        except StorageFull as trouble:
            journal.trouble("mailbox", trouble, id=envelope.id, recipient=recipient.address)
            return _STORAGE_FULL
        except StorageTrouble as trouble:
            journal.trouble("mailbox", trouble, id=envelope.id, recipient=recipient.address)
            return _TROUBLE
        except Exception as problem:
            journal.trouble("mailbox", repr(problem), id=envelope.id, recipient=recipient.address)
            return _TROUBLE
        return _DELIVERED

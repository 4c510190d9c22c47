"""The courier to mailboxes here: final delivery, with Return-Path and Delivered-To on top (RFC 5321 §4.4).

A message for several recipients is one file that their mailboxes link to, so it has no Delivered-To. A full
mailbox delays that recipient until there is room or the message's lifetime is over; a disk that is full, or
does not work, delays too. A recipient that ceased to exist, or was disabled, a moment ago fails.
"""

from collections.abc import Sequence

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from mailserver import journal
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
_DISABLED = Failed(Scope.RECIPIENT, "mailbox disabled", "5.2.1")
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
        accounts: dict[Recipient, Account] = {}
        outcomes: dict[Recipient, Outcome] = {}
        for recipient in recipients:
            account = self._directory.find(recipient.address)
            if not isinstance(account, Account):
                outcomes[recipient] = _NOBODY
            elif account.disabled:
                outcomes[recipient] = _DISABLED
            else:
                accounts[recipient] = account
        if len(accounts) == 1:
            # Several share one copy, which cannot name each of them and must not name them to each other.
            first += delivered_to(next(iter(accounts)).address)
        failures = await self._put(list(accounts.values()), content, first) if accounts else []
        for recipient, failure in zip(accounts, failures, strict=True):
            outcomes[recipient] = _outcome(envelope, recipient, failure)
        return {recipient: outcomes[recipient] for recipient in recipients}

    async def _put(
        self, accounts: Sequence[Account], content: IContent, header: bytes
    ) -> Sequence[Exception | None]:
        try:
            return await self._store.deliver_copies(accounts, content, header)
        except CancelledError:
            raise
        except Exception as problem:
            return [problem] * len(accounts)


def _outcome(envelope: Envelope, recipient: Recipient, failure: Exception | None) -> Outcome:
    """What became of one recipient's copy. Nothing that goes wrong with it reaches the others."""
    if failure is None:
        return _DELIVERED
    if isinstance(failure, MailboxFull):
        return _MAILBOX_FULL
    what = failure if isinstance(failure, StorageTrouble) else repr(failure)
    journal.trouble("mailbox", what, id=envelope.id, recipient=recipient.address)
    return _STORAGE_FULL if isinstance(failure, StorageFull) else _TROUBLE

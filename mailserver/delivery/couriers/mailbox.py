"""The courier to mailboxes here: final delivery, with Return-Path and Delivered-To on top (RFC 5321 §4.4).

A message for several recipients is one file that their mailboxes link to, so it has no Delivered-To. A full
mailbox delays that recipient until there is room or the message's lifetime is over; a disk that is full, or
does not work, delays too. A recipient that ceased to exist, or was disabled, a moment ago fails.
"""

from collections.abc import Mapping, Sequence

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
    Standing,
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
        find = self._directory.find
        return await self.put(envelope, content, {one: find(one.address) for one in recipients})

    async def put(
        self, envelope: Envelope, content: IContent, standings: Mapping[Recipient, Standing]
    ) -> dict[Recipient, Outcome]:
        """The same for recipients that have been looked up just now."""
        outcomes: dict[Recipient, Outcome] = {}
        accounts: dict[Recipient, Account] = {}
        for recipient, standing in standings.items():
            if not isinstance(standing, Account):
                outcomes[recipient] = _NOBODY
            elif standing.disabled:
                outcomes[recipient] = _DISABLED
            else:
                accounts[recipient] = standing
                outcomes[recipient] = _DELIVERED
        if not accounts:
            return outcomes
        header = return_path(envelope.sender)
        if len(accounts) == 1:
            # Several share one copy, which cannot name each of them and must not name them to each other.
            header += delivered_to(next(iter(accounts)).address)
        failures: Sequence[Exception | None]
        try:
            failures = await self._store.deliver_copies(list(accounts.values()), content, header)
        except CancelledError:
            raise
        except Exception as problem:
            failures = [problem] * len(accounts)
        for recipient, failure in zip(accounts, failures, strict=True):
            if failure is not None:
                outcomes[recipient] = _outcome(envelope, recipient, failure)
        return outcomes


def _outcome(envelope: Envelope, recipient: Recipient, failure: Exception) -> Outcome:
    """What a recipient's copy failed by. Nothing that goes wrong with it reaches the others."""
    if isinstance(failure, MailboxFull):
        return _MAILBOX_FULL
    what = failure if isinstance(failure, StorageTrouble) else repr(failure)
    journal.trouble("mailbox", what, id=envelope.id, recipient=recipient.address)
    return _STORAGE_FULL if isinstance(failure, StorageFull) else _TROUBLE

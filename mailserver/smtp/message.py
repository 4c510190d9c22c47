"""One message coming in: its content on the way to a draft, and the answer at the end of its data.

Promises: the 250 after the commit and never without it (RFC 5321 §6.1). A client that goes away before the
end of its data leaves nothing behind; one that goes away while its message is being committed does not stop
the commit.

Failures: no room, 452 4.3.1; any other trouble of the disk, or in this server, 451 4.3.0. Too big, 552 5.3.4;
too many hops, 554 5.4.6; a content that no mail may have, 554 5.6.0.
"""

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageSMTP
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import IDraft, StorageFull, StorageTrouble
from mailserver.model.envelope import Envelope, QueueID
from mailserver.model.reply import (
    BAD_CONTENT_554,
    NO_SPACE_452,
    OK_250,
    TOO_BIG_552,
    TOO_MANY_HOPS_554,
    TROUBLE_451,
    Reply,
)
from mailserver.model.source import BUILT_IN, Source
from mailserver.wire.trace import HeaderScan

__all__ = ["Limits", "Message"]


@frozen
class Limits:
    """What one message may be.

    :ivar message_size: octets of content (RFC 1870); also what EHLO offers.
    :ivar recipients: accepted RCPT commands (RFC 5321 §4.5.3.1.8 asks for 100).
    :ivar hops: Received fields; more mean that the mail loops (RFC 5321 §6.3).
    :ivar source: where the figures stand.
    """

    message_size: int
    recipients: int
    hops: int = 50
    source: Source = BUILT_IN


@implementer(IMessageSMTP)
class Message:
    """One message's content on its way into a draft.

    Takes chunks in wire form, the dots unstuffed. As soon as the message cannot be accepted any more its
    draft is abandoned and what follows is dropped; the answer is given at the end of the data all the same.
    Which answer depends on all of the content and not on how it was cut.

    :param header: our Received field, which stands above it all.
    :param envelope: gives the envelope of the message with this queue ID and size.
    :param objected: is told why the message is not accepted: the reason, the rule, the reply.
    """

    __slots__ = (
        "_draft",
        "_ended",
        "_envelope",
        "_header",
        "_limits",
        "_objected",
        "_scan",
        "_size",
        "_spoilt",
        "_written",
    )

    _log = Logger()

    def __init__(
        self,
        draft: IDraft,
        header: bytes,
        limits: Limits,
        envelope: Callable[[QueueID, int], Envelope],
        objected: Callable[[str, Source, Reply], None],
    ) -> None:
        self._draft = draft
        self._header = header  # goes with the first chunk: one write less
        self._limits = limits
        self._envelope = envelope
        self._objected = objected
        self._written = len(header)
        self._scan = HeaderScan()
        self._size = 0
        self._spoilt: Reply | None = None
        self._ended = False

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Add content. Returns ``None``, or something to wait for before more is added."""
        self._size += len(data)
        if not self._scan.finished:
            self._scan.feed(data)
        if self._ended or self._spoilt is not None:
            return None
        if self._size > self._limits.message_size:
            self._drop()
            return None
        self._written += len(data)
        if self._header:
            data, self._header = self._header + data, b""
        return self._draft.write(data)

    def lineReceived(self, line: bytes) -> Awaitable[None] | None:
        """Add a line, given without its CRLF."""
        return self.write(line + b"\r\n")

    def spoil(self, reply: Reply = BAD_CONTENT_554) -> None:
        """The message is not to be accepted, for a reason that was found outside: ``reply``."""
        if self._spoilt is None:
            self._spoilt = reply
            self._drop()

    def eomReceived(self) -> "Deferred[Reply]":
        """The data has ended; what is the answer? Fires with a reply and never fails.

        The session may be gone before it fires, or cancel its waiting: the commit goes on.
        """
        return Deferred.fromCoroutine(self._conclude())

    def connectionLost(self) -> None:
        """The client went away before the end of the data. Harmless once that has come."""
        self._drop()

    async def _conclude(self) -> Reply:
        objection = self._objection()
        if objection is not None:
            self._drop()
            self._objected(*objection)
            return objection[2]
        if self._ended:
            return TROUBLE_451
        self._ended = True
        return await self._commit()

    def _objection(self) -> tuple[str, Source, Reply] | None:
        limits = self._limits
        if self._spoilt is not None:
            return self._spoilt.text, BUILT_IN, self._spoilt
        if self._size > limits.message_size:
            return f"{self._size} octets, {limits.message_size} allowed", limits.source, TOO_BIG_552
        hops = self._scan.hops
        if hops > limits.hops:
            return f"{hops} hops, {limits.hops} allowed", limits.source, TOO_MANY_HOPS_554
        return None

    async def _commit(self) -> Reply:
        draft = self._draft
        envelope = self._envelope(draft.id, self._written)
        try:
            if self._header:
                waiting = draft.write(self._header)
                if waiting is not None:
                    await waiting
            await draft.commit(envelope)
        except StorageFull as full:
            journal.trouble("spool", full, id=draft.id)
            return NO_SPACE_452
        except StorageTrouble as trouble:
            journal.trouble("spool", trouble, id=draft.id)
            return TROUBLE_451
        except Exception:
            self._log.failure("message {id} was not committed", id=draft.id)
            draft.abandon()
            return TROUBLE_451
        journal.accepted(envelope)
        return OK_250.saying(f"Ok: queued as {draft.id}")

    def _drop(self) -> None:
        if not self._ended:
            self._ended = True
            self._draft.abandon()

"""One message coming in: its content on the way to a draft, and the answer at the end of its data.

Promises: the 250 after the commit and never without it (RFC 5321 §6.1). A client that goes away before the
end of its data leaves nothing behind; one that goes away while its message is being committed does not stop
the commit.

Failures: no room, 452 4.3.1; any other trouble of the disk, or in this server, 451 4.3.0. A message that
nobody's mailbox takes at once (:class:`~mailserver.interfaces.Undelivered`): full, 452 4.2.2; the recipient
vanished or was disabled since RCPT, 550. Too big, 552 5.3.4;
too many hops, 554 5.4.6; a header section too big, 552 5.3.4; a content that no mail may have, 554 5.6.0.
"""

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageSMTP
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import IDraft, StorageFull, StorageTrouble, Undelivered
from mailserver.model.envelope import Envelope, QueueID
from mailserver.model.reply import (
    BAD_CONTENT_554,
    HEADER_TOO_BIG_552,
    MAILBOX_DISABLED_550,
    MAILBOX_FULL_452,
    NO_SPACE_452,
    NO_SUCH_USER_550,
    OK_250,
    TOO_BIG_552,
    TOO_MANY_HOPS_554,
    TROUBLE_451,
    Reply,
)
from mailserver.model.source import BUILT_IN, Source
from mailserver.wire.headers import HeaderSection, count_fields

__all__ = ["Limits", "Message", "Objection"]

_UNDELIVERED = {
    reply.status: reply
    for reply in (MAILBOX_FULL_452, NO_SPACE_452, TROUBLE_451, NO_SUCH_USER_550, MAILBOX_DISABLED_550)
}
"""What is said when no mailbox took the message, by the status of its outcome."""


@frozen
class Limits:
    """What one message may be.

    :ivar message_size: octets of content (RFC 1870); also what EHLO offers.
    :ivar recipients: accepted RCPT commands (RFC 5321 §4.5.3.1.8 asks for 100).
    :ivar hops: Received fields; more mean that the mail loops (RFC 5321 §6.3).
    :ivar header: octets of the header section.
    :ivar source: where the figures stand.
    """

    message_size: int
    recipients: int
    hops: int = 50
    header: int = 256 * 1024
    source: Source = BUILT_IN


class Objection(Exception):
    """Why a message is not accepted: the reason, for the journal; the rule; and what the client is told."""

    def __init__(self, reason: str, rule: Source, reply: Reply) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule
        self.reply = reply


@implementer(IMessageSMTP)
class Message:
    """One message's content on its way into a draft.

    Takes chunks in wire form, the dots unstuffed. The header section is held until all of it is there, and
    goes on as ``heading`` makes it. As soon as the message cannot be accepted any more its draft is abandoned
    and what follows is dropped; the answer is given at the end of the data all the same.
    Which answer depends on all of the content and not on how it was cut.

    :param header: our Received field, which stands above it all.
    :param envelope: gives the envelope of the message with this queue ID and size.
    :param objected: is told why the message is not accepted.
    :param heading: makes of a header section the one to be stored, or raises :class:`Objection`.
    :param room: whether a mailbox has room for so many octets, where any recipient has one.
    """

    __slots__ = (
        "_draft",
        "_ended",
        "_envelope",
        "_flaw",
        "_header",
        "_heading",
        "_limits",
        "_objected",
        "_room",
        "_section",
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
        objected: Callable[[Objection], None],
        heading: Callable[[bytes], bytes] = bytes,
        room: Callable[[int], Awaitable[bool] | bool] = lambda octets: True,
    ) -> None:
        self._draft = draft
        self._header = header
        self._limits = limits
        self._envelope = envelope
        self._objected = objected
        self._heading = heading
        self._room = room
        self._section = HeaderSection(limits.header)
        self._flaw: Objection | None = None  # of the header section
        self._written = 0
        self._size = 0
        self._spoilt: Reply | None = None
        self._ended = False

    def write(self, data: bytes) -> Awaitable[None] | None:
        """Add content. Returns ``None``, or something to wait for before more is added."""
        self._size += len(data)
        if self._ended:
            return None
        if self._size > self._limits.message_size:
            self._drop()
            return None
        if not self._section.finished:
            data = self._section.feed(data)
            if not self._section.finished:
                return None
            data = self._top() + data
            if self._flaw is not None:
                self._drop()
                return None
        return self._pass_on(data)

    def lineReceived(self, line: bytes) -> Awaitable[None] | None:
        """Add a line, given without its CRLF."""
        return self.write(line + b"\r\n")

    def spoil(self, reply: Reply = BAD_CONTENT_554) -> None:
        """The message is not to be accepted, for a reason that was found outside: ``reply``."""
        if self._spoilt is None:
            self._spoilt = reply
            self._drop()

    @property
    def objection(self) -> Objection | None:
        """Why the message cannot be accepted, as far as that is known by now."""
        limits = self._limits
        if self._spoilt is not None:
            return Objection(self._spoilt.text, BUILT_IN, self._spoilt)
        if self._size > limits.message_size:
            reason = f"{self._size} octets, {limits.message_size} allowed"
            return Objection(reason, limits.source, TOO_BIG_552)
        return self._flaw

    def eomReceived(self) -> "Deferred[Reply]":
        """As :meth:`conclude`, under the name and in the form that Twisted has for it."""
        return Deferred.fromCoroutine(self.conclude())

    def connectionLost(self) -> None:
        """The client went away before the end of the data. Harmless once that has come."""
        self._drop()

    async def conclude(self) -> Reply:
        """The data has ended; what is the answer? Never fails.

        The session may be gone before the answer is there. Whoever cancels this leaves open what became of
        the message.
        """
        if self._ended:
            return self._turn_down(self.objection)
        top = b"" if self._section.finished else self._top()
        if self.objection is not None:
            return self._turn_down(self.objection)
        answer = self._room(self._written + len(top))
        has_room = answer if isinstance(answer, bool) else await answer
        if not has_room:
            self._spoilt = MAILBOX_FULL_452
        if self._ended or not has_room:
            return self._turn_down(self.objection)  # the client may have gone meanwhile
        self._ended = True
        return await self._commit(top)

    def _turn_down(self, objection: Objection | None) -> Reply:
        self._drop()
        if objection is None:
            return TROUBLE_451
        self._objected(objection)
        return objection.reply

    def _top(self) -> bytes:
        """What the message begins with: our own field, and what is made of the header section."""
        limits, section = self._limits, self._section.take()
        try:
            if self._section.overlong:
                reason = f"header section over {limits.header} octets"
                raise Objection(reason, limits.source, HEADER_TOO_BIG_552)
            hops = count_fields(section, "Received")
            if hops > limits.hops:
                raise Objection(f"{hops} hops, {limits.hops} allowed", limits.source, TOO_MANY_HOPS_554)
            return self._header + self._heading(section)
        except Objection as objection:
            self._flaw = objection
        except Exception:
            self._log.failure("header section of {id}", id=self._draft.id)
            self._flaw = Objection("trouble with the header section", BUILT_IN, TROUBLE_451)
        return b""

    def _pass_on(self, data: bytes) -> Awaitable[None] | None:
        self._written += len(data)
        return self._draft.write(data)

    async def _commit(self, top: bytes) -> Reply:
        draft = self._draft
        try:
            if top and (waiting := self._pass_on(top)) is not None:
                await waiting
            envelope = self._envelope(draft.id, self._written)
            delivered = await draft.commit(envelope)
        except Undelivered as undelivered:
            status = undelivered.outcome.status
            return self._turn_down(
                Objection(str(undelivered), BUILT_IN, _UNDELIVERED.get(status, TROUBLE_451))
            )
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
        for recipient, outcome in delivered.items():
            journal.delivered(draft.id, recipient.address, outcome)
        if len(delivered) == len(envelope.recipients):
            journal.removed(draft.id)  # it never was in the queue: its story ends as every message's does
        return OK_250.saying(f"Ok: queued as {draft.id}")

    def _drop(self) -> None:
        if not self._ended:
            self._ended = True
            self._draft.abandon()

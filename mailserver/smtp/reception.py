"""The reception: decides about one message's sender, recipients and content, and brings it to the spool.

:class:`Office` stands for what all sessions share; it makes one :class:`Reception` for each mail transaction,
as ``twisted.mail`` means IMessageDeliveryFactory to. A transaction goes by the rules that held when it began:
whoever reloads the configuration puts new :class:`Rules` into the office and disturbs nobody.

The hooks keep Twisted's names and roles but take values, and say no by raising :class:`Refused`. Any hook may
return something to wait for. Every refusal is in the journal with its rule; the client reads a generic text.

Promises: one draft for one message, however many recipients; each final recipient once, though named twice or
reached through several aliases.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from attrs import define, field, frozen
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory
from zope.interface import implementer

from mailserver import journal
from mailserver.access.profiles import Over, Profile, Require, meets
from mailserver.access.rates import Rates
from mailserver.access.relay import may_send, refusal
from mailserver.interfaces import Account, IDirectory, ISpool, Nobody, NotHosted, Relayed
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.reply import (
    LOGIN_NEEDED_530,
    MAILBOX_FULL_452,
    NO_SPACE_452,
    NOT_YOUR_ADDRESS_553,
    TLS_NEEDED_530,
    TOO_BIG_552,
    TOO_MANY_RECIPIENTS_452,
    TOO_MUCH_450,
    TOO_MUCH_550,
    Reply,
)
from mailserver.model.source import BUILT_IN, Source
from mailserver.smtp.authorship import Authorship
from mailserver.smtp.heading import Heading
from mailserver.smtp.message import Limits, Message, Objection
from mailserver.smtp.room import Ask, always
from mailserver.smtp.rules import Rules
from mailserver.smtp.usage import Usage
from mailserver.wire.smtp import MailParameters, RcptParameters
from mailserver.wire.trace import received

__all__ = ["Limits", "Message", "Office", "Reception", "Refused", "Rules", "Sender", "UnknownRecipient"]

_NO_ID = QueueID("")
_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()


class Refused(Exception):
    """A hook says no; ``reply`` is what the client is told."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class UnknownRecipient(Refused):
    """A stranger named somebody who does not live here."""


async def _unknown() -> int | None:
    return None


@implementer(IMessageDeliveryFactory)
@define(eq=False)
class Office:
    """What all receptions share.

    :ivar hostname: our name, for Received.
    :ivar rules: those for transactions that begin from now on; may be replaced at any time.
    :ivar now: seconds since 1970.
    :ivar room: whether any of a message's recipients has room for it.
    :ivar usage: what is counted.
    :ivar free: the octets of room on the disk, where that is known.
    :ivar look_at_disk: the same as of now.
    """

    hostname: str
    directory: IDirectory
    spool: ISpool
    rules: Rules
    now: Callable[[], float]
    room: Ask = always
    usage: Usage = field(factory=lambda: Usage(Rates(lambda: 0.0)))
    free: Callable[[], int | None] = lambda: None
    look_at_disk: Callable[[], Awaitable[int | None]] = _unknown

    def getMessageDelivery(self) -> "Reception":
        """A reception for one transaction."""
        return Reception(self)


@implementer(IMessageDeliveryFactory)
@frozen
class Sender:
    """An account that has logged in: what a login gives to an SMTP session."""

    office: Office
    account: Account

    def getMessageDelivery(self) -> "Reception":
        """A reception for one transaction."""
        return self.office.getMessageDelivery()


@implementer(IMessageDelivery)
class Reception:
    """One mail transaction, from MAIL to DATA.

    ``validateFrom`` comes first and once, ``validateTo`` once for each RCPT, ``message`` last; a transaction
    that is reset is simply forgotten.
    """

    __slots__ = (
        "_accepted",
        "_first",
        "_hold",
        "_limits",
        "_office",
        "_parameters",
        "_recipients",
        "_rules",
        "origin",
        "profile",
        "sender",
    )

    def __init__(self, office: Office) -> None:
        self.origin = Origin()
        self.sender = NULL_SENDER
        self._office = office
        self._rules = office.rules
        self._limits = office.rules.limits
        self._hold = ""  # why the message is to be held
        self.profile: Profile | None = None
        self._parameters = _NO_MAIL_PARAMETERS
        self._recipients: dict[str, Recipient] = {}
        self._first = NULL_SENDER  # the first recipient, as the client named it
        self._accepted = 0

    @property
    def hasRecipients(self) -> bool:
        """Whether a recipient has been accepted."""
        return self._accepted > 0

    @property
    def sloppy(self) -> bool:
        """Whether the client is a device whose line ends and header fields are mended."""
        return self.profile is not None and self.profile.sloppy

    def validateFrom(
        self, helo: Origin, origin: Address, parameters: MailParameters = _NO_MAIL_PARAMETERS
    ) -> Awaitable[None] | None:
        """Begin a transaction of the sender ``origin``, whose client is ``helo``."""
        self.origin = helo
        self.sender = origin
        self._parameters = parameters
        self.profile = self._rules.networks.match(helo.address)
        self._check_requirements()
        if helo.login:
            self._check_ownership()
        limits = self._limits = self._rules.limits_for(self.profile)
        if parameters.size is not None and parameters.size > limits.message_size:
            reason = f"{parameters.size} octets announced, {limits.message_size} allowed"
            raise self._refused(f"MAIL <{origin}>", reason, limits.source, TOO_BIG_552)
        return self._check_disk(parameters.size or 0, limits.source)

    def validateTo(
        self, user: Address, parameters: RcptParameters = _NO_RCPT_PARAMETERS
    ) -> Awaitable[None] | None:
        """Take a recipient."""
        waiting = self._validate(user, parameters)
        if self.origin.login and self._office.usage.knows(self._rules.rates):
            return self._acquaint(waiting, user)
        return waiting

    def _validate(self, user: Address, parameters: RcptParameters) -> Awaitable[None] | None:
        limits = self._limits
        if self._accepted >= limits.recipients:
            reason = f"more than {limits.recipients} recipients"
            raise self._refused(f"RCPT <{user}>", reason, limits.source, TOO_MANY_RECIPIENTS_452)
        directory = self._office.directory
        standing = directory.find(user)
        verdict = may_send(self.profile, self.origin.login, standing, user, self.sender)
        if not verdict.allowed:
            refused = self._refused(f"RCPT <{user}>", verdict.reason, verdict.source, refusal(standing))
            nobody = isinstance(standing, Nobody | Relayed)
            guessed = nobody and self.profile is None and not self.origin.login
            raise UnknownRecipient(refused.reply) if guessed else refused
        self._count(user)
        named = Recipient(user, parameters.original, parameters.notify)
        if isinstance(standing, NotHosted | Relayed):
            self._take(user, (named,))
            return None
        recipients = directory.expand(named)
        room = self._office.room(recipients, self._parameters.size or 0)
        if self._is_to_report(named, recipients):
            recipients = (named,)
        if isinstance(room, bool):
            self._take_if(room, user, recipients)
            return None
        return self._take_later(room, user, recipients)

    def _is_to_report(self, named: Recipient, expanded: Sequence[Recipient]) -> bool:
        """Whether the alias is expanded in the queue, where reports are made: for "expanded" (RFC 3464)."""
        if named.notify is None or "SUCCESS" not in named.notify:
            return False
        passed_on = any(one.notify == named.notify for one in expanded)
        return not passed_on and self._office.directory.hosts(named.address.domain)

    async def _take_later(
        self, room: Awaitable[bool], user: Address, recipients: Sequence[Recipient]
    ) -> None:
        self._take_if(await room, user, recipients)

    def _take_if(self, room: bool, user: Address, recipients: Sequence[Recipient]) -> None:
        if not room:
            raise self._refused(f"RCPT <{user}>", "over quota", BUILT_IN, MAILBOX_FULL_452)
        self._take(user, recipients)

    def _take(self, user: Address, recipients: Sequence[Recipient]) -> None:
        for recipient in recipients:
            self._recipients.setdefault(self._identity(recipient.address), recipient)
        if not self._accepted:
            self._first = user
        self._accepted += 1

    def _count(self, user: Address) -> None:
        """Count it against the rates; what is over one is refused, or the message is to be held."""
        usage = self._office.usage
        excess = usage.count(self._rules.rates, self.profile, self.origin, not self._accepted)
        if excess is None:
            return
        verdict = excess.verdict
        if excess.over is not Over.HOLD:
            reply = TOO_MUCH_450 if excess.over is Over.DELAY else TOO_MUCH_550
            raise self._refused(f"RCPT <{user}>", verdict.reason, verdict.source, reply)
        self._hold = self._hold or verdict.reason
        if excess.news:
            usage.sound_alarm(self.origin, verdict)

    async def _acquaint(self, waiting: Awaitable[None] | None, user: Address) -> None:
        if waiting is not None:
            await waiting
        verdict = await self._office.usage.acquaint(self._rules.rates, self.origin, user)
        if not verdict.allowed:
            self._hold = self._hold or verdict.reason

    def message(self) -> Message:
        """Begin the content. The transaction is over with it."""
        recipients = self.recipients
        draft = self._office.spool.draft(self.sender, recipients)
        header = self.receivedHeader(self.origin, self.sender, recipients, draft.id)
        return Message(
            draft,
            header,
            self._limits,
            self._envelope,
            self._objected,
            partial(self._rewrite, self._heading(draft.id)),
            room=lambda octets: self._office.room(recipients, octets),
        )

    def receivedHeader(
        self, helo: Origin, origin: Address, recipients: Sequence[Recipient], id: QueueID = _NO_ID
    ) -> bytes:
        """The Received field of the message (RFC 5321 §4.4).

        It names the recipient, as the client did, only where there is no other: lest one learns of
        another (RFC 5321 §7.2).
        """
        office = self._office
        only = self._first if self._accepted == 1 and len(recipients) == 1 else None
        hidden = bool(helo.login) and self._rules.hide_client
        return received(helo, office.hostname, id, only, office.now(), hidden)

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """The final recipients so far."""
        return tuple(self._recipients.values())

    def _envelope(self, id: QueueID, size: int) -> Envelope:
        self._office.usage.sent(self.origin, self.profile, self._accepted)
        return Envelope(
            id=id,
            sender=self.sender,
            recipients=self.recipients,
            origin=self.origin,
            arrived=self._office.now(),
            size=size,
            body=self._parameters.body,
            smtputf8=self._parameters.smtputf8,
            ret=self._parameters.ret,
            envid=self._parameters.envid,
            requiretls=self._parameters.requiretls,
            marks=self._marks(),
        )

    def _marks(self) -> dict[str, str]:
        marks = {"hold": self._hold} if self._hold else {}
        if self.profile is None and not self.origin.login:
            marks["stranger"] = "yes"
        return marks

    def _identity(self, address: Address) -> str:
        # Case tells nobody apart here; elsewhere it may (RFC 5321 §2.4).
        return address.key if self._office.directory.hosts(address.domain) else str(address)

    def _check_disk(self, octets: int, rule: Source) -> Awaitable[None] | None:
        free, reserve = self._office.free(), self._rules.reserve
        if free is None or free - octets >= reserve:
            return None
        return self._check_disk_again(octets, rule)

    async def _check_disk_again(self, octets: int, rule: Source) -> None:
        """What was found a while ago is not good enough to refuse mail by."""
        free, reserve = await self._office.look_at_disk(), self._rules.reserve
        if free is not None and free - octets < reserve:
            reason = f"{free} octets free, {octets} announced, {reserve} in reserve"
            raise self._refused(f"MAIL <{self.sender}>", reason, rule, NO_SPACE_452)

    def _heading(self, id: QueueID) -> Heading:
        office, submitted = self._office, bool(self.origin.login)
        return Heading(office.hostname, id, self.sender, office.now(), submitted, self.sloppy)

    def _rewrite(self, heading: Heading, section: bytes) -> bytes:
        rewritten = heading.rewrite(section)
        if self.origin.login:
            Authorship(self._office.directory, self.origin.login).check(section)
        return rewritten

    def _check_requirements(self) -> None:
        verdict = meets(self.profile, bool(self.origin.tls), self.origin.login)
        if not verdict.allowed:
            assert self.profile is not None
            reply = TLS_NEEDED_530 if self.profile.require is Require.TLS else LOGIN_NEEDED_530
            raise self._refused(f"MAIL <{self.sender}>", verdict.reason, verdict.source, reply)

    def _check_ownership(self) -> None:
        verdict = Authorship(self._office.directory, self.origin.login).judge(self.sender)
        if not verdict.allowed:
            what = f"MAIL <{self.sender}>"
            raise self._refused(what, verdict.reason, verdict.source, NOT_YOUR_ADDRESS_553)

    def _objected(self, it: Objection) -> None:
        self._note(f"DATA from <{self.sender}>", it.reason, it.rule, it.reply)

    def _refused(self, what: str, reason: str, rule: Source, reply: Reply) -> Refused:
        self._note(what, reason, rule, reply)
        return Refused(reply)

    def _note(self, what: str, reason: str, rule: Source, reply: Reply) -> None:
        journal.refused(self.origin, what, reason, rule, f"{reply.code} {reply.status}", self.sender)
        self._office.usage.refused(self.origin, self.profile, f"{what}: {reason}")

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

from attrs import define, frozen
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory
from zope.interface import implementer

from mailserver import journal
from mailserver.access.networks import Networks
from mailserver.access.relay import may_send, refusal
from mailserver.interfaces import IDirectory, ISpool, NotHosted
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.reply import TOO_BIG_552, TOO_MANY_RECIPIENTS_452, Reply
from mailserver.model.source import Source
from mailserver.smtp.message import Limits, Message
from mailserver.wire.smtp import MailParameters, RcptParameters
from mailserver.wire.trace import received

__all__ = ["Limits", "Message", "Office", "Reception", "Refused", "Rules"]

_NO_ID = QueueID("")
_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()


class Refused(Exception):
    """A hook says no; ``reply`` is what the client is told."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


@frozen
class Rules:
    """What a reload replaces: ``relay`` are the networks that are relayed for."""

    relay: Networks
    limits: Limits


@implementer(IMessageDeliveryFactory)
@define(eq=False)
class Office:
    """What all receptions share.

    :ivar hostname: our name, for Received.
    :ivar rules: those for transactions that begin from now on; may be replaced at any time.
    :ivar now: seconds since 1970.
    """

    hostname: str
    directory: IDirectory
    spool: ISpool
    rules: Rules
    now: Callable[[], float]

    def getMessageDelivery(self) -> "Reception":
        """A reception for one transaction."""
        return Reception(self)


@implementer(IMessageDelivery)
class Reception:
    """One mail transaction, from MAIL to DATA.

    ``validateFrom`` comes first and once, ``validateTo`` once for each RCPT, ``message`` last; a transaction
    that is reset is simply forgotten.
    """

    __slots__ = (
        "_accepted",
        "_first",
        "_office",
        "_parameters",
        "_recipients",
        "_relay",
        "_rules",
        "origin",
        "sender",
    )

    def __init__(self, office: Office) -> None:
        self.origin = Origin()
        self.sender = NULL_SENDER
        self._office = office
        self._rules = office.rules
        self._relay: Source | None = None
        self._parameters = _NO_MAIL_PARAMETERS
        self._recipients: dict[str, Recipient] = {}
        self._first = NULL_SENDER  # the first recipient, as the client named it
        self._accepted = 0

    @property
    def hasRecipients(self) -> bool:
        """Whether a recipient has been accepted."""
        return self._accepted > 0

    def validateFrom(
        self, helo: Origin, origin: Address, parameters: MailParameters = _NO_MAIL_PARAMETERS
    ) -> Awaitable[None] | None:
        """Begin a transaction of the sender ``origin``, whose client is ``helo``."""
        self.origin = helo
        self.sender = origin
        self._parameters = parameters
        self._relay = self._rules.relay.match(helo.address)
        limits = self._rules.limits
        if parameters.size is not None and parameters.size > limits.message_size:
            reason = f"{parameters.size} octets announced, {limits.message_size} allowed"
            raise self._refused(f"MAIL <{origin}>", reason, limits.source, TOO_BIG_552)
        return None

    def validateTo(
        self, user: Address, parameters: RcptParameters = _NO_RCPT_PARAMETERS
    ) -> Awaitable[None] | None:
        """Take a recipient."""
        limits = self._rules.limits
        if self._accepted >= limits.recipients:
            reason = f"more than {limits.recipients} recipients"
            raise self._refused(f"RCPT <{user}>", reason, limits.source, TOO_MANY_RECIPIENTS_452)
        directory = self._office.directory
        standing = directory.find(user)
        verdict = may_send(self._relay, self.origin.login, standing, user)
        if not verdict.allowed:
            raise self._refused(f"RCPT <{user}>", verdict.reason, verdict.source, refusal(standing))
        named = Recipient(user, parameters.original, parameters.notify)
        if isinstance(standing, NotHosted):
            self._recipients.setdefault(str(user), named)
        else:
            for recipient in directory.expand(named):
                self._recipients.setdefault(self._identity(recipient.address), recipient)
        if not self._accepted:
            self._first = user
        self._accepted += 1
        return None

    def message(self) -> Message:
        """Begin the content. The transaction is over with it."""
        recipients = self.recipients
        draft = self._office.spool.draft(self.sender, recipients)
        header = self.receivedHeader(self.origin, self.sender, recipients, draft.id)
        return Message(draft, header, self._rules.limits, self._envelope, self._objected)

    def receivedHeader(
        self, helo: Origin, origin: Address, recipients: Sequence[Recipient], id: QueueID = _NO_ID
    ) -> bytes:
        """The Received field of the message (RFC 5321 §4.4).

        It names the recipient, as the client did, only where there is no other: lest one learns of
        another (RFC 5321 §7.2).
        """
        office = self._office
        only = self._first if self._accepted == 1 and len(recipients) == 1 else None
        return received(helo, office.hostname, id, only, office.now())

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """The final recipients so far."""
        return tuple(self._recipients.values())

    def _envelope(self, id: QueueID, size: int) -> Envelope:
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
        )

    def _identity(self, address: Address) -> str:
        # Case tells nobody apart here; elsewhere it may (RFC 5321 §2.4).
        return address.key if self._office.directory.hosts(address.domain) else str(address)

    def _objected(self, reason: str, rule: Source, reply: Reply) -> None:
        what = f"DATA from <{self.sender}>"
        journal.refused(self.origin, what, reason, rule, f"{reply.code} {reply.status}")

    def _refused(self, what: str, reason: str, rule: Source, reply: Reply) -> Refused:
        journal.refused(self.origin, what, reason, rule, f"{reply.code} {reply.status}")
        return Refused(reply)

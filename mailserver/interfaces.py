"""The seams of the server: what each floor may ask of the one below, in sentences.

Every interface here has at most five methods. Methods declared ``async`` are coroutine functions: calling
one does nothing until it is awaited. Nothing here may be called from a thread other than the reactor's.
A test per implementation holds it against its interface with ``verifyObject``.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from attrs import frozen
from zope.interface import Attribute, Interface

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.exchanger import MX, Exchanger
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome
from mailserver.model.source import BUILT_IN, Source
from mailserver.model.tlsa import TLSA

__all__ = [
    "Account",
    "Answers",
    "Declined",
    "Duty",
    "Forward",
    "IContent",
    "ICourier",
    "IDirectory",
    "IDraft",
    "ILockout",
    "IMailStore",
    "IQueue",
    "IReport",
    "IResolver",
    "IShared",
    "ISpool",
    "ITransmitter",
    "Lock",
    "MailboxFull",
    "MaildropInUse",
    "NoSuchData",
    "NoSuchName",
    "Nobody",
    "NotHosted",
    "Relayed",
    "SenderRights",
    "Settlement",
    "Standing",
    "StorageFull",
    "StorageTrouble",
    "Unanswered",
    "Undelivered",
    "Verdict",
    "Waiting",
]


# --- what storage raises -----------------------------------------------------------------------------


class StorageTrouble(Exception):
    """The disk, or the store on it, would not do it now. Temporary: the same call may work later."""


class StorageFull(StorageTrouble):
    """There is no room: no space, no inodes, or a quota of the file system."""


class MailboxFull(Exception):
    """The message does not fit the mailbox's quota (RFC 5321 §3.7.1, 452 4.2.2)."""


class Undelivered(Exception):
    """Nobody got the message, which is not this server's; ``outcome`` says why, and whether for good."""

    def __init__(self, outcome: Delayed | Failed) -> None:
        super().__init__(outcome.reply)
        self.outcome = outcome


class MaildropInUse(Exception):
    """Another POP3 session holds the maildrop's lock (RFC 2449 §8.1.1)."""


# --- what the administrator asks ---------------------------------------------------------------------


class Declined(Exception):
    """What the administrator asked for cannot be done; the text says why, to him."""


# --- content -----------------------------------------------------------------------------------------


class IContent(Interface):
    """The content of one stored message, in wire form: CRLF line ends, not dot-stuffed. Never changes."""

    size: int = Attribute("Its octets.")
    is_in_pairs: bool = Attribute("Whether it is known that CR and LF stand in pairs only in all of it.")

    def whole() -> bytes | None:
        """All of it where it is at hand without touching the disk, else ``None``."""

    async def read(offset: int, length: int) -> bytes:
        """Up to ``length`` octets from ``offset`` on; empty only at the end.

        Raises :class:`StorageTrouble`.
        """


# --- the spool, seen by those who bring mail ---------------------------------------------------------


class IDraft(Interface):
    """A message on its way to rest: in the spool, or straight in mailboxes.

    Nothing of it exists for anybody until :meth:`commit` has returned; a crash before that leaves
    nothing but litter that the next start sweeps. Exactly one of ``commit`` and ``abandon`` ends a draft.
    """

    id: QueueID = Attribute("The queue ID the message will have.")

    def write(data: bytes) -> Awaitable[None] | None:
        """Add content in wire form.

        Returns ``None`` when more may follow at once, or something to wait for while the disk catches
        up. Never raises for the disk: a disk that fails or fills is remembered, what follows is
        dropped, and ``commit`` tells.
        """

    async def commit(envelope: Envelope) -> Mapping[Recipient, Delivered]:
        """Make the message durable; it is this server's once this returns (RFC 5321 §6.1).

        ``envelope.id`` is the draft's. Returns those whose copies are in their mailboxes by then; for the
        others it waits. Raises :class:`StorageFull`, :class:`StorageTrouble` or :class:`Undelivered`, and
        then nothing waits.
        """

    def abandon() -> None:
        """Forget it. Harmless when the draft has ended already."""


class ISpool(Interface):
    """Where accepted mail waits: the receiving side's view."""

    def draft(sender: Address, recipients: Sequence[Recipient]) -> IDraft:
        """Begin a message. Touches no disk, cannot fail."""

    def detains(envelope: Envelope) -> bool:
        """Whether the message is to wait in the queue, by a mark of its own or the administrator's orders.

        Answers from memory. Once an order has been answered, this goes by it.
        """


# --- the spool, seen by those who deliver ------------------------------------------------------------


@frozen
class Waiting:
    """One recipient that waits.

    :ivar attempts: how often it has been tried.
    :ivar warned: a delay report about it has been stored.
    :ivar reroute: the host, as ``--via`` names it, that the administrator has it go to; empty: as routed.
    """

    recipient: Recipient
    attempts: int = 0
    warned: bool = False
    reroute: str = ""


@frozen
class Duty:
    """What is due for one message at one destination: one transaction's worth of work (law 6).

    :ivar destination: the recipients' common domain.
    """

    envelope: Envelope
    destination: str
    waiting: tuple[Waiting, ...]


@frozen
class Taking:
    """What one look at the queue has brought.

    :ivar duties: those taken.
    :ivar left: the destinations for which something is due, or may be, that nobody has taken: because nothing
        was to be taken for them, or because it would have been too much at once. Not those that are paused.
    """

    duties: Sequence[Duty]
    left: frozenset[str] = frozenset()


@frozen
class Settlement:
    """What is to be recorded about one recipient after an attempt.

    :ivar next_attempt: when to try again; ``None`` when this recipient waits no more.
    :ivar warned: a delay report is among the reports stored with this settlement.
    """

    outcome: Outcome
    next_attempt: float | None = None
    warned: bool = False


class IReport(Interface):
    """A message made by this server, to be stored by the same door as all mail (law 7)."""

    envelope: Envelope = Attribute("Its envelope; the sender is null.")
    content: bytes = Attribute("Its content in wire form.")


class IQueue(Interface):
    """Where accepted mail waits: the delivering side's view.

    A duty handed out by :meth:`take`, or on arrival, is not handed out again until it is settled or released,
    or the process ends. One process delivers.
    """

    on_arrival = Attribute(
        """Called in the reactor's thread after a commit: with the duties of mail that it stored, which are
        taken, so that each is to be settled or released; with none where something else has become due, and
        such a call may be lost. ``None``: nobody wants them."""
    )

    async def take(now: float, full: frozenset[str], limit: int) -> Taking:
        """Up to ``limit`` duties due at ``now`` for destinations not in ``full``.

        Of each destination the longest due come first, and no destination's wealth of due mail keeps
        another's from being seen. Says where more is due. Costs nothing that grows with the number of
        messages waiting.
        """

    async def next_due() -> float | None:
        """When the earliest recipient that nobody has taken falls due; ``None`` if none waits."""

    async def content(id: QueueID) -> IContent:
        """The content of a taken message. Raises :class:`StorageTrouble`."""

    async def settle(
        duty: Duty, settlements: Mapping[Recipient, Settlement], reports: Sequence[IReport]
    ) -> None:
        """Record an attempt's outcomes and store the reports owed, in one durable step.

        A message for which nobody waits any more is removed by the same step, never before. Ends the
        duty. Raises :class:`StorageTrouble`: nothing is recorded then, the duty is still taken, and
        the call may be made again.
        """

    def release(duty: Duty) -> None:
        """Give a duty back as if it had not been taken."""


# --- delivery ----------------------------------------------------------------------------------------


class ICourier(Interface):
    """Brings mail one step further: to a mailbox, to the next host, to a program."""

    async def deliver(
        envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """Try once, now, and answer for every recipient.

        Never raises for a delivery problem. Cancelling it means: the server stops; whatever was not
        answered for by then is tried again at the next start.
        """


class ITransmitter(Interface):
    """The way to other hosts: one host, one message."""

    async def transmit(
        exchanger: Exchanger, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """Offer the message to this host, and answer for every recipient. Never raises for a peer."""


# --- DNS ---------------------------------------------------------------------------------------------


class NoSuchName(Exception):
    """NXDOMAIN: the name does not exist. Permanent."""


class NoSuchData(Exception):
    """The name exists but has no record of the type asked for. Permanent."""


class Unanswered(Exception):
    """SERVFAIL, REFUSED, a timeout, or no server: nobody knows. Temporary, always."""


T = TypeVar("T")


class Answers(tuple[T, ...]):
    """The records of an answer.

    :ivar secure: DNSSEC vouches for them, and for all aliases on the way, says a resolver that is believed in
        this (RFC 4035 §3.2.3).
    :ivar name: who has them, at the end of all aliases; empty where nobody has said.
    """

    secure: bool
    name: str

    def __new__(cls, records: Iterable[T] = (), secure: bool = False, name: str = "") -> Self:
        answers = super().__new__(cls, records)
        answers.secure = secure
        answers.name = name
        return answers


class IResolver(Interface):
    """What mail asks of DNS. Names are A-labels without the final dot.

    Every method raises :class:`NoSuchName`, :class:`NoSuchData` or :class:`Unanswered`. An answer that DNSSEC
    says is forged is the last of these.
    """

    async def mx(name: str) -> Answers[MX]:
        """The MX records, in no order. A null MX is one record with an empty host (RFC 7505)."""

    async def addresses(name: str) -> Answers[str]:
        """All IPv6 and IPv4 addresses. One family failing while the other answers is not a failure."""

    async def tlsa(name: str) -> Answers[TLSA]:
        """The TLSA records (RFC 6698), usable or not."""

    async def txt(name: str) -> tuple[bytes, ...]:
        """The TXT records, the strings of each joined."""

    async def pointer(address: str) -> tuple[str, ...]:
        """The names of an IP address (PTR)."""


# --- who lives here ----------------------------------------------------------------------------------


@frozen
class Account:
    """A mailbox that exists here.

    :ivar name: its canonical name, ``alice@example.lan``: lower case, one spelling.
    :ivar quota: in octets; 0 means none.
    :ivar messages: how many the mailbox may hold; 0 means any number.
    :ivar disabled: takes no mail and no login, though the name exists and the mailbox stays.
    :ivar routed: a route is named for its domain: its mail may go another way than to a mailbox here, which
        routing knows and nobody else.
    """

    name: str
    quota: int = 0
    source: Source = BUILT_IN
    messages: int = 0
    disabled: bool = False
    routed: bool = False


@frozen
class Forward:
    """An alias, fully expanded.

    :ivar targets: where the mail goes: accounts here or addresses elsewhere; no duplicates; empty only
        where there are commands.
    :ivar commands: programs that get a copy each, as written in the alias file after ``|``.
    :ivar reports_only: takes mail from the null sender only: an address under which forwarded mail went out.
    """

    targets: tuple[Address, ...]
    source: Source
    commands: tuple[str, ...] = ()
    reports_only: bool = False


@frozen
class Nobody:
    """The domain is hosted here and has no such user."""

    source: Source


@frozen
class NotHosted:
    """The domain is not hosted here."""


@frozen
class Relayed:
    """The domain is not hosted here, but a route says that mail for it is taken from anybody and handed on.

    :ivar source: the route.
    :ivar known: whether the address may exist there; ``False``: it is not among those that are listed.
    """

    source: Source
    known: bool = True


Standing = Account | Forward | Nobody | NotHosted | Relayed


@frozen
class SenderRights:
    """As whom an account may send, beside its own name and the aliases that lead to it.

    :ivar extra: keys of addresses, and ``@example.org`` for all of a domain.
    :ivar check_from: whether the From field of what it sends is held against this, too.
    :ivar source: where it stands.
    """

    extra: frozenset[str] = frozenset()
    check_from: bool = True
    source: Source = BUILT_IN


class IDirectory(Interface):
    """Who lives here. Every answer comes from memory, in constant time."""

    def find(address: Address) -> Standing:
        """What an address means here. ``postmaster`` exists in every hosted domain, and bare."""

    def expand(recipient: Recipient) -> tuple[Recipient, ...]:
        """The recipients that a message for this one is queued for.

        An account and an address elsewhere stand for themselves; an alias for its targets, each with
        the alias as ``original``, and for itself too where it has commands. Empty for
        :class:`Nobody`. Where an alias has several targets, they are not asked to report success: the
        alias is (RFC 3461 §5.2.7.2).
        """

    def hosts(domain: str) -> bool:
        """Whether the domain (lower case, A-labels) is hosted here."""

    def domains() -> tuple[str, ...]:
        """The hosted domains, sorted."""

    def sender_rights(login: str) -> SenderRights:
        """As whom an account may send, beside its own name and the aliases that lead to it."""


class IMailStore(Interface):
    """Where mail rests until it is fetched."""

    async def deliver(account: Account, content: IContent, header: bytes) -> None:
        """Put a message, with ``header`` (whole CRLF lines) on top, durably into the account's mailbox.

        In the header no CR and no LF stands alone. The mailbox comes into being with its first message.
        Raises :class:`MailboxFull`, :class:`StorageFull` or :class:`StorageTrouble`, and then nothing of it
        is in the mailbox.
        """

    def deliver_copies(
        accounts: Sequence[Account], content: IContent, header: bytes
    ) -> Awaitable[list[Exception | None]]:
        """Put one message into several mailboxes, written once where the file system can link it.

        Returns, for each account, ``None`` or what :meth:`deliver` would have raised. One mailbox's
        trouble is not another's.
        """

    def room(account: Account, octets: int) -> Awaitable[bool] | bool:
        """Whether a message of so many octets would fit the mailbox now.

        Answers at once where it knows. What cannot be found out is taken for yes: the delivery checks
        again. Never raises.
        """

    async def maildrop(account: Account) -> object:
        """Lock the account's maildrop and take a snapshot: a ``twisted.mail.interfaces.IMailboxPOP3``.

        Raises :class:`MaildropInUse` or :class:`StorageTrouble`.
        """


# --- permission --------------------------------------------------------------------------------------


@frozen
class Verdict:
    """What a policy decided, why, and which line of which file says so (law 9).

    :ivar reason: for the operator: may name what strangers must not learn.
    """

    allowed: bool
    reason: str
    source: Source = BUILT_IN


# --- guessed passwords -------------------------------------------------------------------------------


@frozen
class Lock:
    """Somebody who is locked out.

    :ivar client: the client's address, or IPv6 network.
    :ivar account: the account that cannot be logged in to from there; empty: none can.
    :ivar seconds: for how long.
    """

    client: str
    account: str
    seconds: float


class ILockout(Interface):
    """Who has guessed passwords too often. One for all services; every answer comes from memory."""

    def judge(client: str, account: str) -> Verdict:
        """Whether this client may try to log in to this account now. Asked before anything is hashed."""

    def failed(client: str, account: str, guess: bytes) -> float:
        """A login failed. Returns the seconds after which the client is to be told.

        :param guess: tells equal passwords from others, without telling the password; empty where that
            cannot be told.
        """

    def succeeded(client: str, account: str) -> None:
        """A login succeeded."""

    def locks() -> tuple[Lock, ...]:
        """All locks there are now."""

    def lift(client: str) -> int:
        """Forget all that is known about a client. Returns how many locks that opened."""


# --- what several processes remember together --------------------------------------------------------


class IShared(Interface):
    """A memory that several processes keep together, so that each can answer from its own.

    Each holds all of it. What one learns it tells; the one that holds the others together passes it on, and
    has every one hear it. News and memories are spelled in what JSON knows. Two that learn at the same moment
    do not know of each other: a limit can be passed by as many as there are processes.
    """

    tell = Attribute("Is called with each piece of news. Does nothing until somebody replaces it.")

    def hear(news: Any, source: int) -> None:
        """Take in what another process has told.

        :param source: the worker it comes from; 0: the process that holds them together.
        """

    def lost(source: int) -> None:
        """A worker has ended: what was true only while it lived is true no more."""

    def remember() -> Any:
        """All that is known, for a process that begins."""

    def recall(memory: Any) -> None:
        """Begin with what another process remembers."""

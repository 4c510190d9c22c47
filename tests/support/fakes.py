"""Stand-ins for the rooms below the protocols, with faults that can be played.

Each implements its interface of :mod:`mailserver.interfaces` and is held against it by a test of its own
(``tests/unit/test_fakes.py``).
"""

from collections.abc import Awaitable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver.interfaces import (
    Account,
    Forward,
    IContent,
    IDirectory,
    IDraft,
    ISpool,
    Nobody,
    NotHosted,
    SenderRights,
    Standing,
)
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delivered
from mailserver.model.source import Source
from mailserver.wire.dots import in_pairs

__all__ = ["FakeContent", "FakeDirectory", "FakeDraft", "FakeSpool", "Gate", "address"]


def address(text: str) -> Address:
    """``alice@example.lan`` as a value; empty for the null sender."""
    local, _, domain = text.rpartition("@") if "@" in text else (text, "", "")
    return Address(local, domain)


@implementer(IDirectory)
class FakeDirectory:
    """Accounts and aliases in dictionaries; every domain that one of them has is hosted.

    :param users: ``alice@example.lan`` …, in lower case. ``postmaster`` is the first of them, everywhere.
    :param aliases: ``staff@example.lan`` → addresses, which may be aliases again.
    """

    def __init__(self, users: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        self.accounts = {
            name: Account(name, source=Source("users", line)) for line, name in enumerate(users, 1)
        }
        self.aliases = {name: tuple(targets) for name, targets in (aliases or {}).items()}
        self.rights: dict[str, SenderRights] = {}
        self._domains = {name.rpartition("@")[2] for name in (*self.accounts, *self.aliases)}

    def find(self, address: Address) -> Standing:
        if address.local.lower() == "postmaster" and (not address.domain or self.hosts(address.domain)):
            return next(iter(self.accounts.values()))
        if not self.hosts(address.domain):
            return NotHosted()
        if address.key in self.aliases:
            return Forward(tuple(self._targets(address.key)), Source("aliases", 1))
        return self.accounts.get(address.key) or Nobody(Source(f"domains/{address.domain}"))

    def expand(self, recipient: Recipient) -> tuple[Recipient, ...]:
        standing = self.find(recipient.address)
        if isinstance(standing, Nobody):
            return ()
        if isinstance(standing, Forward):
            original = recipient.original or f"rfc822;{recipient.address}"
            notify = recipient.notify
            if notify is not None and len(standing.targets) > 1:
                notify = notify - {"SUCCESS"} or frozenset({"NEVER"})
            return tuple(Recipient(target, original, notify) for target in standing.targets)
        return (recipient,)

    def hosts(self, domain: str) -> bool:
        return domain in self._domains

    def domains(self) -> tuple[str, ...]:
        return tuple(sorted(self._domains))

    def sender_rights(self, login: str) -> SenderRights:
        return self.rights.get(login, SenderRights())

    def _targets(self, key: str, seen: tuple[str, ...] = ()) -> dict[Address, None]:
        found: dict[Address, None] = {}
        for target in self.aliases[key]:
            if target in self.aliases and target not in seen:
                found |= self._targets(target, (*seen, key))
            else:
                found[address(target)] = None
        return found


class Gate:
    """Open, it lets everything pass; shut, those who come wait until it is opened."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self._shut = False

    def shut(self) -> None:
        """From now on, wait."""
        self._shut = True

    def open(self) -> None:
        """Let all pass, now and from now on."""
        self._shut = False
        self.let(len(self.waiting))

    def let(self, count: int = 1) -> None:
        """Let the ``count`` that have waited longest pass."""
        passing, self.waiting = self.waiting[:count], self.waiting[count:]
        for waiter in passing:
            waiter.callback(None)

    def enter(self) -> "Deferred[None] | None":
        """``None``, or something to wait for."""
        if not self._shut:
            return None
        waiter: Deferred[None] = Deferred()
        self.waiting.append(waiter)
        return waiter


@implementer(IContent)
class FakeContent:
    """Content in memory; ``whole_at_hand`` says whether :meth:`whole` gives it."""

    is_in_pairs = False

    def __init__(self, data: bytes, whole_at_hand: bool = True) -> None:
        self.data = data
        self.size = len(data)
        self._at_hand = whole_at_hand

    def whole(self) -> bytes | None:
        return self.data if self._at_hand else None

    async def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@implementer(IDraft)
class FakeDraft:
    """A draft in memory. Complains loudly when it is used after its end."""

    def __init__(self, spool: "FakeSpool", id: QueueID, sender: Address, recipients: Sequence[Recipient]):
        self.id = id
        self.sender = sender
        self.recipients = tuple(recipients)
        self.chunks: list[bytes] = []
        self.committing = self.abandoned = False
        self._spool = spool

    @property
    def ended(self) -> bool:
        """Whether nothing more may be done with it."""
        return self.committing or self.abandoned

    def write(self, data: bytes) -> Awaitable[None] | None:
        assert not self.ended, "write after the draft's end"
        # What direct delivery rests on; a session never cuts a pair in two.
        assert in_pairs(data) is not None, "a CR or an LF that stands alone"
        self.chunks.append(data)
        return self._spool.writing.enter()

    async def commit(self, envelope: Envelope) -> Mapping[Recipient, Delivered]:
        assert not self.ended, "commit after the draft's end"
        assert envelope.id == self.id
        self.committing = True
        if (waiting := self._spool.committing.enter()) is not None:
            await waiting
        if self._spool.trouble is not None:
            raise self._spool.trouble
        self._spool.messages.append((envelope, b"".join(self.chunks)))
        return self._spool.delivered

    def abandon(self) -> None:
        self.abandoned = True


@implementer(ISpool)
class FakeSpool:
    """A spool in memory.

    :ivar messages: what was committed, in order.
    :ivar drafts: all that were ever begun.
    :ivar trouble: what every commit raises; ``None`` for none.
    :ivar delivered: what every commit returns.
    :ivar detaining: whether everything is to wait.
    :ivar writing: shut it, and the disk does not keep up with what is written.
    :ivar committing: shut it, and commits take until it is opened.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, bytes]] = []
        self.drafts: list[FakeDraft] = []
        self.trouble: Exception | None = None
        self.delivered: dict[Recipient, Delivered] = {}
        self.detaining = False
        self.writing = Gate()
        self.committing = Gate()

    def draft(self, sender: Address, recipients: Sequence[Recipient]) -> FakeDraft:
        draft = FakeDraft(self, QueueID(f"Q{len(self.drafts) + 1:04d}"), sender, recipients)
        self.drafts.append(draft)
        return draft

    def detains(self, envelope: Envelope) -> bool:
        return self.detaining

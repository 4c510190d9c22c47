"""How many may be connected at once: in all, and from one address.

An IPv6 client's address counts as its /64. Networks that are exempt are counted in the whole and never
turned away for their own number. Everything is a dictionary look-up: this is asked before a word is said.
Several processes count together (IShared): each tells who comes and goes, and the connections of one that has
ended are counted no more.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from attrs import frozen
from zope.interface import implementer

from mailserver.access.lockout import network_of
from mailserver.interfaces import IShared, Verdict
from mailserver.model.source import BUILT_IN, Source

__all__ = ["ConnectionRules", "Connections"]

_COME_IN = Verdict(True, "there is room")


@frozen
class ConnectionRules:
    """What a reload replaces; 0 means any number.

    :ivar exempt: whether an IP address may have as many as there are.
    """

    most: int = 10_000
    per_address: int = 100
    exempt: Callable[[str], bool] = lambda _: False
    source: Source = BUILT_IN


@implementer(IShared)
class Connections:
    """The counts of all services together.

    :ivar rules: may be replaced at any time.
    """

    def __init__(self, rules: ConnectionRules) -> None:
        self.rules = rules
        self.tell: Callable[[Any], None] = lambda news: None
        self._all = self._own = 0
        self._by_client: dict[str, int] = {}
        self._elsewhere: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def __len__(self) -> int:
        return self._all

    def admit(self, address: str) -> Verdict:
        """Count a connection from an IP address, unless there are too many; then it is not counted."""
        rules, client = self.rules, network_of(address)
        if rules.most and self._all >= rules.most:
            return Verdict(False, f"{self._all} connections", rules.source)
        own = self._by_client.get(client, 0)
        if client and rules.per_address and own >= rules.per_address and not rules.exempt(address):
            return Verdict(False, f"{own} connections from {client}", rules.source)
        self._own += 1
        self._count(client, 1)
        self.tell([client, 1])
        return _COME_IN

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        client = network_of(address)
        self._own -= 1
        self._count(client, -1)
        self.tell([client, -1])

    def _count(self, client: str, change: int) -> None:
        self._all += change
        number = self._by_client.get(client, 0) + change
        if number:
            self._by_client[client] = number
        else:
            del self._by_client[client]

    # --- in several processes

    @property
    def own(self) -> int:
        """How many this process has, of the :func:`len` of all."""
        return self._own

    def exceeds_share(self, processes: int) -> bool:
        """Whether this process has more than its share among so many, by a quarter and some."""
        return self._own > 1.25 * self._all / processes + 1

    def of(self, source: int) -> int:
        """How many a worker has."""
        return self._elsewhere[source].total()

    def hear(self, news: Any, source: int) -> None:
        """See :class:`IShared`."""
        client, change = news
        self._count(client, change)
        elsewhere = self._elsewhere[source]
        elsewhere[client] += change
        if not elsewhere[client]:
            del elsewhere[client]

    def lost(self, source: int) -> None:
        """See :class:`IShared`."""
        for client, number in self._elsewhere.pop(source, Counter()).items():
            self._count(client, -number)
            self.tell([client, -number])

    def remember(self) -> Any:
        """See :class:`IShared`."""
        return self._by_client

    def recall(self, memory: Any) -> None:
        """See :class:`IShared`."""
        for client, number in memory.items():
            self._count(client, number)

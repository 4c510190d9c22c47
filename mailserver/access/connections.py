"""How many may be connected at once: in all, and from one address.

An IPv6 client's address counts as its /64. Networks that are exempt are counted in the whole and never
turned away for their own number. Everything is a dictionary look-up: this is asked before a word is said.
"""

from collections.abc import Callable

from attrs import frozen

from mailserver.access.lockout import network_of
from mailserver.interfaces import Verdict
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


class Connections:
    """The counts of all services together.

    :ivar rules: may be replaced at any time.
    """

    def __init__(self, rules: ConnectionRules) -> None:
        self.rules = rules
        self._all = 0
        self._by_client: dict[str, int] = {}

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
        self._all += 1
        self._by_client[client] = own + 1
        return _COME_IN

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        client = network_of(address)
        self._all -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

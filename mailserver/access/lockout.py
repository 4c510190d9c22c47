"""Who has guessed passwords too often: a growing delay, then a lock-out, then forgiveness.

Two counts are kept, and neither is of an account as a whole, for guessing must not lock its owner out:

- of one account, as tried from one client address: ``failures`` and it is locked;
- of the client address, whatever the accounts: three times as many.

An IPv6 client's address is its /64: whoever has one address there has all of them. The same wrong password
again is no new guess: a telephone that was not told the new one locks nobody out. Counts drain away evenly,
all of a count in ``seconds``; a lock lasts ``seconds``. A right password clears the account's count and not
the address's, or one's own account would pay for guesses at others.

Promises: an answer costs no more however many there are; the memory is bounded, those not seen for longest
being forgotten first. All is forgotten when the server ends. An address that is none, as a UNIX socket's, is
never locked out, nor is an exempt one. Several processes may keep one memory (IShared): guesses are told.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from attrs import astuple, define, field, frozen
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import ILockout, IShared, Lock, Verdict
from mailserver.model.source import BUILT_IN, Source

__all__ = ["Lockout", "LockoutRules", "network_of"]

_FREE = Verdict(True, "")
_ADDRESSES = 3  # times the failures of one account
_REMEMBERED = 20_000
_LONGEST_NAME = 100
_LONGEST_DELAY = 8.0


@frozen
class LockoutRules:
    """What a reload replaces.

    :ivar failures: wrong passwords for one account from one address, until it is locked; 0: never.
    :ivar seconds: how long a lock lasts.
    :ivar exempt: whether an IP address is never locked out.
    """

    failures: int = 10
    seconds: float = 900.0
    exempt: Callable[[str], bool] = lambda _: False
    source: Source = BUILT_IN


@define
class _Count:
    level: float = 0.0
    touched: float = 0.0
    locked: float = -math.inf
    """Until when."""
    guess: bytes = field(default=b"", repr=False)


_Key = tuple[str, str]
"""The client's network, and the account; empty: all of them."""


@implementer(ILockout, IShared)
class Lockout:
    """The counts.

    :param now: seconds on a clock that nobody sets, the same for all processes.
    :param locked: told the client, the account and the seconds of each new lock.
    :ivar rules: may be replaced at any time.
    """

    def __init__(
        self,
        rules: LockoutRules,
        now: Callable[[], float],
        locked: Callable[[str, str, float], None] = journal.locked,
    ) -> None:
        self.rules = rules
        self.tell: Callable[[Any], None] = lambda news: None
        self._now = now
        self._locked = locked
        self._counts: OrderedDict[_Key, _Count] = OrderedDict()

    def judge(self, client: str, account: str) -> Verdict:
        """See :class:`ILockout`."""
        now = self._now()
        for key in self._keys(client, account):
            count = self._counts.get(key)
            if count is not None and count.locked > now:
                what = f"{account} from {key[0]}" if key[1] else key[0]
                left = math.ceil(count.locked - now)
                return Verdict(False, f"{what} is locked out for {left} s", self.rules.source)
        return _FREE

    def failed(self, client: str, account: str, guess: bytes = b"") -> float:
        """See :class:`ILockout`."""
        keys = self._keys(client, account)
        if not keys:
            return 0.0
        self.tell(["failed", client, account[:_LONGEST_NAME], guess.hex()])
        return self._fail(keys, guess)

    def _fail(self, keys: tuple[_Key, ...], guess: bytes) -> float:
        whole, single = (self._count(key) for key in keys)
        if not guess or guess != single.guess:
            single.guess = guess
            self._add(keys[0], whole, self.rules.failures * _ADDRESSES)
            self._add(keys[1], single, self.rules.failures)
        return float(min(2.0 ** max(math.ceil(whole.level) - 1, 0), _LONGEST_DELAY))

    def succeeded(self, client: str, account: str) -> None:
        """See :class:`ILockout`."""
        if self._succeed(client, account):
            self.tell(["succeeded", client, account[:_LONGEST_NAME]])

    def _succeed(self, client: str, account: str) -> bool:
        return any(self._counts.pop(key, None) for key in self._keys(client, account)[1:])

    def locks(self) -> tuple[Lock, ...]:
        """See :class:`ILockout`."""
        now = self._now()
        return tuple(
            Lock(client, account, count.locked - now)
            for (client, account), count in self._counts.items()
            if count.locked > now
        )

    def lift(self, client: str) -> int:
        """See :class:`ILockout`."""
        self.tell(["lifted", client])
        return self._lift(client)

    def _lift(self, client: str) -> int:
        network = network_of(client) or client
        found = [key for key in self._counts if key[0] == network]
        now = self._now()
        return sum(self._counts.pop(key).locked > now for key in found)

    # --- in several processes

    def hear(self, news: Any, source: int) -> None:
        """See :class:`IShared`."""
        match news:
            case "failed", client, account, guess:
                if keys := self._keys(client, account):
                    self._fail(keys, bytes.fromhex(guess))
            case "succeeded", client, account:
                self._succeed(client, account)
            case "lifted", client:
                self._lift(client)

    def lost(self, source: int) -> None:
        """See :class:`IShared`. What was guessed there stays guessed."""

    def remember(self) -> Any:
        """See :class:`IShared`."""
        return [(*key, *astuple(count)[:-1], count.guess.hex()) for key, count in self._counts.items()]

    def recall(self, memory: Any) -> None:
        """See :class:`IShared`."""
        for client, account, level, touched, locked, guess in memory:
            self._counts[client, account] = _Count(level, touched, locked, bytes.fromhex(guess))

    def _keys(self, client: str, account: str) -> tuple[_Key, ...]:
        network = network_of(client)
        if not network or not self.rules.failures or self.rules.exempt(client):
            return ()
        return (network, ""), (network, account[:_LONGEST_NAME] or "?")

    def _count(self, key: _Key) -> _Count:
        """The count of ``key``, drained to now, as the last to be forgotten."""
        now = self._now()
        count = self._counts.setdefault(key, _Count())
        self._counts.move_to_end(key)
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        most = self.rules.failures * (1 if key[1] else _ADDRESSES)
        count.level = max(0.0, count.level - (now - count.touched) * most / self.rules.seconds)
        count.touched = now
        return count

    def _add(self, key: _Key, count: _Count, most: int) -> None:
        count.level += 1
        if count.level > most - 1:
            count.locked = self._now() + self.rules.seconds
            count.level = 0.0
            self._locked(*key, self.rules.seconds)


@lru_cache(4096)  # asked several times for every session
def network_of(client: str) -> str:
    """What is counted as one client: the IPv4 address, the IPv6 /64; empty for what is neither."""
    try:
        address = ip_address(client)
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((int(address) >> 64 << 64, 64)))

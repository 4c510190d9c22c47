"""The policies of MTA-STS that domains have, found out and remembered (RFC 8461).

A domain that has a policy says so in DNS, with an id; the policy itself is fetched over HTTPS, when there is
none yet, when the id has changed, and again long before it ends, so that it never does while somebody keeps
us from the policy host. A policy that was fetched holds for its ``max_age``, also where the record has gone
or the next fetch fails: who can forge DNS or cut connections must not be able to end it. Without one, a
domain whose policy cannot be had has none.

Mail waits for the first fetch, once for all that comes for a domain meanwhile, and for as long as a fetch
takes at most. A domain is looked at once in a while only: a minute after all was well, five after anything
else. What is remembered is bounded, here and on the disk (:mod:`mailserver.net.policyfile`). A disk that
fails is journal trouble; the policies are kept in memory then.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailserver import journal
from mailserver.interfaces import IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.net.https import NotFetched
from mailserver.net.policyfile import PolicyFile, Row
from mailserver.wire.mta_sts import Policy, parse_policy, parse_record
from mailserver.wire.syntax import BadSyntax

__all__ = ["DomainPolicies"]

_PATH = "/.well-known/mta-sts.txt"
_DAY = 86400.0
_WELL, _ILL = 60.0, 300.0
"""Seconds until a domain is looked at again (RFC 8461 §3.3)."""

T = TypeVar("T")
Fetch = Callable[[str, str], Awaitable[bytes]]


@frozen
class _Kept:
    """A policy that was fetched, and what it was fetched for."""

    id: str
    fetched: float
    policy: Policy

    def is_valid(self, now: float) -> bool:
        return now < self.fetched + self.policy.max_age

    def is_old(self, now: float) -> bool:
        """Whether to fetch it again though nothing has changed; also after the clock was set back."""
        return not 0 <= now - self.fetched < min(self.policy.max_age / 2, _DAY)


class DomainPolicies:
    """The memory.

    :param fetch: gives the file of a host; raises :class:`~mailserver.net.https.NotFetched`.
    :param file: where policies outlive the process.
    :param in_thread: does what waits for a disk.
    :param now: calendar time: policies end by it.
    :param seconds: the time that runs evenly.
    :param most: the domains remembered.
    """

    _log = Logger()

    def __init__(
        self,
        resolver: IResolver,
        fetch: Fetch,
        file: PolicyFile,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        now: Callable[[], float],
        seconds: Callable[[], float],
        most: int = 10_000,
    ) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._file = file
        self._in_thread = in_thread
        self._now = now
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._rests: OrderedDict[str, float] = OrderedDict()
        self._looking: dict[str, list[Deferred[None]]] = {}
        self._loaded = False

    async def policy(self, domain: str) -> Policy | None:
        """The policy that a domain has now; ``None``: none. Never raises."""
        if self._rests.get(domain, 0.0) <= self._seconds():
            await self._join(domain)
        kept = self._kept.get(domain)
        if kept is None or not kept.is_valid(self._now()):
            return None
        self._kept.move_to_end(domain)
        return kept.policy

    def _join(self, domain: str) -> "Deferred[None]":
        # Everyone waits for a Deferred of his own, so that cancelling it takes nothing from the others.
        waiter: Deferred[None] = Deferred()
        if domain in self._looking:
            self._looking[domain].append(waiter)
        else:
            self._looking[domain] = [waiter]
            _ = Deferred.fromCoroutine(self._see_to(domain))
        return waiter

    async def _see_to(self, domain: str) -> None:
        """Look at a domain, and tell everyone. Never raises."""
        rest = _ILL
        try:
            await self._load()
            rest = await self._look(domain)
        except Exception:
            self._log.failure("while looking for the policy of {domain}", domain=domain)
        self._rests[domain] = self._seconds() + rest
        self._rests.move_to_end(domain)
        if len(self._rests) > self._most:
            self._rests.popitem(last=False)
        for waiter in self._looking.pop(domain):
            waiter.callback(None)

    async def _look(self, domain: str) -> float:
        """See whether there is a policy, or a newer one; for how long to leave it at that."""
        try:
            id = parse_record(await self._resolver.txt(f"_mta-sts.{domain}"))
        except (NoSuchName, NoSuchData, Unanswered, BadSyntax):
            return _ILL
        kept, now = self._kept.get(domain), self._now()
        if kept is not None and kept.id == id and not kept.is_old(now):
            return _WELL
        try:
            text = await self._fetch(f"mta-sts.{domain}", _PATH)
            self._keep(domain, _Kept(id, now, parse_policy(text)))
        except (NotFetched, BadSyntax) as trouble:
            journal.warned("MTA-STS", f"no policy of {domain} though it has one: {trouble}")
            return _ILL
        await self._on_disk(lambda: self._file.put(Row(domain, id, now, text)))
        return _WELL

    def _keep(self, domain: str, kept: _Kept) -> None:
        self._kept[domain] = kept
        self._kept.move_to_end(domain)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    # --- the disk

    async def _load(self) -> None:
        """Take what an earlier process has kept, before the first question is answered."""
        if self._loaded:
            return
        rows = await self._on_disk(self._file.read) or ()
        # Whoever came meanwhile has loaded them, and may have fetched since.
        if self._loaded:
            return
        self._loaded = True
        for row in rows:
            try:
                self._keep(row.domain, _Kept(row.id, row.fetched, parse_policy(row.text)))
            except BadSyntax:
                continue

    async def _on_disk(self, work: Callable[[], T]) -> T | None:
        """``None`` where the disk does not."""
        try:
            done: T = await self._in_thread(work)
        except (sqlite3.Error, OSError) as trouble:
            journal.trouble("MTA-STS", f"policies cannot be kept on disk: {trouble}")
            return None
        return done

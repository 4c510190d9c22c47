"""What mail asks of DNS: one facade over dnspython, with a cache, and bounds (RFC 1035, 2308, 5452, 6891).

Promises:

- "There is no such name", "the name has no such data" and "nobody knows" are three different exceptions,
  all the way; only the first two are permanent. Whatever goes wrong on the way to an answer, also a name
  server that talks nonsense, is the third.
- An answer is kept as long as it says, but for a day at most; a negative one for five minutes at most; that
  there was none for a few seconds, so that a dead domain is not asked for by every message to it. The
  cache is bounded, and forgets what was not asked for the longest.
- Equal questions asked at once are asked once. Who cancels leaves; the others get their answer.
- A bounded number of questions are on the way; the others wait their turn. A question on its way ends within
  ``timeout``, whatever happens.
- What cannot be a name in DNS is never asked for: it does not exist.

Asks with EDNS (1232 octets, so that no answer is ever fragmented) and the flags RD and AD, over UDP, and
over TCP where an answer was truncated. CNAMEs are followed. Search lists are not used.

DNSSEC is the name server's business: it validates, and says so with AD (RFC 4035 §3.2.3, RFC 6840 §5.7). It
is believed where nobody can stand between: all name servers are on this machine, or the administrator says
that the way to them is safe. An answer that does not validate is SERVFAIL, which is "nobody knows".
"""

import re
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.resolver
import dns.reversename
from attrs import field, frozen
from dns.rdatatype import RdataType
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.interfaces import Answers, IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import MX
from mailserver.model.tlsa import TLSA
from mailserver.net.dnsbackend import Backend

__all__ = ["Resolver", "all_of", "is_dns_name"]

_LONGEST_LIFE = 86400.0
_LONGEST_NEGATIVE_LIFE = 300.0
_FAILURE_LIFE = 5.0
"""Seconds that an answer, a negative answer and the lack of one are kept at most."""

_FAMILIES = RdataType.AAAA, RdataType.A
_PAYLOAD = 1232
_TRIES = 2.5
"""How often one server is tried within the timeout: the third try gets only half its time."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


T = TypeVar("T")


async def all_of(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once, and return what they do, in order; or raise the first exception, in order.

    Cancelling it cancels all.
    """
    waiting = list(coroutines)
    if len(waiting) == 1:
        return [await waiting[0]]
    running = [Deferred.fromCoroutine(coroutine) for coroutine in waiting]
    results: list[Any] = []
    for _, result in await DeferredList(running, consumeErrors=True):
        if isinstance(result, Failure):
            result.raiseException()
        results.append(result)
    return results


def is_dns_name(name: str) -> bool:
    """Whether ``name`` can be asked for: A-labels, no final dot, no IP address (RFC 1123 §2.1).

    Underscores are allowed: they stand in front of names (RFC 8552), and in some people's host names.
    """
    if not 0 < len(name) <= 253:
        return False
    labels = name.lower().split(".")
    return all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdecimal()


@frozen
class _Answer:
    """What came of a question: records, or an exception to be raised anew for everyone who asks.

    :ivar life: how long it may be kept, in seconds.
    """

    records: Answers[Any] = field(factory=Answers)
    trouble: type[Exception] | None = None
    detail: str = ""
    life: float = 0.0

    def unwrap(self) -> Answers[Any]:
        if self.trouble is not None:
            raise self.trouble(self.detail)
        return self.records


_Key = tuple[str, RdataType]


class _Question:
    """A question on its way, or waiting for its turn, and those who wait for the answer."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.waiters: list[Deferred[_Answer]] = []
        self.asked: Deferred[None] | None = None

    def give_up(self) -> None:
        """End it, with no answer."""
        self.backend.abandon()
        if self.asked is not None:
            self.asked.cancel()


@implementer(IResolver)
class Resolver:
    """The facade.

    :param reactor: gives UDP, TCP and time.
    :param servers: IP addresses and ports of the name servers, in the order they are asked; empty: those
        of ``/etc/resolv.conf``, read now, or of this host where that names none.
    :param timeout: for each question, in seconds.
    :param entries: the answers kept.
    :param in_flight: the questions on their way at a time.
    :param resolv_conf: what to read instead of ``/etc/resolv.conf``.
    :param validating: the name servers are believed what they say of DNSSEC, wherever they are.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]] = (),
        timeout: float = 5.0,
        entries: int = 10_000,
        in_flight: int = 100,
        resolv_conf: str = "/etc/resolv.conf",
        validating: bool = False,
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._cache = _Cache(reactor, entries)
        self._turns = DeferredSemaphore(in_flight)
        self._questions: dict[_Key, _Question] = {}
        self._stopped = False
        self.servers = list(servers) or _system_servers(resolv_conf)
        """The name servers asked."""
        self.validating = validating or all(_is_here(host) for host, _ in self.servers)
        """Whether they are believed what they say of DNSSEC."""
        self._dns = dns.asyncresolver.Resolver(configure=False)
        self._dns.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self.servers]
        self._dns.timeout = timeout / _TRIES
        self._dns.flags = dns.flags.RD | dns.flags.AD
        self._dns.use_edns(0, 0, _PAYLOAD)

    async def mx(self, name: str) -> Answers[MX]:
        """The MX records, in no order. A null MX is one record with an empty host (RFC 7505)."""
        records = (await self._answer(name, RdataType.MX)).unwrap()
        found = (MX(record.preference, _text(record.exchange)) for record in records)
        return Answers(found, records.secure, records.name)

    async def addresses(self, name: str) -> Answers[str]:
        """All IPv6 and IPv4 addresses. One family failing while the other answers is not a failure."""
        answers = self._known(name.lower()) or await all_of(self._answer(name, kind) for kind in _FAMILIES)
        held = [answer.records for answer in answers if answer.records]
        if not held:
            return _gravest(answers).unwrap()
        found = (record.address for records in held for record in records)
        return Answers(found, all(records.secure for records in held), held[0].name)

    async def tlsa(self, name: str) -> Answers[TLSA]:
        """The TLSA records (RFC 6698), usable or not."""
        records = (await self._answer(name, RdataType.TLSA)).unwrap()
        found = (TLSA(record.usage, record.selector, record.mtype, record.cert) for record in records)
        return Answers(found, records.secure, records.name)

    def _known(self, name: str) -> list[_Answer]:
        """What is known of the addresses; empty unless it is known of both families."""
        known = [self._cache.get((name, kind)) for kind in _FAMILIES]
        return [answer for answer in known if answer is not None] if None not in known else []

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """The TXT records, the strings of each joined."""
        records = (await self._answer(name, RdataType.TXT)).unwrap()
        return tuple(b"".join(record.strings) for record in records)

    async def pointer(self, address: str) -> tuple[str, ...]:
        """The names of an IP address (PTR). What is no IP address has none."""
        try:
            name = _text(dns.reversename.from_address(address))
        except (dns.exception.SyntaxError, ValueError):
            raise NoSuchName(f"{address[:100]!r} is no IP address") from None
        records = (await self._answer(name, RdataType.PTR)).unwrap()
        return tuple(_text(record.target) for record in records)

    async def stop(self) -> None:
        """Give up all questions, and ask no more: from now on everything new is Unanswered."""
        self._stopped = True
        asked = [question.asked for question in self._questions.values() if question.asked is not None]
        for question in list(self._questions.values()):
            question.give_up()
        for end in asked:
            await end

    # --- one question --------------------------------------------------------------------------------

    async def _answer(self, name: str, kind: RdataType) -> _Answer:
        """From the cache, from a question on its way, or by asking."""
        name = name.lower()
        if not is_dns_name(name):
            return _Answer(trouble=NoSuchName, detail=f"{name[:300]!r} is no name in DNS")
        known = self._cache.get((name, kind))
        return known if known is not None else await self._join((name, kind))

    def _join(self, key: _Key) -> "Deferred[_Answer]":
        # Everyone waits for a Deferred of his own, so that cancelling it takes nothing from the others.
        waiter: Deferred[_Answer] = Deferred()
        question = self._questions.get(key)
        if question is not None:
            question.waiters.append(waiter)
            return waiter
        question = self._questions[key] = _Question(Backend(self._reactor))
        question.waiters.append(waiter)
        question.asked = Deferred.fromCoroutine(self._see_to(key, question))
        return waiter

    async def _see_to(self, key: _Key, question: _Question) -> None:
        """Ask, keep the answer, and tell everyone. Never raises."""
        try:
            answer = await self._in_turn(key, question)
        except CancelledError:
            answer = _unanswered(key, "timeout")
        self._cache.put(key, answer)
        del self._questions[key]
        for waiter in question.waiters:
            waiter.callback(answer)

    async def _in_turn(self, key: _Key, question: _Question) -> _Answer:
        if self._stopped:
            return _unanswered(key, "stopped")
        await self._turns.acquire()
        # dnspython measures its lifetime by the wall clock, which may step.
        guard = self._reactor.callLater(self._timeout, question.give_up)
        try:
            return await self._ask(key, question.backend)
        finally:
            self._turns.release()
            if guard.active():
                guard.cancel()

    async def _ask(self, key: _Key, backend: Backend) -> _Answer:
        name, kind = key
        try:
            answer = await self._dns.resolve(
                dns.name.from_text(name),
                kind,
                raise_on_no_answer=False,
                lifetime=self._timeout,
                backend=backend,
            )
        except dns.resolver.NXDOMAIN as absent:
            lives = [response.resolve_chaining().minimum_ttl for response in absent.responses().values()]
            life = min(lives, default=0)
            return _Answer(Answers(), NoSuchName, f"{name} does not exist", min(life, _LONGEST_NEGATIVE_LIFE))
        except dns.exception.Timeout:
            return _unanswered(key, "timeout")
        except dns.resolver.NoNameservers as failed:
            return _unanswered(key, "timeout" if backend.abandoned else _last_error(failed))
        except (dns.exception.DNSException, OSError, ValueError) as trouble:
            return _unanswered(key, str(trouble) or type(trouble).__name__)
        life = answer.chaining_result.minimum_ttl
        if answer.rrset is None:
            detail = f"{name} has no {kind.name} record"
            return _Answer(Answers(), NoSuchData, detail, min(life, _LONGEST_NEGATIVE_LIFE))
        secure = self.validating and bool(answer.response.flags & dns.flags.AD)
        records = Answers(answer.rrset, secure, _text(answer.canonical_name))
        return _Answer(records, life=min(life, _LONGEST_LIFE))


class _Cache:
    """Answers by question, for as long as they live. What was not asked for the longest goes first."""

    def __init__(self, clock: Any, entries: int) -> None:
        self._clock = clock
        self._entries = entries
        self._kept: OrderedDict[_Key, tuple[float, _Answer]] = OrderedDict()

    def get(self, key: _Key) -> _Answer | None:
        since, answer = self._kept.get(key, (0.0, None))
        if answer is None:
            return None
        # Also too old when the clock was set back: it would live for as much longer.
        if not 0 <= self._clock.seconds() - since < answer.life:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return answer

    def put(self, key: _Key, answer: _Answer) -> None:
        if answer.life <= 0:
            return
        self._kept[key] = self._clock.seconds(), answer
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)


def _unanswered(key: _Key, why: str) -> _Answer:
    name, kind = key
    return _Answer(Answers(), Unanswered, f"{kind.name} {name}: {why}", _FAILURE_LIFE)


def _gravest(answers: Sequence[_Answer]) -> _Answer:
    """Of the answers of both families, neither with records, the one that tells about the name.

    While one of them may yet bring an address, nobody knows; a name does not exist only if both say so.
    """
    order = [Unanswered, NoSuchData, NoSuchName]
    return min(answers, key=lambda answer: order.index(answer.trouble) if answer.trouble else len(order))


def _text(name: dns.name.Name) -> str:
    """Lower case, no final dot; the root is empty."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _last_error(failed: dns.resolver.NoNameservers) -> str:
    errors = failed.kwargs.get("errors") or []
    if not errors:
        return "no name server"
    server, _, _, error, _ = errors[-1]
    return f"{server}: {error}"


def _is_here(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


def _system_servers(resolv_conf: str) -> list[tuple[str, int]]:
    try:
        found = dns.resolver.Resolver(resolv_conf).nameservers
    except dns.resolver.NoResolverConfiguration:
        # resolv.conf(5): "If no nameserver entries are present, the default is … the local machine."
        return [("127.0.0.1", 53)]
    return [(str(server), 53) for server in found]

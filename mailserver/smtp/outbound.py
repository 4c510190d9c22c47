"""Mail to other hosts, as couriers see it: one host, one message, an outcome for every recipient.

:class:`Outbound` has it brought there (:mod:`mailserver.smtp.transmitter`), notes how that went, and notices
where mail for a domain went better protected before (:mod:`mailserver.smtp.levels`).

Who speaks to the host may be another process of this server, so that this one, which stores and steers, is
left its core. What is small enough to be at hand goes there, over an
:class:`~mailserver.handing.Outlet`; the rest, and all where there is no such process, is brought from here.
A host keeps to one process while mail for it goes on coming, to the one that had least to do when that began:
only there are connections that stand. One that does not answer for some seconds, though it has something to
say, is given nothing more until it does.

A process that dies has answered nothing, and may have said all: for its messages that is doubt, and they are
tried again later, not at once, in case one of them is what it died of. One that ends in order answers for
all that it was handed over; what it broke off counts as cancelled.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache, partial

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailserver import journal
from mailserver.handing import Outlet
from mailserver.interfaces import IContent, ITransmitter, StorageTrouble
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Level
from mailserver.model.outcome import Delayed, Delivered, Outcome, Scope
from mailserver.smtp import standby
from mailserver.smtp.levels import Levels
from mailserver.smtp.plain import read_transmission, spell_host, spell_request
from mailserver.smtp.transmitter import Transmission, Transmitter

__all__ = ["Outbound"]

_MOST_HOMES = 10_000
"""The hosts of which it is known which process speaks to them."""

_MOST_SPELLED = 256
"""The hosts that are remembered in their spelling, with the roots that are trusted there."""

_MOVES = standby.USUAL
"""Seconds without mail for it after which a host may have another process: no connection stands any more."""

# Of a status of our own trouble, and without a host: it says nothing of the destination.
_DIED = Delayed(Scope.DOUBT, "the process that spoke to the host ended before it answered", "4.3.2")

_QUIET = 10.0
"""Seconds without an answer after which a process that has something to say is left out of what comes."""

_log = Logger()


@define(eq=False)
class _Way:
    """To a process that speaks to hosts.

    :ivar busy: the messages that it has.
    :ivar since: when it last answered, or had nothing to do.
    """

    number: int
    outlet: Outlet
    busy: int = field(init=False, default=0)
    since: float = field(init=False, default=0.0)

    def is_quiet(self, now: float) -> bool:
        """Whether it may stand still; or all of its hosts do."""
        return self.busy > 0 and now - self.since >= _QUIET


@define(eq=False)
class _Home:
    """Where a host is spoken to, and when it last was."""

    way: _Way
    seconds: float


@implementer(ITransmitter)
class Outbound:
    """The way out.

    :param transmitter: this process's own.
    :param clock: measures how long it takes.
    """

    def __init__(self, transmitter: Transmitter, clock: IReactorTime) -> None:
        self._transmitter = transmitter
        self._clock = clock
        self._ways: dict[int, _Way] = {}
        self._homes: OrderedDict[tuple[str, int], _Home] = OrderedDict()
        self._levels = Levels()
        self._spell_host = lru_cache(_MOST_SPELLED)(spell_host)

    # --- who speaks to hosts

    def open(self, number: int, outlet: Outlet) -> None:
        """Have another process speak to hosts as well, until it goes or is left.

        :param number: names it; of several that are idle the greatest has the next host.
        """
        way = self._ways[number] = _Way(number, outlet)
        outlet.closed = partial(self._forget, way)
        self._homes.clear()  # it is to have its share of them

    def leave(self, number: int) -> None:
        """Hand nothing more over to a process; it still answers for what it has."""
        way = self._ways.get(number)
        if way is not None:
            self._forget(way)
            way.outlet.finish()

    def _forget(self, way: _Way) -> None:
        if self._ways.get(way.number) is way:
            del self._ways[way.number]
        for host in [host for host, home in self._homes.items() if home.way is way]:
            del self._homes[host]

    def _way_to(self, exchanger: Exchanger, now: float) -> _Way | None:
        """Over which process a host is spoken to; ``None``: over this one."""
        if not self._ways:
            return None
        host = exchanger.address, exchanger.port
        home = self._homes.get(host)
        if home is None or now - home.seconds >= _MOVES or home.way.is_quiet(now):
            way = min(self._ways.values(), key=lambda it: (it.is_quiet(now), it.busy, -it.number))
            if way.is_quiet(now):
                return None
            home = self._homes[host] = _Home(way, now)
            if len(self._homes) > _MOST_HOMES:
                self._homes.popitem(last=False)
        home.seconds = now
        self._homes.move_to_end(host)
        return home.way

    # --- the message

    async def transmit(
        self, exchanger: Exchanger, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        begun = self._clock.seconds()
        way = self._way_to(exchanger, begun)
        octets = None if way is None else content.whole()
        if way is None or octets is None:
            done = await self._transmitter.transmit(exchanger, envelope, content, recipients)
        else:
            done = await self._hand_over(way, exchanger, envelope, octets, recipients)
        demand = exchanger.demand or Demand(exchanger.security)
        if done.spoke:
            self._compare(exchanger, demand, envelope, recipients[0].address.domain, done)
        seconds = self._clock.seconds() - begun
        journal.attempted(envelope.id, exchanger, _sum_up(done.outcomes), seconds, done.tls, demand)
        return done.outcomes

    async def _hand_over(
        self,
        way: _Way,
        exchanger: Exchanger,
        envelope: Envelope,
        octets: bytes,
        recipients: Sequence[Recipient],
    ) -> Transmission:
        """Have it brought by another process. Raises ``CancelledError`` where that broke it off."""
        if not way.busy:
            way.since = self._clock.seconds()
        way.busy += 1
        host = self._spell_host(exchanger)
        try:
            answer = await way.outlet.hand_over(spell_request(host, envelope, recipients), octets)
        except StorageTrouble:
            return Transmission(dict.fromkeys(recipients, _DIED))
        finally:
            way.busy -= 1
        way.since = self._clock.seconds()
        if answer is None:
            raise CancelledError
        if answer is False:
            return Transmission({})  # a bug, which it has logged
        try:
            return read_transmission(answer, recipients)
        except (TypeError, ValueError, LookupError):
            _log.failure("what another process answers is not understood")
            return Transmission(dict.fromkeys(recipients, _DIED))

    def _compare(
        self, exchanger: Exchanger, demand: Demand, envelope: Envelope, domain: str, done: Transmission
    ) -> None:
        """Notice where mail went better protected before: somebody may stand between."""
        level = Level.CLEAR
        if done.tls:
            level = Level.ENCRYPTED if done.flaw else Level.VERIFIED
        best = self._levels.fell_from(domain, level)
        if best is not None:
            why = done.flaw or "TLS does not come about"
            journal.downgraded(envelope.id, domain, exchanger, best, level, why)
        if demand.is_trial and level is not Level.VERIFIED:
            why = done.flaw or "no TLS"
            journal.warned("MTA-STS", f"{domain} tries a policy that {exchanger} does not keep: {why}")


def _sum_up(outcomes: dict[Recipient, Outcome]) -> str:
    """The result in a few words: how many of each kind, and a telling reply."""
    if len(outcomes) == 1:
        (outcome,) = outcomes.values()
        return f"1 {type(outcome).__name__.lower()}: {outcome.reply}"
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        kind = type(outcome).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    # What went wrong tells more than what went well.
    telling = sorted(outcomes.values(), key=lambda outcome: isinstance(outcome, Delivered))[:1]
    return ": ".join([words, *(outcome.reply for outcome in telling)])

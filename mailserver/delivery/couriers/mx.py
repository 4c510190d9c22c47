"""The courier to other mail hosts: asks one after the other until every recipient is settled (RFC 5321 §5.1).

MX fallback is this loop and the table in :mod:`mailserver.model.outcome`. In one run the hosts are asked in
the order the finder gives, each only for the recipients that another host may still help: those that are
delivered, refused for good, or in doubt are settled. What the run ends with for a recipient whom no host
settled is the most telling of what was said about it: delay before failure, since a host that may yet take
the mail is a reason to wait; then what was said about the recipient before what was said about the message,
and that before trouble with the host; then what a host said before what was found out here; then what the
better host said. A host that DNS did not answer about counts as one more host, in trouble.

What TLS has to be on the way to a host is found out before it is asked (:mod:`mailserver.net.assurance`). A
host that cannot be what is demanded is passed over, and counts as in trouble.

A host that could not be spoken to lately goes last (:mod:`mailserver.net.failings`). The order, where there
is a choice, is in the journal with the seed it was drawn from.

With :class:`~mailserver.net.exchangers.Exchangers` it delivers to the MX hosts, with
:class:`~mailserver.net.exchangers.Smarthosts` to the smarthosts. Each attempt is noted where it is made
(:mod:`mailserver.smtp.outbound`).

Never raises for a delivery problem; a transmitter that does has a bug, which is logged, and counts as
trouble with that host.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Protocol

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from mailserver import journal
from mailserver.interfaces import IContent, ICourier, ITransmitter
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.exchanger import Demand, Exchanger, Manner
from mailserver.model.outcome import Delayed, Delivered, Outcome, Scope, another_host_may_help
from mailserver.net.assurance import Assurance
from mailserver.net.exchangers import Found
from mailserver.net.failings import Failings

__all__ = ["Finder", "MXCourier", "more_telling"]

_USUAL = Manner()
"""What hosts are found with."""

_HOSTS = 256
"""The hosts that are remembered with what is demanded: most messages go where the last ones went."""

_TELLING = [Scope.HOST, Scope.MESSAGE, Scope.RECIPIENT, Scope.DOUBT]


class Finder(Protocol):
    """Knows whom to ask for a domain."""

    async def find(self, domain: str) -> Found:
        """The hosts in order, and what to say where none of them settles it. Never raises."""


@implementer(ICourier)
class MXCourier:
    """The courier.

    :param most: the addresses that are asked in one run at most: who names more of them must not keep us
        busy with one message for hours.
    :param failings: what is known of hosts that fail; shared by all couriers that ask the same hosts.
    :param manner: how the hosts are spoken to.
    :param assurance: finds out what more TLS has to be; ``None``: nothing.
    """

    _log = Logger()

    def __init__(
        self,
        finder: Finder,
        transmitter: ITransmitter,
        most: int = 10,
        failings: Failings | None = None,
        manner: Manner | None = None,
        assurance: Assurance | None = None,
    ) -> None:
        self._finder = finder
        self._transmitter = transmitter
        self._most = most
        self._failings = failings or Failings(lambda: 0.0)
        self._manner = manner or Manner()
        self._assurance = assurance
        # What is not compared of an exchanger, the transmitter does not look at.
        self._held_to = lru_cache(_HOSTS)(_held_to)

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """Ask the hosts of each recipient's domain; one domain is one transaction a host."""
        outcomes: dict[Recipient, Outcome] = {}
        for domain, group in groupby(sorted(recipients, key=_domain), _domain):
            found = await self._finder.find(domain)
            exchangers = self._failings.order(found.exchangers)
            if self._manner != _USUAL:
                exchangers = tuple([_spoken_to(self._manner, exchanger) for exchanger in exchangers])
            if len(exchangers) > 1:
                journal.ordered(envelope.id, domain, exchangers[: self._most], found.seed)
            asked = Found(exchangers, found.trouble, found.seed)
            outcomes |= await self._run(asked, envelope, content, list(group))
        return outcomes

    async def _run(
        self, found: Found, envelope: Envelope, content: IContent, recipients: list[Recipient]
    ) -> dict[Recipient, Outcome]:
        told: dict[Recipient, Outcome] = {}
        waiting = recipients
        for exchanger in found.exchangers[: self._most]:
            try:
                answers = await self._ask(exchanger, envelope, content, waiting)
            except CancelledError:
                if not told:
                    raise
                return told  # everybody has the answer of a better host
            for recipient, answer in answers.items():
                told[recipient] = more_telling(told.get(recipient), answer)
            waiting = [recipient for recipient in waiting if another_host_may_help(answers[recipient])]
            if not waiting:
                return told
        if found.trouble is not None:
            for recipient in waiting:
                told[recipient] = more_telling(told.get(recipient), found.trouble)
        return told

    async def _ask(
        self, exchanger: Exchanger, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """What one host answers, for every recipient."""
        if self._assurance is not None:
            domain = recipients[0].address.domain
            demand = await self._assurance.demand(domain, exchanger, envelope.requiretls)
            if not isinstance(demand, Demand):
                result = f"passed over: {demand.reply}"
                journal.attempted(envelope.id, exchanger, result, 0.0, "", Demand(exchanger.security))
                return dict.fromkeys(recipients, demand)
            exchanger = self._held_to(demand, exchanger)
        answers: dict[Recipient, Outcome] = {}
        try:
            answers = await self._transmitter.transmit(exchanger, envelope, content, recipients)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("transmitting {id} to {exchanger}", id=envelope.id, exchanger=str(exchanger))
        missing = [recipient for recipient in recipients if recipient not in answers]
        if missing:
            trouble = Delayed(Scope.HOST, "internal trouble", "4.3.0", exchanger.host)
            answers |= dict.fromkeys(missing, trouble)
        if all([_is_silence(answer) for answer in answers.values()]):
            self._failings.failed(exchanger)
        elif any([answer.host for answer in answers.values()]):  # or else nobody knows who spoke
            self._failings.answered(exchanger)
        return answers


def _spoken_to(how: Manner, exchanger: Exchanger) -> Exchanger:
    return evolve(exchanger, security=how.security, login=how.login, lmtp=how.lmtp, roots=how.roots)


def _held_to(demand: Demand, exchanger: Exchanger) -> Exchanger:
    return evolve(exchanger, demand=demand)


def _is_silence(outcome: Outcome) -> bool:
    """Whether nobody could be spoken to."""
    return isinstance(outcome, Delayed) and outcome.scope is Scope.HOST and not outcome.code


def more_telling(before: Outcome | None, now: Outcome) -> Outcome:
    """Which of the answers of two hosts is a recipient's outcome, the better host's being ``before``.

    An answer that settles it is; see the top of the module for the others.
    """
    if before is None or not another_host_may_help(now):
        return now
    return max(before, now, key=_rank)


def _rank(outcome: Outcome) -> tuple[bool, int, bool]:
    if isinstance(outcome, Delivered):
        raise AssertionError("a delivered recipient is not asked for again")
    return isinstance(outcome, Delayed), _TELLING.index(outcome.scope), outcome.code != 0


def _domain(recipient: Recipient) -> str:
    return recipient.address.domain

"""One attempt at one duty: its recipients by route, each group to its courier, an outcome for everyone.

:func:`attempt` never raises. A courier that breaks its contract, by raising or by leaving somebody out, is
journal trouble and a delay for those left out, never a loss. The one exception is a stop: cancelled, it
returns the answers there are, and whoever is not among them was not answered for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError

from mailserver import journal
from mailserver.delivery.routing import Nowhere, Route
from mailserver.delivery.together import together
from mailserver.interfaces import Duty, IContent, ICourier
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delayed, Failed, Outcome, Scope

__all__ = ["Couriers", "Rerouted", "Router", "attempt", "unreadable"]

Router = Callable[[Recipient, Envelope], Route]
"""Says where a recipient goes."""

Rerouted = Callable[[str], ICourier]
"""The courier to a host that the administrator names (:mod:`mailserver.domains.hops`): before any route."""

Couriers = Mapping[type[Any], ICourier]
"""The courier for each kind of route but :class:`~mailserver.delivery.routing.Nowhere`."""

_TROUBLE = Delayed(Scope.MESSAGE, "local trouble", "4.3.0")
_NOBODY = Failed(Scope.RECIPIENT, "no such user here", "5.1.1")


async def attempt(
    duty: Duty, content: IContent, route: Router, couriers: Couriers, rerouted: Rerouted
) -> dict[Recipient, Outcome]:
    """Try once, now, and answer for every recipient; for fewer only when cancelled."""
    outcomes: dict[Recipient, Outcome] = {}
    groups: dict[type[Any] | str, list[Recipient]] = {}
    for waiting in duty.waiting:
        if waiting.reroute:
            groups.setdefault(waiting.reroute, []).append(waiting.recipient)
            continue
        where = _where(waiting.recipient, duty.envelope, route)
        if where is None or where is Nowhere:
            outcomes[waiting.recipient] = _TROUBLE if where is None else _NOBODY
        else:
            groups.setdefault(where, []).append(waiting.recipient)
    asked = [
        _ask(rerouted(to) if isinstance(to, str) else couriers[to], duty.envelope, content, group)
        for to, group in groups.items()
    ]
    if len(asked) == 1:
        outcomes.update(await asked[0])
    elif asked:
        for answer in await together(asked):
            outcomes.update(answer)
    return outcomes


def unreadable(duty: Duty) -> dict[Recipient, Outcome]:
    """The outcomes when the message cannot be read now."""
    delayed = Delayed(Scope.MESSAGE, "the stored message cannot be read now", "4.3.0")
    return {waiting.recipient: delayed for waiting in duty.waiting}


def _where(recipient: Recipient, envelope: Envelope, route: Router) -> type[Any] | None:
    try:
        return type(route(recipient, envelope))
    except Exception as problem:
        journal.trouble("routing", repr(problem), id=envelope.id, recipient=recipient.address)
        return None


async def _ask(
    courier: ICourier, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
) -> dict[Recipient, Outcome]:
    try:
        answer = await courier.deliver(envelope, content, recipients)
        missing = [recipient for recipient in recipients if recipient not in answer]
        problem = "left out a recipient"
    except CancelledError:
        return {}
    except Exception as raised:
        answer, missing, problem = {}, list(recipients), repr(raised)
    if missing:
        courier_name = type(courier).__name__
        journal.trouble("courier", problem, courier=courier_name, id=envelope.id, missing=len(missing))
    return {recipient: answer.get(recipient, _TROUBLE) for recipient in recipients}

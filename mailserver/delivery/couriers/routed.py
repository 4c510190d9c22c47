"""The courier that follows the routes: the first that matches, else the way there always is.

Recipients of one route stay together, so that one transaction takes them all. Mail that a route discards is
gone, and counts as delivered; mail that it refuses fails with its text (5.7.1). Which route was taken is in
the journal, with its line. The rules: :mod:`mailserver.access.routes`.
"""

from collections.abc import Callable, Sequence

from zope.interface import implementer

from mailserver import journal
from mailserver.access.routes import Route, To, choose
from mailserver.delivery.together import together
from mailserver.interfaces import IContent, ICourier
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delivered, Failed, Outcome, Scope

__all__ = ["RoutedCourier"]

_DISCARDED = Delivered("discarded by a route", "2.0.0")


@implementer(ICourier)
class RoutedCourier:
    """The courier.

    :param make: makes the courier for a route that leads somewhere.
    :param otherwise: for those for whom there is no route.
    :param hosts: whether a domain is hosted here.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        make: Callable[[Route], ICourier],
        otherwise: ICourier,
        hosts: Callable[[str], bool],
    ) -> None:
        self._routes = routes
        ends = (To.DISCARD, To.REFUSE)
        self._couriers = [None if route.to in ends else make(route) for route in routes]
        self._otherwise = otherwise
        self._hosts = hosts

    def choose(self, recipient: Recipient, envelope: Envelope) -> Route | None:
        """The route for a recipient; ``None``: there is none."""
        return choose(self._routes, recipient, envelope, self._hosts(recipient.address.domain))

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        groups: dict[int, list[Recipient]] = {}
        for recipient in recipients:
            route = self.choose(recipient, envelope)
            groups.setdefault(-1 if route is None else self._routes.index(route), []).append(recipient)
        if len(groups) == 1:
            ((number, group),) = groups.items()
            return await self._follow(number, envelope, content, group)
        outcomes: dict[Recipient, Outcome] = {}
        for some in await together(
            self._follow(number, envelope, content, group) for number, group in groups.items()
        ):
            outcomes |= some
        return outcomes

    async def _follow(
        self, number: int, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        if number < 0:
            return await self._otherwise.deliver(envelope, content, recipients)
        route, courier = self._routes[number], self._couriers[number]
        journal.routed(
            envelope.id, [recipient.address for recipient in recipients], route.to.value, route.source
        )
        if courier is not None:
            return await courier.deliver(envelope, content, recipients)
        if route.to is To.DISCARD:
            return dict.fromkeys(recipients, _DISCARDED)
        return dict.fromkeys(recipients, Failed(Scope.RECIPIENT, route.text or "not from here", "5.7.1"))

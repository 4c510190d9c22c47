"""Recipients by route."""

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailserver.access.routes import Route, To
from mailserver.delivery.couriers.routed import RoutedCourier
from mailserver.interfaces import ICourier
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.exchanger import NextHop
from mailserver.model.outcome import Delivered, Failed


@implementer(ICourier)
class Courier:
    def __init__(self, name):
        self.name = name

    async def deliver(self, envelope, content, recipients):
        return dict.fromkeys(recipients, Delivered(self.name))


def to(domain):
    return frozenset({domain})


def test_each_by_the_first_that_matches():
    routes = (
        Route(To.DISCARD, to("gone.example")),
        Route(To.REFUSE, to("closed.example"), text="no more"),
        Route(To.REFUSE, to("shut.example")),
        Route(To.SMARTHOST, to("relayed.example"), hops=(NextHop("relay"),)),
        Route(To.MX, to("verified.example")),
    )
    courier = RoutedCourier(
        routes, lambda route: Courier(route.to.value), Courier("otherwise"), lambda _: False
    )
    verifyObject(ICourier, courier)
    domains = ["gone", "closed", "shut", "relayed", "verified", "other"]
    recipients = [Recipient(Address("x", f"{domain}.example")) for domain in domains]
    envelope = Envelope(QueueID("Q"), Address("a", "b"), tuple(recipients), Origin(), 0.0)
    results = []
    Deferred.fromCoroutine(courier.deliver(envelope, None, recipients)).addCallback(results.append)
    outcomes = [results[0][recipient] for recipient in recipients]
    assert [type(outcome) for outcome in outcomes] == [Delivered, Failed, Failed, *[Delivered] * 3]
    assert [outcome.reply for outcome in outcomes[1:]] == [
        "no more",
        "not from here",
        "smarthost",
        "mx",
        "otherwise",
    ]
    assert outcomes[1].status == "5.7.1"

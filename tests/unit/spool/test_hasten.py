"""When a destination speaks again, the mail that waited because it did not is due at once."""

from functools import partial

from twisted.internet.defer import Deferred

from mailserver.interfaces import Settlement
from mailserver.model.outcome import Delayed, Scope
from mailserver.spool import orders
from tests.support.spooling import DELAYED, SpoolTestCase

SILENT = Delayed(Scope.HOST, "no connection", "4.4.1", "mx.example.org")


class HastenTests(SpoolTestCase):
    def test_only_what_waits_for_trouble_with_the_hosts_of_that_destination(self):
        return Deferred.fromCoroutine(self._hasten())

    async def _hasten(self):
        for name, outcome in [
            ("a@one.example", SILENT),
            ("b@one.example", DELAYED),
            ("c@two.example", SILENT),
        ]:
            await self.store(name)
            (duty,) = await self.take(limit=10)
            recipient = duty.waiting[0].recipient
            await self.spool.settle(duty, {recipient: Settlement(outcome, self.clock.seconds() + 3600)}, ())
        hasten = partial(orders.hasten, destination="one.example", now=self.clock.seconds())
        assert (await self.spool.order(partial(hasten, limit=10))).recipients == 1
        assert (await self.spool.order(partial(hasten, limit=10))).recipients == 0
        (duty,) = await self.take(limit=10)
        assert [str(one.recipient.address) for one in duty.waiting] == ["a@one.example"]

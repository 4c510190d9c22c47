"""Mail that is held when it comes."""

from tests.support.spooling import SpoolTestCase


class HoldTests(SpoolTestCase):
    async def test_a_message_that_is_marked_is_held_and_not_handed_out(self):
        await self.store("bob@example.org", marks={"hold": "too fast"})
        free = await self.store("carol@example.org")
        assert [duty.envelope.id for duty in await self.take()] == [free.id]
        assert await self.spool.next_due() is None

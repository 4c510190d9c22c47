"""What the queue tools show, and which mail their filters mean."""

from contextlib import closing

import pytest

from mailserver.interfaces import Settlement
from mailserver.model.address import NULL_SENDER
from mailserver.spool import schema
from mailserver.spool.listing import AGES, Listing
from mailserver.spool.selecting import Selection
from tests.support.spooling import ALICE, DELAYED, DELIVERED, SpoolTestCase


class ListingTests(SpoolTestCase):
    def ask(self, question):
        with closing(schema.connect(self.directory / "spool.db", read_only=True)) as connection:
            return question(Listing(connection))

    def names(self, **filters):
        page = self.ask(lambda listing: listing.page(Selection(**filters), 100))
        return [entry.recipient.partition("@")[0] for entry in page]

    async def fill(self):
        """a and b in one message, old and delayed; c held; d to a domain of its own, from nobody."""
        self.first = await self.store("a@one.example", "b@two.example")
        for duty in await self.take():
            await self.settle(duty, DELAYED, self.clock.seconds() + 60)
        self.clock.advance(7200)
        await self.store("c@two.example", marks={"hold": "too fast"})
        draft = self.spool.draft(ALICE, ())
        draft.write(b"Message-ID: <d@client>\r\n\r\n")
        await draft.commit(self.envelope(draft.id, "d_@three.example", sender=NULL_SENDER))

    async def test_filters(self):
        await self.fill()
        now = self.clock.seconds()
        for filters, expected in (
            ({}, ["a", "b", "c", "d_"]),
            ({"ids": (self.first.id,)}, ["a", "b"]),
            ({"ids": (self.first.id.lower(), "nobody's")}, ["a", "b"]),
            ({"ids": ('"', "%")}, []),
            ({"domain": "TWO.example"}, ["b", "c"]),
            ({"recipient": "A@One.example"}, ["a"]),
            ({"recipient": "two.example"}, ["b", "c"]),
            ({"recipient": "@two.example"}, ["b", "c"]),
            ({"recipient": "%@two.example"}, []),
            ({"sender": "alice@example.lan"}, ["a", "b", "c"]),
            ({"sender": "example.lan", "domain": "one.example"}, ["a"]),
            ({"sender": "<>"}, ["d_"]),
            ({"sender": "<alice@example.lan>", "state": "held"}, ["c"]),
            ({"state": "waiting"}, ["a", "b", "d_"]),
            ({"hold": "too fast"}, ["c"]),
            ({"error": "TRY later"}, ["a", "b"]),
            ({"error": "450"}, ["a", "b"]),
            ({"error": "4.2.0"}, ["a", "b"]),
            ({"error": "4.2"}, []),
            ({"before": now - 3600}, ["a", "b"]),
        ):
            assert self.names(**filters) == expected, filters

    async def test_pages_follow_each_other_whatever_ends_in_between(self):
        await self.fill()
        first = self.ask(lambda listing: listing.page(Selection(), 1))
        (duty,) = [duty for duty in await self.take() if duty.destination == "one.example"]
        await self.settle(duty, DELIVERED)
        rest = self.ask(lambda listing: listing.page(Selection(), 10, first[-1].key))
        assert [entry.recipient[0] for entry in rest] == ["b", "c", "d"]

    async def test_counts(self):
        await self.fill()
        counts = self.ask(lambda listing: listing.counts(Selection(), self.clock.seconds()))
        assert [(one.domain, one.recipients, one.held) for one in counts] == [
            ("two.example", 2, 1),
            ("one.example", 1, 0),
            ("three.example", 1, 0),
        ]
        assert counts[0].ages == (1, 1, 0, 0, 0)
        assert len(AGES) == 4

    async def test_one_message(self):
        await self.fill()
        assert [one.state for one in self.ask(lambda it: it.recipients(self.first.id.lower()))] == [
            "waiting"
        ] * 2
        assert self.ask(lambda it: it.origin(self.first.id))["origin"][2] == "pc7"
        assert self.ask(lambda it: it.origin("no")) == {}
        assert self.ask(lambda it: it.recipients("no")) == []
        assert self.ask(lambda it: it.attempts("no")) == []

    async def test_messages_are_found_by_each_of_their_names(self):
        await self.fill()
        for word in (self.first.id, "A@one.example", "<b@two.example>"):
            assert self.ask(lambda it, word=word: it.find(word, 5)) == [self.first.id]
        assert len(self.ask(lambda it: it.find("<d@client>", 5))) == 1
        assert len(self.ask(lambda it: it.find(str(ALICE), 5))) == 2
        assert self.ask(lambda it: it.find(str(ALICE), 1)) != [self.first.id]

    async def test_a_partial_end_is_shown_with_its_message(self):
        envelope = await self.store("a@one.example", "b@two.example")
        for duty in await self.take():
            end = DELIVERED if duty.destination == "one.example" else DELAYED
            due = None if end is DELIVERED else self.clock.seconds() + 60
            await self.spool.settle(duty, {duty.waiting[0].recipient: Settlement(end, due)}, ())
        entries = self.ask(lambda it: it.recipients(envelope.id))
        assert [entry.state for entry in entries] == ["delivered", "waiting"]


def test_filters_come_out_of_a_request():
    request = {"verb": "queue.hold", "ids": ["X"], "domain": "one.example", "before": 5, "all": True}
    assert Selection.from_request(request) == Selection(ids=("X",), domain="one.example", before=5)
    assert Selection.from_request({}).is_everything
    for wrong in ({"ids": "X"}, {"ids": [1]}, {"sender": None}, {"before": "x"}, {"state": "delivered"}):
        with pytest.raises(ValueError, match="not filters"):
            Selection.from_request(wrong)

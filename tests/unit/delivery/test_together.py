"""Waiting for several at once, and reading a beginning."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from mailserver.delivery.reading import beginning
from mailserver.delivery.together import together
from mailserver.interfaces import StorageTrouble
from tests.support.fakequeue import BytesContent


class TogetherTest(TestCase):
    def setUp(self):
        self.waiting = [Deferred(), Deferred()]

    async def one(self, number):
        return await self.waiting[number]

    def start(self):
        return Deferred.fromCoroutine(together(self.one(number) for number in (0, 1)))

    def test_results_in_order(self):
        running = self.start()
        self.waiting[1].callback("b")
        self.waiting[0].callback("a")
        assert self.successResultOf(running) == ["a", "b"]

    def test_a_failure_is_told_when_all_have_ended(self):
        running = self.start()
        self.waiting[0].errback(ValueError())
        self.assertNoResult(running)
        self.waiting[1].callback("b")
        self.failureResultOf(running, ValueError)

    def test_cancelling_cancels_all(self):
        running = self.start()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        assert all(waiting.called for waiting in self.waiting)


class BeginningTest(TestCase):
    async def test_in_whatever_pieces_it_comes(self):
        for content in (BytesContent(b"0123456789"), BytesContent(b"0123456789", at_hand=False, chunk=3)):
            assert await beginning(content, 7) == b"0123456"
            assert await beginning(content, 70) == b"0123456789"

    async def test_trouble(self):
        with pytest.raises(StorageTrouble):
            await beginning(BytesContent(b"0123456789", trouble=5, chunk=5), 10)

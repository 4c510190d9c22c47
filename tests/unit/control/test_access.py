"""The verbs about lock-outs."""

import pytest
from twisted.trial.unittest import TestCase

from mailserver.access.lockout import Lockout, LockoutRules
from mailserver.control.access import access_verbs
from mailserver.control.server import Declined


class AccessVerbsTests(TestCase):
    def setUp(self):
        self.lockout = Lockout(LockoutRules(1, 60.0), lambda: 0.0)
        self.verbs = access_verbs(self.lockout)

    async def say(self, verb, **request):
        return await self.verbs[verb](request, lambda _: None)

    async def test_list_and_lift(self):
        assert await self.say("access.list") == []
        self.lockout.failed("192.0.2.1", "alice@a.example", b"x")
        expected = [{"client": "192.0.2.1", "account": "alice@a.example", "seconds": 60.0}]
        assert await self.say("access.list") == expected
        assert await self.say("access.lift", client="192.0.2.1") == {"locks": 1}
        assert await self.say("access.list") == []

    async def test_what_is_no_client(self):
        for request in ({}, {"client": 7}):
            with pytest.raises(Declined):
                await self.say("access.lift", **request)

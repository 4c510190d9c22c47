"""A message is worth taking when any of its recipients has room."""

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mailserver.model.envelope import Recipient
from mailserver.smtp.room import Room, always
from tests.support.fakes import FakeDirectory, address

DIRECTORY = FakeDirectory(["full@x.example", "empty@x.example", "slow@x.example", "slowfull@x.example"])
ANSWERS = {"full": False, "empty": True}


def room(account, octets):
    name = account.name.partition("@")[0]
    if name.startswith("slow"):
        return succeed(name == "slow")
    return ANSWERS[name]


def ask(*names):
    return Room(DIRECTORY, room)([Recipient(address(name)) for name in names], 5)


class RoomTests(SynchronousTestCase):
    def test_at_once(self):
        for names, expected in (
            (("full@x.example",), False),
            (("full@x.example", "empty@x.example"), True),
            (("full@x.example", "out@elsewhere.example"), True),
            (("slow@x.example", "empty@x.example"), True),
            ((), True),
        ):
            assert ask(*names) is expected

    def test_later(self):
        for names, expected in (
            (("slow@x.example",), True),
            (("slowfull@x.example",), False),
            (("slowfull@x.example", "full@x.example"), False),
            (("slowfull@x.example", "slow@x.example"), True),
        ):
            assert self.successResultOf(Deferred.fromCoroutine(ask(*names))) is expected

    def test_where_nobody_keeps_quotas(self):
        assert always([], 10**12)

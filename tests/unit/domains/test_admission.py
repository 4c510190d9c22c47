"""Asking cred for an avatar that nobody may wait for any more."""

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface import Interface

from mailserver.domains.admission import admit
from mailserver.domains.credentials import Login


class IThing(Interface):
    """What is asked for."""


class FakePortal:
    """Answers when it is told to."""

    def __init__(self):
        self.answer = Deferred()

    def login(self, credentials, mind, *interfaces):
        return self.answer


class AdmissionTests(TestCase):
    def setUp(self):
        self.portal = FakePortal()
        self.waiting = Deferred.fromCoroutine(admit(self.portal, Login(b"a", b"b"), IThing))
        self.left = []

    def give(self):
        self.portal.answer.callback((IThing, "thing", lambda: self.left.append("left")))

    def test_the_avatar(self):
        self.give()
        avatar, logout = self.successResultOf(self.waiting)
        assert avatar == "thing"
        logout()
        assert self.left == ["left"]

    def test_a_refusal(self):
        self.portal.answer.errback(UnauthorizedLogin())
        self.failureResultOf(self.waiting, UnauthorizedLogin)

    def test_what_is_given_to_nobody_is_let_go(self):
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        assert not self.portal.answer.called
        self.give()
        assert self.left == ["left"]

    def test_a_refusal_to_nobody_is_no_error(self):
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        self.portal.answer.errback(UnauthorizedLogin())

"""People who can log in, without a hash: for SMTP sessions in memory."""

from collections.abc import Mapping
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.mail.interfaces import IMessageDeliveryFactory
from zope.interface import implementer

from mailserver.domains.credentials import IProof
from mailserver.domains.realm import LockedOut, Realm
from mailserver.interfaces import Account
from mailserver.smtp.authentication import Logins
from mailserver.smtp.reception import Office, Sender
from mailserver.threads import Busy
from mailserver.wire.sasl import Mechanisms
from mailserver.wire.scram import Verifier, decoy, make_verifier

__all__ = ["PASSWORD", "FakeChecker", "logins"]

PASSWORD = b"secret"
ALICE = make_verifier(PASSWORD, b"0123456789abcdef", 4096)


@implementer(ICredentialsChecker)
class FakeChecker:
    """Everybody's password is :data:`PASSWORD`. ``busy@…`` and ``locked@…`` are what they are called."""

    credentialInterfaces = (IUsernamePassword, IProof)

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.asked: list[Any] = []
        self._accounts = accounts

    def requestAvatarId(self, credentials: Any) -> "Deferred[Any]":
        self.asked.append(credentials)
        name = credentials.username.decode("utf-8", "replace").lower()
        if name.startswith("busy@"):
            return fail(Busy())
        if name.startswith("locked@"):
            return fail(LockedOut())
        right = credentials.right if IProof.providedBy(credentials) else credentials.password == PASSWORD
        account = self._accounts.get(name)
        return succeed(account) if account and right else fail(UnauthorizedLogin())


def logins(office: Office, accounts: Mapping[str, Account], plainly: bool, scram: bool) -> Logins:
    """How these people log in.

    :param plainly: whether everybody may without TLS.
    """

    async def make_sender(account: Account) -> tuple[object, Any]:
        return Sender(office, account), lambda: None

    def verifier(name: bytes) -> Verifier:
        return ALICE if name.lower() == b"alice@example.lan" else decoy(b"key", name)

    portal = Portal(Realm({IMessageDeliveryFactory: make_sender}), [FakeChecker(accounts)])

    def mechanisms(bindings: Any) -> Mechanisms:
        return Mechanisms(verifier if scram else None, bindings, lambda: "server")

    return Logins(portal, mechanisms, lambda client: plainly)

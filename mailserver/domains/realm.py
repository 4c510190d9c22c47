"""Logins, as ``twisted.cred`` wants them: who it is (:class:`Checker`), and what they get (:class:`Realm`).

Hashing goes on in a :class:`~mailserver.threads.Pool` of its own: a storm of logins delays logins, not mail.
A name that does not exist costs the same hashing as one that does, in the scheme usual in its domain, and
gets the same answer. A password that was right once is known again without hashing, by an
HMAC under a key that never leaves the process, for as long as the stored hash stays the same; POP3 clients
that poll every minute would otherwise cost a core.

:raises: through the Deferred, :class:`twisted.cred.error.UnauthorizedLogin` for a wrong name or password,
    and :class:`mailserver.threads.Busy` when so many logins wait that this one is to try again later.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import field, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from mailserver import journal
from mailserver.domains.directory import Directory
from mailserver.domains.passwords import LONGEST, verify
from mailserver.interfaces import Account
from mailserver.threads import Pool

__all__ = ["AvatarMaker", "Checker", "Login", "Realm", "login_pool"]

AvatarMaker = Callable[[Account], Awaitable[tuple[object, Callable[[], None]]]]
"""Makes what an account gets for one interface: the avatar, and what ends it."""

_REMEMBERED = 10_000  # accounts whose password is known again: some hundred octets each


def login_pool(call: Callable[..., object]) -> Pool:
    """The threads that hash: two, so that a login beside a slow one still gets on; memory for 100 waits."""
    return Pool("password", 2, call, backlog=100)


@implementer(IUsernamePassword)
@frozen
class Login:
    """A name and a password, and the facts of the connection they came by, for the journal.

    :ivar service: the name of the service, as ``pop3``.
    :ivar client: the client's IP address.
    :ivar tls: whether the connection is encrypted.
    """

    username: bytes
    password: bytes = field(repr=False)
    service: str = ""
    client: str = ""
    tls: bool = False

    def checkPassword(self, password: bytes) -> bool:
        """Whether a password in clear is this one: what :class:`IUsernamePassword` asks for."""
        return hmac.compare_digest(self.password, password)


@implementer(ICredentialsChecker)
class Checker:
    """Tells who it is that logs in: the avatar ID is the :class:`Account`.

    :param pool: hashes; see :func:`login_pool`.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, directory: Directory, pool: Pool) -> None:
        self._directory = directory
        self._pool = pool
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def requestAvatarId(self, credentials: ICredentials) -> "Deferred[Any]":
        """The account, or :class:`UnauthorizedLogin` (:class:`ICredentialsChecker`)."""
        return Deferred.fromCoroutine(self._account(credentials))

    async def _account(self, credentials: Any) -> Account:
        name, password = credentials.username, credentials.password
        account, reason = await self._check(name, password)
        if isinstance(credentials, Login):
            told = account.name if account else name.decode("utf-8", "backslashreplace")
            journal.login(credentials.service, credentials.client, told, account is not None, reason)
        if account is None:
            raise UnauthorizedLogin
        return account

    async def _check(self, name: bytes, password: bytes) -> tuple[Account | None, str]:
        """The account, or why not: for the journal, never for the client."""
        if not password or len(password) > LONGEST or b"\0" in password:
            return None, "no possible password"
        try:
            login = name.decode("utf-8")
        except UnicodeDecodeError:
            login = ""
        user = self._directory.user(login)
        if user is None:
            await self._pool.run(verify, self._directory.decoy(login), password)
            return None, "no such user"
        mark = hmac.digest(self._key, user.password.encode() + b"\0" + password, "sha256")
        if not hmac.compare_digest(self._known.get(user.account.name, b""), mark):
            if not await self._pool.run(verify, user.password, password):
                return None, "wrong password"
            self._remember(user.account.name, mark)
        # While the hash was computed the user may have gone, or got another password.
        now = self._directory.user(login)
        if now is None or now.password != user.password:
            return None, "changed meanwhile"
        return now.account, ""

    def _remember(self, name: str, mark: bytes) -> None:
        self._known[name] = mark
        self._known.move_to_end(name)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


@implementer(IRealm)
class Realm:
    """Gives an account what it may have.

    :param avatars: for each interface that can be asked for, what makes the avatar. Whatever it raises,
        as :class:`~mailserver.interfaces.MaildropInUse`, reaches the one who logs in.
    """

    def __init__(self, avatars: Mapping[Any, AvatarMaker]) -> None:
        self._avatars = avatars

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: type[Interface]) -> "Deferred[Any]":
        """The avatar for the first interface that there is one for (:class:`IRealm`)."""
        return Deferred.fromCoroutine(self._avatar(avatarId, interfaces))

    async def _avatar(
        self, account: Account, interfaces: tuple[Any, ...]
    ) -> tuple[Any, object, Callable[[], None]]:
        for interface in interfaces:
            if make := self._avatars.get(interface):
                avatar, logout = await make(account)
                return interface, avatar, logout
        raise NotImplementedError("no avatar for any of the interfaces asked for")

"""Logins, as ``twisted.cred`` wants them: who it is (:class:`Checker`), and what they get (:class:`Realm`).

Hashing goes on in a :class:`~mailserver.threads.Pool` of its own: a storm of logins delays logins, not mail.
A name that does not exist costs the same hashing as one that does, in the scheme usual in its domain, and
gets the same answer. A password that was right is known again for a while without hashing, by a keyed BLAKE2
of it and of the stored hash, under a key that never leaves the server's memory; a user who is disabled or
gone, or whose stored hash is another one, is never known again. POP3 clients that poll every minute would
otherwise cost a core.

Whoever has guessed too often is turned away before anything is hashed, and a wrong password is answered
after a delay that grows (:class:`~mailserver.interfaces.ILockout`), whatever the service.

:raises: through the Deferred, :class:`twisted.cred.error.UnauthorizedLogin` for a wrong name or password,
    :class:`LockedOut`, which is one, for those who are not listened to, and :class:`mailserver.threads.Busy`
    when so many logins wait that this one is to try again later.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import Interface, implementer

from mailserver import journal
from mailserver.domains.credentials import IProof, Login, Proven
from mailserver.domains.directory import Directory
from mailserver.domains.passwords import LONGEST, verify
from mailserver.domains.users import User
from mailserver.interfaces import Account, ILockout
from mailserver.threads import Pool

__all__ = ["AvatarMaker", "Checker", "LockedOut", "Login", "Realm", "login_pool"]

AvatarMaker = Callable[[Account], Awaitable[tuple[object, Callable[[], None]]]]
"""Makes what an account gets for one interface: the avatar, and what ends it."""

_REMEMBER = 3600.0
_REMEMBERED = 50_000  # accounts whose password is known again: some hundred octets each


class LockedOut(UnauthorizedLogin):
    """Too many wrong passwords came from there. Nothing was looked at."""


def login_pool(call: Callable[..., object]) -> Pool:
    """The threads that hash: two, so that a login beside a slow one still gets on; memory for 100 waits."""
    return Pool("password", 2, call, backlog=100)


@implementer(ICredentialsChecker)
class Checker:
    """Tells who it is that logs in: the avatar ID is the :class:`Account`.

    :param pool: hashes; see :func:`login_pool`.
    :param lockout: who has guessed too often.
    :param clock: for the delay of an answer, and for how long a password is known again.
    :ivar remember: for how many seconds after it was hashed a right password is known again; 0: not at all.
        May be changed at any time.
    :param key: random octets, the same for all processes that share a lockout.
    """

    credentialInterfaces = (IUsernamePassword, IProof)

    def __init__(
        self,
        directory: Directory,
        pool: Pool,
        lockout: ILockout,
        clock: IReactorTime,
        key: bytes = b"",
    ) -> None:
        self._directory = directory
        self._pool = pool
        self._lockout = lockout
        self._clock = clock
        self.remember = _REMEMBER
        self._key = key or secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def requestAvatarId(self, credentials: ICredentials) -> "Deferred[Any]":
        """The account, or :class:`UnauthorizedLogin` (:class:`ICredentialsChecker`)."""
        return Deferred.fromCoroutine(self._account(credentials))

    async def _account(self, credentials: Any) -> Account:
        client = getattr(credentials, "client", "")
        login = _decode(credentials.username)
        who = self._directory.login_key(login) or credentials.username.decode("utf-8", "backslashreplace")
        self._check_lock(credentials, client, who)
        if IProof.providedBy(credentials):
            password, (account, reason) = None, self._check_proof(login, credentials.right)
        else:
            password = credentials.password
            account, reason = await self._check(login, password)
            # Guesses that were all on their way before the first was wrong are no way around the lock.
            self._check_lock(credentials, client, who)
        self._note(credentials, who, account, reason)
        if account is None:
            guess = b"" if password is None else self._mark(who, password)[:8]
            await deferLater(self._clock, self._lockout.failed(client, who, guess))
            raise UnauthorizedLogin
        self._lockout.succeeded(client, who)
        return account

    def _check_lock(self, credentials: Any, client: str, who: str) -> None:
        verdict = self._lockout.judge(client, who)
        if not verdict.allowed:
            self._note(credentials, who, None, verdict.reason)
            raise LockedOut

    def _note(self, credentials: Any, who: str, account: Account | None, reason: str) -> None:
        if isinstance(credentials, Login | Proven):
            told = account.name if account else who
            journal.login(credentials.service, credentials.client, told, account is not None, reason)

    async def _check(self, login: str, password: bytes) -> tuple[Account | None, str]:
        """The account, or why not: for the journal, never for the client."""
        if not password or len(password) > LONGEST or b"\0" in password:
            return None, "no possible password"
        user = self._directory.user(login)
        if user is None:
            await self._pool.run(verify, self._directory.decoy(login), password)
            return None, "no such user"
        mark = self._mark(user.password, password)
        if not self._is_known(user.account.name, mark):
            if not await self._pool.run(verify, user.password, password):
                return None, "wrong password"
            self._remember(user.account.name, mark)
        # While the hash was computed the user may have gone, or got another password.
        now = self._directory.user(login)
        if now is None or now.password != user.password:
            return None, "changed meanwhile"
        return _open(now)

    def _check_proof(self, login: str, right: bool) -> tuple[Account | None, str]:
        user = self._directory.user(login)
        if user is None:
            return None, "no such user"
        return _open(user) if right else (None, "wrong proof")

    def _mark(self, what: str, password: bytes) -> bytes:
        # Neither a stored hash nor a name of anybody's has a NUL in it.
        return blake2b(what.encode() + b"\0" + password, digest_size=32, key=self._key).digest()

    def _is_known(self, name: str, mark: bytes) -> bool:
        known, since = self._known.get(name, (b"", 0.0))
        return hmac.compare_digest(known, mark) and self._clock.seconds() - since < self.remember

    def _remember(self, name: str, mark: bytes) -> None:
        if not self.remember:
            self._known.clear()
            return
        self._known[name] = (mark, self._clock.seconds())
        self._known.move_to_end(name)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _decode(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return ""  # nobody's name


def _open(user: User) -> tuple[Account | None, str]:
    return (None, "the account is disabled") if user.account.disabled else (user.account, "")


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

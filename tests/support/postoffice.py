"""A POP3 server on real mailboxes in a directory, without a thread: everything happens at once.

The mailbox of ``alice@example.lan`` (password ``secret``) that :func:`fill` makes:

=== ======= ======== =====================================================================
no. octets  UIDL     what
=== ======= ======== =====================================================================
1   41      1.one    a header and two lines
2   41      2.dots   lines that begin with dots, ``.`` alone among them
3   0       3.empty  nothing at all
4   22      4.open   the last line has no end; another program's file, its name has no sizes
=== ======= ======== =====================================================================
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMailboxPOP3

from mailserver.domains.credentials import IProof
from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import PARTS, THE_DISK
from mailserver.mailboxes.maildrop import Maildrop
from mailserver.mailboxes.snapshot import snapshot
from mailserver.pop3.delay import LoginDelay
from mailserver.pop3.server import BOUNDS, POP3Factory, Rules
from mailserver.wire.sasl import Mechanisms
from mailserver.wire.scram import Verifier, decoy, make_verifier

# The password "secret", with few iterations.
_VERIFIER = make_verifier(b"secret", b"salt of 16 bytes", 4096)


def find_verifier(name: bytes) -> Verifier:
    """What SCRAM holds a proof against; nobody but alice has the password."""
    return _VERIFIER if name == b"alice" else decoy(b"key", name)


__all__ = ["PostOffice", "at_once", "fill", "left_in"]

MESSAGES = {
    "cur/1.one,S=37,W=41:2,S": b"Subject: one\n\nfirst line\nsecond line\n",
    "new/2.dots,S=35,W=41": b"Subject: dots\n\n.\n..two\n.three\n....\n",
    "new/3.empty,S=0,W=0": b"",
    "new/4.open": b"Subject: open\n\nend",
}


def fill(box: Path) -> None:
    """Make the mailbox described above."""
    for part in PARTS:
        (box / part).mkdir(parents=True, exist_ok=True)
    for name, text in MESSAGES.items():
        (box / name).write_bytes(text)


def left_in(box: Path) -> str:
    """The numbers of the messages that are still there: ``1,2,3,4``."""
    names = [path.name for part in ("new", "cur") for path in (box / part).iterdir()]
    return ",".join(sorted(name.partition(".")[0] for name in names))


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """What threads do, without threads."""
    try:
        return function(*arguments)
    except OSError as error:
        raise StorageTrouble(str(error)) from error


class PostOffice:
    """Checker, realm and factory in one.

    :ivar trouble: what a login raises once the password was right; ``None`` for none.
    :ivar gate: when it is not ``None``, logins wait for this Deferred.
    :ivar drops: all the maildrops given out.
    :ivar logouts: how many were let go.
    """

    credentialInterfaces = (IUsernamePassword, IProof)

    def __init__(self, box: Path, clock: Any = None, **arguments: Any) -> None:
        self.box = box
        self.clock = Clock() if clock is None else clock
        self.trouble: Exception | None = None
        self.gate: Deferred[None] | None = None
        self.asked: list[Any] = []
        self.drops: list[Maildrop] = []
        self.logouts = 0
        self.in_thread: Callable[..., Any] = at_once
        self.delay = LoginDelay(0, self.clock.seconds)
        bounds = arguments.pop("bounds", BOUNDS)
        rules = {
            "context": lambda: None,
            "plaintext": lambda address: True,
            "mechanisms": lambda bindings: Mechanisms(find_verifier, bindings, lambda: "3rfcNHYJY1ZVvWVs7j"),
            "login_delay": lambda: self.delay.seconds,
            **arguments,
        }
        portal = Portal(self, [self])
        self.factory = POP3Factory(portal, "mail.example.lan", Rules(**rules), bounds, self.clock)

    def requestAvatarId(self, credentials: Any) -> "Deferred[Any]":
        self.asked.append(credentials)
        if IProof.providedBy(credentials):
            return succeed("alice@example.lan") if credentials.right else fail(UnauthorizedLogin())
        known = {b"alice": b"secret", b"alice@example.lan": b"secret", b"spaces": b" two words "}
        if known.get(credentials.username) != credentials.password:
            return fail(UnauthorizedLogin("the reason is not for strangers"))
        return succeed("alice@example.lan")

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: Any) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self._avatar())

    async def _avatar(self) -> Any:
        if self.gate is not None:
            await self.gate
        if self.trouble is not None:
            raise self.trouble
        drop = await self.delay.open("alice@example.lan", self._open)
        return IMailboxPOP3, drop, lambda: self._logout(drop)

    async def _open(self) -> Maildrop:
        lock = Lock()
        lock.acquire(self.box)
        contents = snapshot(self.box, lambda what, path: None)
        drop = Maildrop("alice@example.lan", self.box, contents, lock, THE_DISK, self.in_thread)
        self.drops.append(drop)
        return drop

    def _logout(self, drop: Maildrop) -> None:
        self.logouts += 1
        drop.logout()

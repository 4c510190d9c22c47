"""The exclusive lock on one maildrop (RFC 1939 §4).

An ``flock`` on a file in the mailbox: it excludes other sessions of this process and other processes alike,
and the kernel lets it go when the process dies, so no lock is ever left behind. The file itself stays.

A lock is used from several threads: released in the reactor while a thread may still be reading or
deleting. It is really let go when the last one who :meth:`uses <Lock.use>` it is done.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserver.interfaces import MaildropInUse

__all__ = ["LOCK_FILE", "Lock"]

LOCK_FILE = "pop3.lock"


class Lock:
    """One attempt at a lock: acquired at most once, released for good. Safe to call from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._fd = -1
        self._users = 0
        self._released = False

    def acquire(self, directory: Path) -> None:
        """Take the lock, in a directory that exists.

        Raises :class:`MaildropInUse` when somebody holds it or when it has been released already, and
        ``OSError``.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with self._guard:
            if self._released:
                raise MaildropInUse
            fd = os.open(f"{directory}/{LOCK_FILE}", flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise MaildropInUse from None
            except OSError:
                os.close(fd)
                raise
            self._fd = fd

    def release(self) -> None:
        """Let it go as soon as nobody uses it. Harmless when repeated, or before :meth:`acquire`."""
        with self._guard:
            self._released = True
            self._let_go()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the lock from being let go meanwhile. Raises :class:`MaildropInUse` when it is too late."""
        with self._guard:
            if self._released:
                raise MaildropInUse
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                self._let_go()

    def _let_go(self) -> None:
        if self._released and not self._users and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

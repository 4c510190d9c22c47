"""How much room the file system has, known without touching it.

``statvfs`` may block for as long as a disk likes, so it is asked in a thread, no more often than every few
seconds, and only when somebody wants to know. Who asks gets what was found last: ``None`` where that is too
old, or where the disk has not answered. Who is about to say no looks again and waits for it: room that was
made a moment ago counts.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred

from mailserver import journal
from mailserver.threads import Busy

__all__ = ["FreeSpace", "affordable"]

_ASK_AGAIN = 5.0
_TOO_OLD = 60.0


class _InThread(Protocol):
    def __call__(self, function: Callable[[Path], int], path: Path, /) -> Awaitable[int]: ...


class FreeSpace:
    """The room on the file system of ``path``.

    :param in_thread: calls a function in a thread: :meth:`mailserver.threads.Pool.run`.
    :param seconds: the time; only differences count.
    """

    def __init__(
        self,
        path: Path,
        in_thread: _InThread,
        seconds: Callable[[], float],
        look: Callable[[Path], int] | None = None,
    ) -> None:
        self._path = path
        self._in_thread = in_thread
        self._seconds = seconds
        self._look = look or _free
        self._octets: int | None = None
        self._found = -_TOO_OLD
        self._asked = -_ASK_AGAIN
        self._answer: Deferred[None] | None = None

    def __call__(self) -> int | None:
        """The octets that may still be written, as far as is known."""
        now = self._seconds()
        if self._answer is None and now - self._asked >= _ASK_AGAIN:
            self._asked = now
            self._answer = Deferred.fromCoroutine(self._ask())
            if self._answer.called:
                self._answer = None
        return self._octets if self._seconds() - self._found < _TOO_OLD else None

    async def look(self) -> int | None:
        """The octets that may be written now; ``None`` where the disk does not say."""
        self._octets = None
        self._asked = self._seconds()
        await self._ask()
        return self._octets

    async def _ask(self) -> None:
        try:
            self._octets = await self._in_thread(self._look, self._path)
            self._found = self._seconds()
        except (OSError, Busy) as error:
            journal.trouble("free space", error)
        finally:
            self._answer = None


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def affordable(reserve: int, path: Path) -> int:
    """So much of ``reserve`` as a file system of this size can spare: a twentieth of it."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return min(reserve, found.f_blocks * found.f_frsize // 20)

"""Snapshots that are used again while nothing has changed.

A client that polls an unchanged maildrop costs a look at two directories, whatever lies in them: a file that
comes, goes or is renamed changes its directory's mtime. What an mtime cannot tell is not trusted: a snapshot
is kept only if both directories had been left alone for a while when it was taken, for of two changes within
one tick of the file system's clock the second leaves no trace.

Memory is bounded by the messages in all snapshots kept; the least recently used goes first. Blocks; called in
several threads.
"""

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from mailserver.mailboxes.contents import Contents
from mailserver.mailboxes.maildir import PARTS, Say
from mailserver.mailboxes.snapshot import snapshot

__all__ = ["Remembered"]

_MOST_MESSAGES = 200_000  # of 400 octets of memory, listings included
_EMPTY = 5  # what a snapshot costs beside its messages, in messages
_TICK = 50_000_000  # nanoseconds: the kernel's clock for files goes in steps of up to 10 ms
_COARSE_TICK = 2_000_000_000  # there are file systems that only know seconds, or even pairs of them
_SECOND = 1_000_000_000

_State = tuple[tuple[int, int], ...]
"""Of each directory: which it is, and when it was changed."""


class Remembered:
    """The snapshots of many Maildirs.

    :param now: nanoseconds since 1970, by the clock that the file system goes by.
    :param most: how many messages there may be in all that is kept.
    """

    def __init__(self, now: Callable[[], int], most: int = _MOST_MESSAGES) -> None:
        self._now = now
        self._most = most
        self._guard = threading.Lock()
        self._kept: OrderedDict[Path, tuple[_State | None, Contents]] = OrderedDict()
        self._messages = 0

    def look(self, directory: Path, say: Say) -> Contents:
        """The messages now, as of :func:`snapshot`.

        Raises ``OSError``: ``FileNotFoundError`` or ``NotADirectoryError`` for what is no Maildir, or not all
        of one.
        """
        with self._guard:
            state, contents = self._kept.get(directory, (None, None))
        now, before = self._now(), _state(directory)
        if contents is not None and state == before:
            with self._guard:
                if directory in self._kept:
                    self._kept.move_to_end(directory)
            return contents
        contents = snapshot(directory, say, contents or Contents())
        # What moved meanwhile, by our own hand or another's, shows in the state; what is too young might not.
        trusted = _is_settled(before, now) and _state(directory) == before
        self._keep(directory, contents, before if trusted else None)
        return contents

    def _keep(self, directory: Path, contents: Contents, state: _State | None) -> None:
        with self._guard:
            self._forget(directory)
            self._kept[directory] = (state, contents)
            self._messages += len(contents) + _EMPTY
            while self._messages > self._most:
                self._forget(next(iter(self._kept)))

    def _forget(self, directory: Path) -> None:
        if directory in self._kept:
            _, contents = self._kept.pop(directory)
            self._messages -= len(contents) + _EMPTY


def _state(directory: Path) -> _State:
    # One look at each part tells both: that there is a Maildir, and what has happened in it.
    facts = {part: os.stat(f"{directory}/{part}") for part in PARTS}
    for part, fact in facts.items():
        if not stat.S_ISDIR(fact.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), f"{directory}/{part}")
    return tuple((facts[part].st_ino, facts[part].st_mtime_ns) for part in ("new", "cur"))


def _is_settled(state: _State, now: int) -> bool:
    """Whether whatever is changed from now on gets another mtime."""
    return all(now - mtime > (_TICK if mtime % _SECOND else _COARSE_TICK) for _, mtime in state)

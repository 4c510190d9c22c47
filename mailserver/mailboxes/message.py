"""Messages being read out of a maildrop: in pieces, and small ones that follow each other several at a time.

A client that fetches one message after the other would have to wait for a thread at each; so when a second
one in a row is asked for, the thread that reads it reads the next few small ones, too. What is read ahead is
bounded. What cannot be read ahead is read when its turn comes, and then it is told why it cannot.
"""

import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from mailserver.mailboxes import filenames
from mailserver.mailboxes.contents import Contents, Message
from mailserver.mailboxes.snapshot import find_again, open_message
from mailserver.wire.dots import WireForm

__all__ = ["InThread", "MessageFile", "Reading"]

InThread = Callable[..., Awaitable[Any]]
"""Calls a function in a thread; system calls' failures come back as :class:`StorageTrouble`."""

_AHEAD = 128 * 1024  # octets read at once, on the wire
_AHEAD_MESSAGES = 32


class Reading:
    """The messages of one maildrop, to be read one at a time."""

    def __init__(self, directory: Path, contents: Contents, in_thread: InThread) -> None:
        self.directory = directory
        self.contents = contents
        self.in_thread = in_thread
        self._next = -1
        self._ahead: dict[int, bytes] = {}

    def open(self, index: int) -> "MessageFile":
        """A message to be read; touches no disk yet."""
        return MessageFile(self, index)

    def ready(self, index: int) -> bytes | None:
        """All of a message, if it has been read ahead; once."""
        text = self._ahead.pop(index, None)
        if text is not None:
            self._next = index + 1
        return text

    async def small(self, index: int, length: int) -> bytes | None:
        """All of a message that is no longer than that, when several are read in a row; else ``None``."""
        text = self.ready(index)
        if text is not None:
            return text
        in_order, self._next = index == self._next, index + 1
        self._ahead.clear()
        batch = self._batch(index, length) if in_order else []
        if len(batch) < 2:
            return None
        texts = await self.in_thread(_read_small, self.directory, [self.contents[n] for n in batch])
        self._ahead = {n: text for n, text in zip(batch, texts, strict=True) if text is not None}
        return self._ahead.pop(index, None)

    def _batch(self, index: int, length: int) -> list[int]:
        """From this message on, as many small ones as may be read at once."""
        batch: list[int] = []
        octets = 0
        for number in range(index, min(index + _AHEAD_MESSAGES, len(self.contents))):
            size = self.contents.sizes[number]
            octets += size
            if size > length or octets > _AHEAD:
                break
            batch.append(number)
        return batch


class MessageFile:
    """A message being read: its octets in wire form, in pieces, with no more than one piece in memory."""

    def __init__(self, reading: Reading, index: int) -> None:
        self._reading = reading
        self._index = index
        self._form = WireForm()
        self._fd = -1
        self._begun = self._at_end = self._closed = False
        self._guard = threading.Lock()

    async def read(self, length: int) -> bytes:
        """About ``length`` octets more; empty only at the end. Raises :class:`StorageTrouble`."""
        if self._at_end:
            return b""
        if not self._begun:
            self._begun = True
            whole = await self._reading.small(self._index, length)
            if whole is not None:
                self._at_end = True
                return whole
        data: bytes = await self._reading.in_thread(self._read, length)
        return data

    def close(self) -> None:
        """Read no more. Harmless when repeated; never waits for the disk."""
        self._closed = True
        self._shut()

    def _read(self, length: int) -> bytes:
        try:
            with self._guard:
                if self._closed:
                    return b""
                if self._fd < 0:
                    self._fd = _open(self._reading.directory, self._reading.contents[self._index])
                data = _read_up_to(self._fd, length)
                if len(data) < length:
                    self._at_end = self._closed = True
                return self._form.feed(data)
        finally:
            # Whoever closed while we were reading has left it to us.
            if self._closed:
                self._shut()

    def _shut(self) -> None:
        if self._guard.acquire(blocking=False):
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._guard.release()


# --- in threads ------------------------------------------------------------------------------------------


def _read_small(directory: Path, messages: Sequence[Message]) -> list[bytes | None]:
    """The messages in wire form; ``None`` for what cannot be read, or is longer than it says."""
    return [_read_whole(directory, message) for message in messages]


def _read_whole(directory: Path, message: Message) -> bytes | None:
    try:
        fd = _open(directory, message)
        try:
            data = _read_up_to(fd, message.size + 1)
        finally:
            os.close(fd)
    except OSError:
        return None
    return None if len(data) > message.size else WireForm().feed(data)


def _read_up_to(fd: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length and (data := os.read(fd, length)):
        pieces.append(data)
        length -= len(data)
    return b"".join(pieces)


def _open(directory: Path, message: Message) -> int:
    try:
        return open_message(f"{directory}/{message.folder}/{message.name}")
    except FileNotFoundError:
        path = find_again(directory).get(filenames.unique_part(message.name))
        if path is None:
            raise
        return open_message(path)

"""Maildirs for a run: filled, counted, emptied, the same for every server."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from benchmarks.peers.server import Server

__all__ = ["await_count", "count", "empty", "fill"]

_LINE = b"the quick brown fox jumps over the lazy dog 0123456789 abcdefghijklmnop\n"
_HEADER = (
    b"Return-Path: <sender@client.test>\nFrom: <sender@client.test>\nTo: <%b@bench.test>\n"
    b"Subject: message %d\nDate: Mon, 06 Jan 2025 10:00:00 +0000\nMessage-ID: <%d.%b@client.test>\n\n"
)
_PATIENCE = 120.0


def fill(server: Server, users: Iterable[str], messages: int, octets: int) -> None:
    """Write the users' Maildirs afresh, each with so many messages that were seen before.

    The files' names carry the sizes, as this server and Dovecot write them.
    """
    for user in users:
        box = _fresh(server, user)
        for number in range(messages):
            text = _text(user, number, octets)
            # Not in the order of the numbers, as names in a real Maildir are not.
            unique = f"{1_700_000_000 + number * 97}.M{number * 7919 % 1_000_000:06}P300Q{number}.mx"
            wire = len(text) + text.count(b"\n")
            path = box / "cur" / f"{unique},S={len(text)},W={wire}:2,S"
            path.write_bytes(text)
            if server.owner:
                os.chown(path, *server.owner)


def empty(server: Server, users: Iterable[str]) -> None:
    """Make the users' Maildirs afresh, with nothing in them."""
    for user in users:
        _fresh(server, user)


def count(server: Server, users: Iterable[str]) -> int:
    """How many messages have been delivered to the users and not been seen yet."""
    return sum(len(os.listdir(box)) for box in (server.box(user) / "new" for user in users) if box.exists())


def await_count(counted: Callable[[], int], wanted: int, patience: float = _PATIENCE) -> None:
    """Wait until so many are there. Raises ``TimeoutError``.

    Counting takes time from the server that is measured, so it is done for a tenth of the time at most.
    """
    deadline = time.monotonic() + patience
    while True:
        begun = time.monotonic()
        found = counted()
        if found >= wanted:
            return
        if begun > deadline:
            raise TimeoutError(f"{found} of {wanted} messages have arrived")
        time.sleep(max(0.005, 9 * (time.monotonic() - begun)))


def _fresh(server: Server, user: str) -> Path:
    box = server.box(user)
    _set_aside(box)
    for directory in (box, box / "tmp", box / "new", box / "cur"):
        directory.mkdir(parents=True, mode=0o700)
        if server.owner:
            os.chown(directory, *server.owner)
    return box


def _set_aside(box: Path) -> None:
    """Out of the way, and there until the run is over.

    After many removals others are slow to make for minutes, which would be measured (:mod:`benchmarks.disk`).
    """
    with suppress(FileNotFoundError):
        box.rename(box.with_name(f"{box.name}.{time.monotonic_ns()}"))


def _text(user: str, number: int, octets: int) -> bytes:
    header = _HEADER % (user.encode(), number, number, user.encode())
    lines = (octets - len(header)) // len(_LINE) + 1
    return header + _LINE * lines

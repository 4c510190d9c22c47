"""What the name of a message's file says (Maildir, with the sizes of Maildir++ as Dovecot writes them).

    1700000000.M123456P4711Q1R0a1b2c3d.mail.example.lan,S=2345,W=2400:2,S
    └──────────────── the unique part ────────────────┘ └─ sizes ──┘ └ flags

The unique part never changes, whoever moves the file or marks it as read; ``S=`` is the size on disk, ``W=``
the size with CRLF line ends, so that a listing needs no file. Pure functions of names; a name from another
program may lack anything.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from mailserver.wire.pop3 import is_unique_id

__all__ = [
    "Facts",
    "UniqueNames",
    "disk_size",
    "facts",
    "finished",
    "is_message",
    "uid_of",
    "unique_part",
]

_DISK_SIZE = re.compile(r",S=([0-9]{1,15})(?=,|\Z)")
_WIRE_SIZE = re.compile(r",W=([0-9]{1,15})(?=,|\Z)")
_ARRIVAL = re.compile(r"([0-9]{1,15})\.(?:[^,:]*?M([0-9]{1,9}))?(?:[^,:]*?Q([0-9]{1,15}))?")
# The names that this server, Dovecot and Courier make: all facts in one look, for there may be many.
_USUAL = re.compile(
    r"(([0-9]{1,15})\.M([0-9]{1,9})P[0-9]+(?:Q([0-9]{1,15}))?[!-+\--9;-~]{0,40})"
    r",S=[0-9]{1,15},W=([0-9]{1,15})(?::[^,]*,[A-Za-z]*)?"
)
_LONGEST_UID = 70
_HOST = 24  # characters of our name in a unique part, which with the rest stays under 70


class UniqueNames:
    """Makes unique parts that no other process, host or moment makes. May be called from any thread."""

    def __init__(self, hostname: str, now: Callable[[], float]) -> None:
        self._now = now
        self._count = itertools.count(1)
        random = int.from_bytes(os.urandom(4), "big")
        host = re.sub(r"[^A-Za-z0-9.-]", "_", hostname)[:_HOST] or "localhost"
        # The process ID alone does not tell two containers on one disk apart.
        self._tail = f"R{random:08x}.{host}"

    def make(self) -> str:
        """A new one."""
        seconds, microseconds = divmod(int(self._now() * 1_000_000), 1_000_000)
        return f"{seconds}.M{microseconds:06}P{os.getpid()}Q{next(self._count)}{self._tail}"


def finished(unique: str, disk: int, wire: int) -> str:
    """The name of a message whose sizes are known."""
    return f"{unique},S={disk},W={wire}"


def is_message(name: str) -> bool:
    """Whether a file of this name can be a message: hidden ones belong to other programs."""
    return not name.startswith(".")


def unique_part(name: str) -> str:
    """What stays the same when the file is moved or marked."""
    return name.partition(":")[0].partition(",")[0]


def disk_size(name: str) -> int | None:
    """Octets on disk, if the name tells."""
    found = _DISK_SIZE.search(name.partition(":")[0])
    return int(found[1]) if found else None


class Facts(NamedTuple):
    """What a snapshot has to know of a message.

    :ivar arrival: what messages are sorted by: time, then the order in which one process took them; the name
        decides between equals.
    :ivar size: octets with CRLF line ends; ``None`` if the name does not tell.
    """

    arrival: tuple[int, int, int]
    size: int | None
    uid: bytes


def facts(name: str) -> Facts:
    """What a name tells."""
    usual = _USUAL.fullmatch(name)
    if usual is not None:
        unique, seconds, fraction, number, size = usual.groups()
        if len(unique) <= _LONGEST_UID:
            arrival = (int(seconds), int(fraction), int(number or 0))
            return Facts(arrival, int(size), unique.encode("ascii"))
    return Facts(_arrival(name), _wire_size(name), uid_of(name))


def uid_of(name: str) -> bytes:
    """The message's unique-id (RFC 1939 §7): its unique part, or a hash where that cannot be one."""
    unique = unique_part(name)
    if is_unique_id(unique):
        return unique.encode("ascii")
    return hashlib.sha256(os.fsencode(unique)).hexdigest().encode("ascii")


def _wire_size(name: str) -> int | None:
    found = _WIRE_SIZE.search(name.partition(":")[0])
    return int(found[1]) if found else None


def _arrival(name: str) -> tuple[int, int, int]:
    found = _ARRIVAL.match(name)
    if found is None:
        return (0, 0, 0)
    return (int(found[1]), int(found[2] or 0), int(found[3] or 0))

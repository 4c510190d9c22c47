"""What file systems open files lie on, as far as it matters to how mail is made durable there."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["ByMount", "Mount"]

_FRESH = 60.0  # seconds for which a device is believed to hold the file system that it held


class Mount(NamedTuple):
    """A line of ``mountinfo`` (proc(5)).

    :ivar device: as ``major:minor``.
    :ivar kind: of the file system.
    :ivar options: of its superblock.
    """

    device: str
    kind: str
    options: list[str]


class ByMount(ABC):
    """Answers a question about the file system of an open file. What cannot be found out is answered no.

    :param now: in seconds, from wherever.
    :param root: what ``/proc`` and ``/sys`` are found in.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, root: Path = Path("/")) -> None:
        self._now = now
        self._proc = root / "proc"
        self._sys = root / "sys"
        self._known: dict[int, tuple[float, bool]] = {}

    def __call__(self, fd: int, device: int) -> bool:
        """Answer for a file on this device (``st_dev``); what was found out is believed for a minute."""
        now = self._now()
        known = self._known.get(device)
        if known is None or not 0 <= now - known[0] < _FRESH:
            known = self._known[device] = now, self._look(fd, device)
        return known[1]

    def _look(self, fd: int, device: int) -> bool:
        with suppress(OSError, ValueError):
            mount = self._mount(fd)
            return mount is not None and self._judge(mount, device)
        return False

    @abstractmethod
    def _judge(self, mount: Mount, device: int) -> bool:
        """Answer for a file there. Raises ``OSError`` or ``ValueError`` where that cannot be found out."""

    def _mount(self, fd: int) -> Mount | None:
        """Where the file was opened: by the number of the mount, which no other mount has."""
        facts = dict(
            line.split(":", 1) for line in (self._proc / "self/fdinfo" / str(fd)).read_text().splitlines()
        )
        number = facts.get("mnt_id", "").strip()
        for line in (self._proc / "self/mountinfo").read_text(errors="replace").splitlines():
            words = line.split(" ")
            if words[0] == number:
                kind, _, options = words[words.index("-") + 1 :][:3]
                return Mount(words[2], kind, options.split(","))
        return None

"""The state directory: made, locked for one server at a time, and told about in ``run/``.

``run/lock`` is held with ``flock`` for as long as the server lives; the kernel lets go of it when the
process ends, however it ends, so a crash leaves no lock behind. It holds the process id of whoever has it.
A server's workers hold it too: when their parent is killed they end, and the next server begins after them.
``secret/`` holds random octets that must be the same at the next start.
``run/listeners.json`` lists what listens where, for tools and tests; it is there while the server listens.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from mailserver.files import put_file, sync_directory

__all__ = ["Listener", "StateDirectory", "StateInUse", "await_orphans", "running_pid", "user_of"]

_ORPHANS_END = 15.0
"""Seconds within which the workers of a server that was killed have ended."""


class StateInUse(Exception):
    """Another server has the state directory."""

    def __init__(self, directory: Path, pid: str) -> None:
        who = "another server" if _is_alive(int(pid or 0)) else "workers of a server that was killed"
        super().__init__(f"{directory}: in use by {who} (pid {pid})")


@frozen
class Listener:
    """A service and the socket address on which it is reached; a UNIX socket has port 0."""

    service: str
    host: str
    port: int


class StateDirectory:
    """The directory named by the ``state`` key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def acquire(self) -> None:
        """Make the directory where it is missing and lock it.

        Blocks until the workers of a server that was killed have ended. Raises :class:`StateInUse`, or
        ``OSError`` when it cannot be made.
        """
        await_orphans(self.path)
        run = self.path / "run"
        missing = [path for path in (run, *run.parents) if not path.exists()]
        # Mail and passwords lie below: nobody else is to look in. The mode of one that exists is its owner's.
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, exist_ok=True)
        for made in reversed(missing):
            # All that the server will answer for lies below: the way there must outlast a power cut, too.
            sync_directory(made.parent)
        # Kept open, and never unlinked: a lock on a file that is gone would not exclude the next server.
        lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise StateInUse(self.path, pid) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock
        self._listeners.unlink(missing_ok=True)

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock; whoever inherits it holds the lock as well."""
        return self._lock

    def announce(self, listeners: Sequence[Listener]) -> None:
        """Write ``listeners.json``, whole or not at all."""
        entries = [{"service": it.service, "host": it.host, "port": it.port} for it in listeners]
        new = self._listeners.with_suffix(".new")
        new.write_text(json.dumps(entries, indent=2) + "\n")
        new.rename(self._listeners)

    def secret(self, name: str) -> bytes:
        """Random octets that are this server's own, the same at each start. Raises ``OSError``."""
        file = self.path / "secret" / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        if not file.exists():
            put_file(file, secrets.token_bytes(32))
            sync_directory(self.path)
        return file.read_bytes()

    def release(self) -> None:
        """Remove ``listeners.json`` and unlock. Harmless when not locked."""
        if self._lock < 0:
            return
        self._listeners.unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = -1

    def listeners(self) -> tuple[Listener, ...]:
        """What listens where now; empty when no server runs."""
        try:
            entries = json.loads(self._listeners.read_text())
        except FileNotFoundError:
            return ()
        return tuple(Listener(entry["service"], entry["host"], entry["port"]) for entry in entries)

    @property
    def _listeners(self) -> Path:
        return self.path / "run" / "listeners.json"


def running_pid(state: Path) -> int | None:
    """The process id of the server that has this state directory; ``None`` when none has."""
    pid = _holder(state)
    return pid if pid and _is_alive(pid) else None


def user_of(state: Path) -> StateInUse | None:
    """What is to be said of who has this state directory, if anybody has."""
    pid = _holder(state)
    return None if pid is None else StateInUse(state, str(pid or ""))


def await_orphans(state: Path) -> None:
    """Wait, blocking, while nobody has this state directory but the workers of a server that was killed."""
    until = time.monotonic() + _ORPHANS_END
    while (pid := _holder(state)) is not None and not _is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)


def _holder(state: Path) -> int | None:
    """Who locked the state directory, if it is locked; he may be dead. 0: he has not said yet."""
    try:
        lock = os.open(state / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).strip()
        return int(pid) if pid else 0
    else:
        return None
    finally:
        os.close(lock)


def _is_alive(pid: int) -> bool:
    if not pid:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

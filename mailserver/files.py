"""Small files of our own, put in their place whole and durably.

A crash at any instant leaves the old file or the new one, never half of either; when :func:`put_file` has
returned, the new one outlasts a power cut. Blocks for the disk: never called on the reactor's thread while
anybody is served. What holds mail has stricter ways of its own (``spool/``, ``mailboxes/``).

:raises OSError: the disk, or the permissions, would not have it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "put_file", "sync_directory"]


def put_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of the file ``path``, readable by the owner alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(handle)
    os.replace(beside, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names put into a directory, or taken out of it, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Change what lies in a directory, alone among all who ask in this way; waits for its turn.

    The lock ends with the process, however that ends.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

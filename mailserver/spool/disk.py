"""The few things the spool asks of the file system, in one place that a test can break.

Every method blocks, raises ``OSError``, and is called in a thread of its own. Files are 0600 and directories
0700 whatever the umask.
"""

import os
from pathlib import Path

from mailserver.files import sync_directory

__all__ = ["Disk"]


class Disk:
    """The real file system."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, durably and with its parents, or mend the mode of one that is there."""
        missing = [parent for parent in path.parents if not parent.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for made in (*reversed(missing), path):
            self.sync_directory(made.parent)

    def create(self, path: Path) -> int:
        """Make a file that must not exist yet; returns its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Wait until what was written is on the disk.

        Never call it again for the same data after it has failed: the kernel may have dropped that data,
        and would then say that all is well.
        """
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on the disk."""
        sync_directory(path)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is as good as removed."""
        path.unlink(missing_ok=True)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Up to ``length`` octets from ``offset`` on."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

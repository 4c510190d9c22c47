"""One Maildir on disk: its directories made, mended and swept.

Everything here blocks and is called in a thread. Raises ``OSError``.

A mailbox comes into being when it is first needed; every directory made is durable before anything is put
in it. A file that stands where a directory should be is set aside under another name, never deleted, and
said. A link that leads nowhere is left alone, and nothing is delivered past it.
"""

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from mailserver.mailboxes.names import SET_ASIDE
from mailserver.mailboxes.ordering import KeepsOrder
from mailserver.mailboxes.renaming import Rename, find_rename
from mailserver.mailboxes.syncing import (
    SyncFS,
    SyncsAll,
    WriteBack,
    find_syncfs,
    find_write_back,
    no_write_back,
)

__all__ = ["PARTS", "THE_DISK", "Disk", "Say", "prepare", "sweep", "sync_directory"]

PARTS = ("tmp", "new", "cur")
_STALE = 36 * 3600.0  # seconds after which a file in tmp/ belongs to nobody (the Maildir manual's figure)

Say = Callable[[str, Path], None]
"""Tells the operator, from a thread: what, and about which path."""


@frozen
class Disk:
    """What is done to a disk and may fail, so that tests can play every fault.

    :ivar syncfs: ``None``: there is none that can be relied on.
    :ivar syncs_all: whether it can on the file system of an open file, on this device.
    :ivar keeps_order: whether the file system of an open file, on this device, lets no name reach the disk
        before content that was written back ahead of it.
    :ivar rename: never onto a name that is there; ``None``: that cannot be done in one go.
    """

    write: Callable[[int, bytes | memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    syncfs: SyncFS | None = None
    syncs_all: Callable[[int, int], bool] = lambda fd, device: True
    write_back: WriteBack = no_write_back
    keeps_order: Callable[[int, int], bool] = lambda fd, device: False
    link: Callable[[str, str], None] = os.link
    rename: Rename | None = None


THE_DISK = (
    Disk(
        syncfs=find_syncfs(os.uname().release),
        syncs_all=SyncsAll(),
        write_back=find_write_back(),
        keeps_order=KeepsOrder(),
        rename=find_rename(),
    )
    if sys.platform == "linux"
    else Disk()
)


def prepare(directory: Path, disk: Disk, say: Say) -> None:
    """See to it that the Maildir exists and is one."""
    if all(os.path.isdir(f"{directory}/{part}") for part in PARTS):
        return
    for path in (directory, *(directory / part for part in PARTS)):
        if not path.is_dir():
            if path.is_file():
                aside = path.with_name(f"{path.name}{SET_ASIDE}{time.time_ns()}")
                path.rename(aside)
                say("set aside: not a directory", aside)
            _make(path, disk)


def sweep(directory: Path, now: float) -> None:
    """Remove what interrupted deliveries left in ``tmp/`` long ago."""
    with os.scandir(directory / "tmp") as entries:
        for entry in entries:
            try:
                facts = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(facts.st_mode) and max(facts.st_mtime, facts.st_ctime) < now - _STALE:
                    os.unlink(entry.path)
            except OSError:
                continue  # somebody else sweeps too, or may not: it is only litter


def sync_directory(directory: Path | str, disk: Disk) -> None:
    """Make names put into the directory, or taken out of it, durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(fd)
    finally:
        os.close(fd)


def _make(path: Path, disk: Disk) -> None:
    if not path.parent.is_dir():
        _make(path.parent, disk)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            # A link to a disk that is not mounted, say: mail must not go elsewhere meanwhile.
            raise
        return  # another process was quicker
    sync_directory(path.parent, disk)

"""File systems whose journal keeps a name from the disk until what it names is there (ext4, XFS).

After a power cut there must be no empty message, nor one of zeros, under a name in ``new/``. It is enough for
that to have a file written back and to have waited for it, by ``sync_file_range``, before it gets that name,
where all of this holds:

- A page stops being under write-back only when its blocks have been allocated, are no longer marked as
  unwritten, and the file's size covers them: all three as changes in the journal's running transaction, or in
  one before it. (ext4 notes the size while it submits the page, in a transaction that stays open until then;
  both have turned "unwritten" into "written" before they say that the page is done.)
- The name is made after that, so it is in the same transaction or in a later one.
- Transactions reach the disk in their order, each whole or not at all.
- The device is told to flush its cache, which by then has the content, after the last change has joined a
  transaction and before the record that makes it count. That is true of the device that the journal is on:
  a journal on another device, or content on XFS's real-time device, is not looked after reliably.

Nothing is durable by that; only the order is kept. ``fsync`` or ``syncfs`` has to follow before anything is
acknowledged. ext4 without a journal writes directories and inodes whenever it likes. With ``data=writeback``
the administrator has asked for no order; ``data=journal``, and fast commits, a feature of ext4 that has to be
asked for, are too rare to be thought through; and what other file systems do was not looked into.
"""

import os
from contextlib import suppress
from pathlib import Path

from mailserver.mailboxes.mounts import ByMount, Mount

__all__ = ["KeepsOrder"]

_INNER_JOURNAL = 8  # the inode that is ext4's journal, unless it lies on another device
_OTHER_DEVICES = ("logdev=", "rtdev=")


class KeepsOrder(ByMount):
    """Tells whether an open file lies on such a file system. What cannot be found out is none."""

    def _judge(self, mount: Mount, device: int) -> bool:
        # Where one file system shows through another (overlayfs), only the device may be the lower one's.
        if mount.device != f"{os.major(device)}:{os.minor(device)}":
            return False
        if mount.kind == "ext4":
            return self._is_ordered_ext4(mount.device)
        return mount.kind == "xfs" and not any(option.startswith(_OTHER_DEVICES) for option in mount.options)

    def _is_ordered_ext4(self, device: str) -> bool:
        """``mountinfo`` is silent about what is the default; the driver's own list of options is not."""
        name = os.path.basename(os.readlink(self._sys / "dev/block" / device))
        facts = self._proc / "fs/ext4" / name
        journal = self._proc / "fs/jbd2" / f"{name}-{_INNER_JOURNAL}"
        options = (facts / "options").read_text().split()
        return "data=ordered" in options and journal.is_dir() and not _commits_fast(facts, options)


def _commits_fast(facts: Path, options: list[str]) -> bool:
    """Only some kernels name it among the options; all of them count how often it was done."""
    if any(option.startswith(("fc_", "fast_commit")) for option in options):
        return True
    with suppress(FileNotFoundError):  # a kernel that does not have it
        for line in (facts / "fc_info").read_text().splitlines():
            number, _, what = line.partition(" ")
            if what in ("commits", "ineligible") and number != "0":
                return True
    return False

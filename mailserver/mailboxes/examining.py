"""What is wrong with one mailbox, and how it is mended.

Looked at: the directories that make it a Maildir; files that are no messages; sizes in names that are not
the files'; two files with one unique part; the count of ``maildirsize``; old files in ``tmp/``. A mended name
keeps its unique part and its flags, so unique-ids stay. Nothing that might be mail is removed.

Blocks; raises ``OSError``. Whoever mends holds the maildrop's lock.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from mailserver.mailboxes import filenames, maildir, quota
from mailserver.mailboxes.maildir import PARTS, Disk, Say
from mailserver.mailboxes.quota import Limit
from mailserver.mailboxes.snapshot import open_message, wire_octets

__all__ = ["Fault", "examine", "mend"]


@frozen
class Fault:
    """Something wrong.

    :ivar better: the name that the file should have; empty where that is not what is wrong.
    """

    path: Path
    text: str
    better: str = ""


def examine(directory: Path, limit: Limit, thoroughly: bool = False) -> Iterator[Fault]:
    """All that is wrong.

    :param thoroughly: read every message, to know its size with CRLF line ends.
    """
    missing = [part for part in PARTS if not (directory / part).is_dir()]
    for part in missing:
        yield Fault(directory / part, "is missing, or no directory")
    seen: dict[str, Path] = {}
    for part in ("new", "cur"):
        if part not in missing:
            yield from _examine_folder(directory / part, seen, thoroughly)
    if limit and not missing:
        with quota.locked(directory):
            noted, counted = quota.noted(directory, limit), quota.count(directory)
        if noted is not None and noted != counted:
            text = f"says {noted.octets} octets in {noted.messages} messages, there are {counted.octets} in"
            yield Fault(directory / quota.SIZE_FILE, f"{text} {counted.messages}")


def mend(directory: Path, limit: Limit, disk: Disk, say: Say, now: float) -> int:
    """Put right what :func:`examine` finds; how much of that there was."""
    faults = list(examine(directory, limit, thoroughly=True))
    maildir.prepare(directory, disk, say)
    for fault in faults:
        if fault.better:
            target = fault.path.with_name(fault.better)
            if not target.exists():
                fault.path.rename(target)
    maildir.sweep(directory, now)
    for part in ("new", "cur"):
        maildir.sync_directory(directory / part, disk)
    if limit:
        with quota.locked(directory):
            quota.recount(directory, limit)
    return len(faults)


def _examine_folder(folder: Path, seen: dict[str, Path], thoroughly: bool) -> Iterator[Fault]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if filenames.is_message(entry.name))
    for name in names:
        path = folder / name
        unique = filenames.unique_part(name)
        if path.is_symlink() or not path.is_file():
            yield Fault(path, "is no file, and nobody sees it")
            continue
        if unique in seen:
            yield Fault(path, f"has the unique part of {seen[unique]}")
        seen[unique] = path
        yield from _examine_name(path, unique, thoroughly)


def _examine_name(path: Path, unique: str, thoroughly: bool) -> Iterator[Fault]:
    try:
        octets = path.stat().st_size
        said = filenames.disk_size(path.name), filenames.facts(path.name).size
        if not thoroughly and said[0] in (octets, None):
            return
        wire = _wire_size(path)
    except OSError as error:
        yield Fault(path, f"cannot be read: {error.strerror or error}")
        return
    if said != (octets, wire) and (thoroughly or said[0] not in (octets, None)):
        info = path.name.partition(":")[2]
        better = filenames.finished(unique, octets, wire) + (f":{info}" if info else "")
        text = "does not say its sizes" if said == (None, None) else "says the wrong sizes"
        yield Fault(path, f"{text}: {octets}, {wire} with CRLF", better)


def _wire_size(path: Path) -> int:
    fd = open_message(path)
    try:
        return wire_octets(fd)
    finally:
        os.close(fd)

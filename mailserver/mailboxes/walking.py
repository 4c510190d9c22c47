"""All mailboxes there are on disk, whoever they belong to: for the daily sweep and for the admin's tools.

Blocks; called in a thread. A directory that cannot be read, or is no mailbox, is passed over.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mailserver.mailboxes.names import name_of, path_of

__all__ = ["directory_of", "mailboxes"]

_DEEPEST = 40  # pieces of a path: names of several thousand characters take so many


@lru_cache(10_000)  # the same people come again and again
def directory_of(root: Path, account: str) -> Path:
    """Where an account's mailbox lies."""
    # By way of octets: a locale that cannot spell the name must not refuse the mail.
    return root / os.fsdecode(str(path_of(account)).encode("utf-8"))


def mailboxes(root: Path) -> Iterator[tuple[str, Path]]:
    """Every mailbox, with the name of its account."""
    yield from _below(root, ())


def _below(directory: Path, above: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    for name in names:
        spelled = (*above, os.fsencode(name).decode("utf-8", "replace"))
        account = name_of(PurePosixPath(*spelled))
        if account is not None:
            if (directory / name / "cur").is_dir():
                yield account, directory / name
        elif len(spelled) < _DEEPEST:
            yield from _below(directory / name, spelled)

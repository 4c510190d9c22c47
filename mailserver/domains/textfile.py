"""Text files read whole, what hinders it being a problem among the others instead of an exception."""

import errno
import os
import stat
from pathlib import Path

from mailserver.model.source import Problem, Source

__all__ = ["read_text"]


def read_text(path: Path, file: str) -> tuple[str | None, tuple[Problem, ...]]:
    """The text of a file.

    :param file: what the file is called in problems.
    :returns: the text, or ``None`` with the problem that kept it from being read; an absent file is one.
    """
    try:
        octets = _read(path)
    except FileNotFoundError:
        return None, (Problem(Source(file), "", "no such file"),)
    except OSError as error:
        return None, (Problem(Source(file), "", f"cannot be read: {error.strerror or error}"),)
    try:
        return octets.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        return None, (Problem(Source(file, line), "", "is not UTF-8 text"),)


def _read(path: Path) -> bytes:
    # Neither a pipe that nobody writes to nor a device without end may hold up a start or a reload.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()

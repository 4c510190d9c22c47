"""Text files read whole, what hinders it being a problem among the others instead of an exception."""

from pathlib import Path

from mailserver.model.source import Problem, Source

__all__ = ["read_text"]


def read_text(path: Path, file: str) -> tuple[str | None, tuple[Problem, ...]]:
    """The text of a file.

    :param file: what the file is called in problems.
    :returns: the text, or ``None`` with the problem that kept it from being read; an absent file is one.
    """
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return None, (Problem(Source(file), "", "no such file"),)
    except OSError as error:
        return None, (Problem(Source(file), "", f"cannot be read: {error.strerror or error}"),)
    try:
        return octets.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        return None, (Problem(Source(file, line), "", "is not UTF-8 text"),)

"""Changing an ``aliases`` file: one alias at a time, everything else as it was.

An alias may go on in lines below its first; they go with it. :mod:`mailserver.domains.rewriting` says how a
change appears.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mailserver.domains.aliases import CATCH_ALL, parse_aliases
from mailserver.domains.naming import parse_local_key
from mailserver.domains.rewriting import edit_lines

__all__ = ["AliasExists", "NoSuchAlias", "add_alias", "remove_alias"]


class NoSuchAlias(Exception):
    """The file has no alias of that name."""


class AliasExists(Exception):
    """The file has an alias of that name already."""


def add_alias(directory: Path, domain: str, name: str, targets: Sequence[str]) -> None:
    """Add an alias at the end.

    :param name: as the file spells it; ``*`` for the catch-all.
    :param targets: as the file spells them.
    :raises AliasExists: there is one.
    :raises ValueError: what would be written is no alias; the text says why.
    """
    line = f"{name}: {', '.join(targets)}"
    known, problems = parse_aliases(line, "", domain)
    if problems or len(known) != 1 or "\n" in line:
        raise ValueError(problems[0].text if problems else f'"{line}" is not an alias')

    def change(lines: list[str]) -> list[str]:
        if _find(lines, domain, name):
            raise AliasExists
        return [*lines, line]

    edit_lines(directory / "aliases", change)


def remove_alias(directory: Path, domain: str, name: str) -> None:
    """Take an alias out, with all its lines. :raises NoSuchAlias: there is none."""

    def change(lines: list[str]) -> list[str]:
        doomed = _find(lines, domain, name)
        if not doomed:
            raise NoSuchAlias
        return [line for number, line in enumerate(lines) if number not in doomed]

    edit_lines(directory / "aliases", change)


def _find(lines: list[str], domain: str, name: str) -> set[int]:
    """The lines of an alias; none where there is none."""
    key = _key(name, domain)
    found: set[int] = set()
    if not key:
        return found
    inside = False
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if line[0] not in " \t":
            known, _ = parse_aliases(line, "", domain)
            inside = key in known or _head_of(bare, domain) == key
        if inside:
            found.add(number)
    return found


def _head_of(line: str, domain: str) -> str:
    """The key of a line whose targets are all in the lines below it, or are wrong."""
    return _key(line.rpartition(":")[0] if line.endswith(":") else line.partition(":")[0], domain)


def _key(name: str, domain: str) -> str:
    if name.strip() == CATCH_ALL:
        return CATCH_ALL
    with suppress(ValueError):
        return parse_local_key(name.strip(), domain)
    return ""

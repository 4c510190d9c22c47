"""Who exists in domains for which mail is handed on: from the route itself, and from a file it names.

In the file stands one address a line, or a name, which is one in each of the route's domains; what follows it
on the line is passed over, as is what begins with ``#``: so a table of another server will do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mailserver.domains.naming import parse_mailbox
from mailserver.domains.textfile import read_text
from mailserver.model.source import Problem, Source

__all__ = ["keys_of", "read_recipients"]


def keys_of(text: str, domains: Sequence[str]) -> Iterator[str]:
    """The keys that an address or a name means.

    Raises ``ValueError`` for what is neither, or is in none of the domains.
    """
    if "@" not in text:
        for domain in domains:
            yield parse_mailbox(text, domain).key
        return
    address = parse_mailbox(text)
    if address.domain not in domains:
        raise ValueError(f'"{text}" is in none of the domains of the route')
    yield address.key


def read_recipients(
    path: Path, shown: str, domains: Sequence[str]
) -> tuple[frozenset[str], tuple[Problem, ...]]:
    """The keys of all that a file lists, and what is wrong with it."""
    text, problems = read_text(path, shown)
    found: set[str] = set()
    more = []
    for number, line in enumerate((text or "").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            found.update(keys_of(words[0], domains))
        except ValueError as error:
            more.append(Problem(Source(shown, number), "", str(error)))
    return frozenset(found), (*problems, *more)

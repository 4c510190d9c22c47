"""The ``aliases`` file of a domain, in the manner of ``/etc/aliases``.

::

    postmaster: alice
    sales:      alice, bob,
                carol@elsewhere.example      # a line that begins with white space goes on
    scanner:    |"/usr/local/bin/file-scan --to archive"
    *:          alice                        # catch-all

A target without ``@`` is in the same domain. A program is named by its absolute path; it may be quoted
behind the bar or with it. Files as targets and ``:include:`` are refused. Whether targets exist, and
whether aliases run in a circle, is known only when every domain is: :mod:`mailserver.domains.tree`.
"""

import re
from collections.abc import Mapping

from attrs import frozen

from mailserver.domains.naming import parse_local_key, parse_mailbox
from mailserver.model.address import Address
from mailserver.model.source import Problem, Source

__all__ = ["CATCH_ALL", "Alias", "parse_aliases"]

CATCH_ALL = "*"

_HEAD = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^":])*):')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?:^|(?<=\s))#.*|,|[^",#]+|#|"')
_ESCAPE = re.compile(r"\\(.)")


@frozen
class Alias:
    """One alias, as it is written.

    :ivar lines: the line of each target.
    :ivar commands: programs with their arguments, the quotes around the whole taken off.
    """

    name: str
    source: Source
    targets: tuple[Address, ...]
    lines: tuple[int, ...]
    commands: tuple[str, ...] = ()


def parse_aliases(text: str, file: str, domain: str) -> tuple[Mapping[str, Alias], tuple[Problem, ...]]:
    """Read an ``aliases`` file.

    :param file: what the file is called in problems.
    :returns: the aliases by key within the domain, the catch-all under ``*``, and all that is wrong.
    """
    reading = _Reading(file, domain)
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if line[0] in " \t":
            reading.go_on(number, bare)
        else:
            reading.begin(number, bare)
    reading.finish()
    return reading.aliases, tuple(reading.problems)


class _Reading:
    """The alias being read, which may go on in the next line, and those already read."""

    def __init__(self, file: str, domain: str) -> None:
        self.aliases: dict[str, Alias] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._domain = domain
        self._name = ""
        self._line = 0
        self._sound = True
        self._targets: dict[Address, int] = {}
        self._commands: list[str] = []

    def begin(self, number: int, text: str) -> None:
        """A line that begins with a name."""
        self.finish()
        match = _HEAD.match(text)
        self._line = number
        self._sound = match is not None
        self._targets = {}
        self._commands = []
        if match is None:
            self._problem(number, "", "is not an alias: name: target, target …")
            return
        self._name = match[1].strip()
        self._take(number, text[match.end() :])

    def go_on(self, number: int, text: str) -> None:
        """A line that goes on with the targets of the one before."""
        if self._line:
            self._take(number, text)
        else:
            self._problem(number, "", "goes on, but there is nothing before it to go on with")

    def finish(self) -> None:
        """The alias is complete."""
        if not self._line or not self._sound:
            return
        source = Source(self._file, self._line)
        self._sound = False
        try:
            key = CATCH_ALL if self._name == CATCH_ALL else parse_local_key(self._name, self._domain)
        except ValueError as error:
            self._problem(self._line, "", str(error))
            return
        if known := self.aliases.get(key):
            self._problem(self._line, self._name, f"is in line {known.source.line} already")
        elif not self._targets and not self._commands:
            self._problem(self._line, self._name, "has no target")
        else:
            targets, lines = tuple(self._targets), tuple(self._targets.values())
            self.aliases[key] = Alias(key, source, targets, lines, tuple(self._commands))

    def _take(self, number: int, text: str) -> None:
        try:
            words = _split_targets(text)
        except ValueError as error:
            self._problem(number, self._name, str(error))
            return
        for word in words:
            try:
                self._add(number, word)
            except ValueError as error:
                self._problem(number, self._name, str(error))

    def _add(self, number: int, word: str) -> None:
        if word.startswith(("|", '"|')):
            self._commands.append(_command(word))
        elif word.startswith(("/", '"/')):
            raise ValueError("a file is no target here: mail goes to users, addresses and |programs")
        elif word.startswith((":", '":')):
            raise ValueError(":include: is not understood here")
        else:
            self._targets.setdefault(parse_mailbox(word, self._domain), number)

    def _problem(self, line: int, key: str, text: str) -> None:
        self._sound = False
        self.problems.append(Problem(Source(self._file, line), key, text))


def _split_targets(text: str) -> list[str]:
    """The targets between the commas, without the comment behind them."""
    if '"' not in text and "#" not in text:
        return [word.strip() for word in text.split(",") if word.strip()]
    words = [""]
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece == '"':
            raise ValueError('a quote is not closed: "…"')
        if piece.startswith("#") and (match.start() == 0 or text[match.start() - 1].isspace()):
            break
        if piece == ",":
            words.append("")
        else:
            words[-1] += piece
    return [word.strip() for word in words if word.strip()]


def _command(word: str) -> str:
    command = word[1:].strip()
    if word.startswith('"'):
        command = _ESCAPE.sub(r"\1", word[1:-1])[1:].strip()
    elif len(command) > 1 and command.startswith('"') and command.endswith('"'):
        command = _ESCAPE.sub(r"\1", command[1:-1]).strip()
    if not command.startswith("/"):
        raise ValueError("a program is named by its absolute path: |/usr/local/bin/…")
    return command

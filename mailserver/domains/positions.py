"""Where each key of a TOML text stands: the line numbers that :mod:`tomllib` does not give.

:func:`locate` reads a text that ``tomllib`` has accepted, so it need not find errors, only places. Every
key, every table, every element of an array (of any nesting, on any number of lines, in inline tables too)
gets the line on which it begins, under its path: ``("relay", "networks", 2)``, ``("listen", 0, "service")``.
"""

import re
import tomllib
from collections.abc import Iterable

__all__ = ["KeyPath", "Positions", "locate", "spell_path"]

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[^ \t.=\]"']+)[ \t]*""")
# The three-quoted forms may end in up to two quotes of content before the three that close.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|' r"'''.*?'{3,5}(?!')|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'", re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\n]+")


class Positions:
    """The lines of a text's keys."""

    def __init__(self, lines: dict[KeyPath, int]) -> None:
        self._lines = lines

    def line(self, path: Iterable[str | int]) -> int:
        """The line of a key, or of the nearest thing around it that is written; 0 if there is none."""
        wanted = tuple(path)
        while wanted and wanted not in self._lines:
            wanted = wanted[:-1]
        return self._lines.get(wanted, 0)


def locate(text: str) -> Positions:
    """Find every key of a valid TOML text."""
    scan = _Scan(text)
    scan.document()
    return Positions(scan.lines)


def spell_path(path: Iterable[str | int]) -> str:
    """A path as an admin reads it: ``relay.networks[2]``."""
    spelled = ""
    for part in path:
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else str(part)
    return spelled


class _Scan:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._tables: dict[KeyPath, int] = {}

    def document(self) -> None:
        """Read headers and key/value pairs to the end."""
        table: KeyPath = ()
        while self._skip_blank():
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> KeyPath:
        self._at += brackets
        keys = self._key()
        self._at += brackets
        path: KeyPath = ()
        for key in keys[:-1]:
            self._note((*path, key))
            path = self._enter((*path, key))
        path = (*path, keys[-1])
        if brackets == 2:
            self._tables[path] = self._tables.get(path, 0) + 1
        self._note(path)
        entered = self._enter(path)
        self._note(entered)
        return entered

    def _enter(self, path: KeyPath) -> KeyPath:
        """A table's path, with the index of the latest one where it is an array of tables."""
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _pair(self, table: KeyPath) -> None:
        path = table
        for key in self._key():
            path = (*path, key)
            self._note(path)
        self._at += 1  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        keys = []
        while match := _KEY_PART.match(self._text, self._at):
            part = match[1]
            keys.append(_unquote(part) if part[0] in "\"'" else part.rstrip())
            self._at = match.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        first = self._text[self._at]
        if first == "[":
            self._members(path, "]")
        elif first == "{":
            self._members(path, "}")
        else:
            token = (_STRING if first in "\"'" else _BARE).match(self._text, self._at)
            assert token is not None, "tomllib accepted this text"
            self._at = token.end()

    def _members(self, path: KeyPath, end: str) -> None:
        self._at += 1
        index = 0
        while self._skip_blank() and self._text[self._at] != end:
            if self._text[self._at] == ",":
                self._at += 1
            elif end == "}":
                self._pair(path)
            else:
                self._note((*path, index))
                self._value((*path, index))
                index += 1
        self._at += 1

    def _skip_blank(self) -> bool:
        """Go to the next thing that is not white space or a comment; false at the end."""
        if match := _BLANK.match(self._text, self._at):
            self._at = match.end()
        return self._at < len(self._text)

    def _note(self, path: KeyPath) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self.lines.setdefault(path, self._line)


def _unquote(part: str) -> str:
    return str(tomllib.loads(f"key = {part}")["key"])

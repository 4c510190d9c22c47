"""Where a rule stands: the file and line that every decision names (law 9)."""

from attrs import frozen

__all__ = ["BUILT_IN", "Problem", "Source"]


@frozen
class Source:
    """A line of a configuration file.

    :ivar line: counted from 1; 0 when the whole file, or no file, is meant.
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


BUILT_IN = Source("built-in")
"""The rule is the server's own; no file says it."""


@frozen
class Problem:
    """Something wrong in a configuration file, to be told with all the others.

    :ivar key: the key or the field as the admin spells it, ``relay.networks[2]``; may be empty.
    :ivar fatal: whether the configuration must not be used; otherwise it is a warning.
    """

    source: Source
    key: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        parts = [str(self.source), self.key, self.text]
        return ": ".join(part for part in parts if part)

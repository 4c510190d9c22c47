"""Where a rule stands: the file and line that every decision names (law 9)."""

from attrs import frozen

__all__ = ["BUILT_IN", "Source"]


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

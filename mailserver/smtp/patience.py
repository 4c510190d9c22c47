"""How long a session is borne with: unknown recipients, and commands that lead to no message.

Who guesses at names (a directory harvest) is answered ever more slowly, from the third unknown recipient on,
and at last not at all; so is who keeps the server busy with commands and never sends anything.
"""

__all__ = ["Patience"]

_FREE = 2
_LONGEST = 16.0
_WASTED = 100


class Patience:
    """One session's.

    :param most: unknown recipients with which it ends; 0: no number of them.
    """

    __slots__ = ("_most", "_unknown", "_wasted")

    def __init__(self, most: int) -> None:
        self._most = most
        self._unknown = 0
        self._wasted = 0

    def unknown(self) -> float:
        """Count a recipient that does not exist; returns seconds to wait before that is said."""
        self._unknown += 1
        over = self._unknown - _FREE
        return 0.0 if not self._most or over <= 0 else min(2.0 ** min(over - 1, 10), _LONGEST)

    def wasted(self) -> bool:
        """Count a command that does nothing for a message; whether the session is over."""
        self._wasted += 1
        return bool(self.ends)

    def worked(self) -> None:
        """A message begins: what was wasted is forgiven. What was guessed is not."""
        self._wasted = 0

    @property
    def ends(self) -> str:
        """Why the session is over; empty while it is not."""
        if self._most and self._unknown >= self._most:
            return "too many unknown recipients"
        return "too many commands and no message" if self._wasted >= _WASTED else ""

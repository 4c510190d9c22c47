"""Where mail that is due may be waiting in the queue, so that mail that comes does not go before it.

After a look at the queue that is wherever the look was not to take from, or did not take everything; before
the first one, or after one that failed, it is everywhere. Mail that was taken and given back adds to it. What
falls due after a look is not known here: until the next one, which is made for it, mail that comes may go
before it.
"""

from collections.abc import Iterable

__all__ = ["Backlog"]


class Backlog:
    """The destinations."""

    def __init__(self) -> None:
        self._everywhere = True
        self._names: dict[str, int] = {}  # since which look
        self._looks = 0

    def add(self, destination: str) -> None:
        """Mail that is due is in the queue there."""
        self._names[destination] = self._looks

    def lose(self) -> None:
        """Nothing is known any more."""
        self._everywhere = True

    def look(self) -> None:
        """A look at the queue begins."""
        self._looks += 1

    def looked(self, left: Iterable[str]) -> None:
        """It has ended: what was due when it began has been taken, but at those destinations."""
        self._everywhere = False
        # What was added since it began, it may not have seen.
        self._names = {name: look for name, look in self._names.items() if look == self._looks}
        self._names.update(dict.fromkeys(left, self._looks))

    def __contains__(self, destination: str) -> bool:
        return self._everywhere or destination in self._names

    def __bool__(self) -> bool:
        return self._everywhere or bool(self._names)

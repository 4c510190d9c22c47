"""Which messages are taken, by destination: nobody hands them out again until they are given back.

Two threads take. The one that reads takes what it finds; the one that commits *claims* what it stores, so
that mail that just came goes to delivery without being looked for. It claims before the commit: whoever sees
a message in the database finds it claimed. What a transaction that is rolled back had claimed is renounced:
its numbers are used again.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence, Set

__all__ = ["Claims", "Pair"]

Pair = tuple[str, int]
"""A destination and a message's number."""

_NONE: Set[int] = frozenset()


class Claims:
    """The messages taken. All but :meth:`claim` and :meth:`renounce` is for the thread that reads."""

    def __init__(self) -> None:
        self._taken: defaultdict[str, set[int]] = defaultdict(set)
        self._news: deque[tuple[bool, Sequence[Pair]]] = deque()  # appending to it is atomic

    def claim(self, pairs: Sequence[Pair]) -> None:
        """These are taken, although they are not in the database yet. From the thread that commits."""
        self._news.append((True, pairs))

    def renounce(self, pairs: Sequence[Pair]) -> None:
        """They will not be in the database. From the thread that commits, before it claims anything else."""
        self._news.append((False, pairs))

    def heed(self) -> None:
        """Take note of what was claimed.

        What is in the database before this call has been claimed if it ever will be: a snapshot is to be
        begun first.
        """
        while self._news:
            is_claimed, pairs = self._news.popleft()
            if is_claimed:
                for destination, message in pairs:
                    self._taken[destination].add(message)
            else:
                self._drop(pairs)

    def add(self, destination: str, message: int) -> None:
        """This one is taken."""
        self._taken[destination].add(message)

    def drop(self, pairs: Iterable[Pair]) -> None:
        """These are taken no more."""
        self.heed()  # some may have been claimed since
        self._drop(pairs)

    def of(self, destination: str) -> Set[int]:
        """The numbers of the messages taken for a destination."""
        return self._taken.get(destination, _NONE)

    def _drop(self, pairs: Iterable[Pair]) -> None:
        for destination, message in pairs:
            taken = self._taken.get(destination)
            if taken is not None:
                taken.discard(message)
                if not taken:
                    del self._taken[destination]

"""What the processes remember together, kept in step (:class:`~mailserver.interfaces.IShared`).

Every process holds all of it and answers from its own memory. A worker tells its parent what it learns; the
parent takes it in and passes it on to the other workers. A worker that begins gets the parent's memory, and
after it, in order, whatever comes later: nothing is missed and nothing is heard twice. What a worker that
dies has not told is lost with it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mailserver.interfaces import IShared

__all__ = ["Hub", "share"]

Say = Callable[..., None]
"""Says something to another process: :meth:`mailserver.workers.channel.Channel.say`."""


def share(memories: Mapping[str, IShared], say: Say) -> dict[str, Callable[..., None]]:
    """A worker's part: what it learns is said. Returns what its parent's messages are for."""
    for name, memory in memories.items():
        memory.tell = partial(say, "news", name)

    def hear(name: str, news: Any) -> None:
        memories[name].hear(news, 0)

    return {"news": hear}


class Hub:
    """The parent's part.

    :param others: how to speak to each worker there is, by its number.
    """

    def __init__(
        self, memories: Mapping[str, IShared], others: Callable[[], Iterable[tuple[int, Say]]]
    ) -> None:
        self._memories = memories
        self._others = others
        for name, memory in memories.items():
            memory.tell = partial(self._pass_on, 0, name)

    def hear(self, source: int, name: str, news: Any) -> None:
        """A worker has learnt something."""
        self._memories[name].hear(news, source)
        self._pass_on(source, name, news)

    def lost(self, source: int) -> None:
        """A worker is no more."""
        for memory in self._memories.values():
            memory.lost(source)

    def remember(self) -> dict[str, Any]:
        """All that is known, for a worker that begins."""
        return {name: memory.remember() for name, memory in self._memories.items()}

    def _pass_on(self, source: int, name: str, news: Any) -> None:
        for number, say in self._others():
            if number != source:
                say("news", name, news)

"""What a maildrop holds, as values: its messages in order, and the listings made of them.

A listing is made once for all sessions that see the same contents, in one pass over the messages.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, NamedTuple

__all__ = ["Contents", "Message"]


class Message(NamedTuple):
    """One message: its folder (``new`` or ``cur``), file name, octets on the wire and unique-id."""

    folder: str
    name: str
    size: int
    uid: bytes


class Contents(Sequence[Message]):
    """The messages of one snapshot. Never changes.

    :ivar sizes: their octets, in the same order.
    :ivar octets: all of them together.
    """

    __slots__ = ("_listings", "_messages", "octets", "sizes")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._messages = tuple(messages)
        self.sizes = tuple(message.size for message in self._messages)
        self.octets = sum(self.sizes)
        self._listings: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: Any) -> Any:
        return self._messages[index]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def listing(self, what: str, without: frozenset[int] | set[int] = frozenset()) -> bytes:
        """The rows of LIST (``size``) or UIDL (``uid``), in wire form.

        :param without: indices of messages to be left out.
        """
        rows = self._listings.get(what)
        if rows is None:
            rows = self._listings[what] = self._list(what)
        if not without:
            return rows
        present = [index not in without for index in range(len(self))]
        return b"\r\n".join([*compress(rows.split(b"\r\n"), present), b""])

    def _list(self, what: str) -> bytes:
        if what == "size":
            return b"".join([b"%d %d\r\n" % row for row in enumerate(self.sizes, 1)])
        return b"".join([b"%d %b\r\n" % (n, message.uid) for n, message in enumerate(self._messages, 1)])

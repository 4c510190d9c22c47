"""What was committed lately, still in memory, so that delivery right after acceptance reads no disk.

A bounded least-recently-used cache; losing an entry, or all of them, costs a read and nothing else. Used by
the reactor's thread and by the reader's.
"""

import threading
from collections import OrderedDict

from mailserver.model.envelope import Envelope, QueueID

__all__ = ["Recent"]

_OVERHEAD = 2000
"""Octets that an envelope takes, roughly, and each further recipient a quarter of it."""


class Recent:
    """Envelopes and small contents by queue ID.

    :param limit: octets that all entries together may take.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[QueueID, tuple[Envelope, bytes | None, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def put(self, envelope: Envelope, octets: bytes | None) -> None:
        """Remember a message that is on the disk; ``octets`` is ``None`` for one whose content is a file."""
        cost = len(octets or b"") + _OVERHEAD + len(envelope.recipients) * _OVERHEAD // 4
        if cost > self._limit:
            return
        with self._lock:
            self._remove(envelope.id)
            self._entries[envelope.id] = envelope, octets, cost
            self._size += cost
            while self._size > self._limit:
                self._remove(next(iter(self._entries)))

    def envelope(self, id: QueueID) -> Envelope | None:
        """The envelope of a message, if it is remembered."""
        with self._lock:
            entry = self._entries.get(id)
            if entry is None:
                return None
            self._entries.move_to_end(id)
            return entry[0]

    def octets(self, id: QueueID) -> bytes | None:
        """The content of a message, if it is small and remembered."""
        with self._lock:
            entry = self._entries.get(id)
            return entry[1] if entry is not None else None

    def forget(self, id: QueueID) -> None:
        """The message has changed or gone."""
        with self._lock:
            self._remove(id)

    def _remove(self, id: QueueID) -> None:
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._size -= entry[2]

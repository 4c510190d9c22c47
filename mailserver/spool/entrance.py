"""The entrance of the spool: what those who bring mail have of it (:class:`~mailserver.interfaces.ISpool`).

Drafts begin here, in whichever process: small content is kept in memory, large content goes to a file in the
spool's directory while it comes. What is complete is stored by ``store``: in the process that delivers that
is the spool itself, in a worker it is handed to that process. Nothing here touches the database.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from zope.interface import implementer

from mailserver.interfaces import IDraft, ISpool
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Recipient, make_queue_id
from mailserver.spool.body import Body, Sealed
from mailserver.spool.disk import Disk
from mailserver.spool.draft import Draft
from mailserver.spool.orders import StandingOrders
from mailserver.threads import CallFromThread, Pool

__all__ = ["FILE_THREADS", "HOLD", "Entrance"]

HOLD = "hold"
"""The envelope's mark that has a message held when it comes; its value is the reason."""

FILE_THREADS = 4
_FILE_BACKLOG = 10_000


@implementer(ISpool)
class Entrance:
    """The way in.

    :param contents: the directory of large contents.
    :param now: seconds since 1970.
    :param call_from_thread: ``reactor.callFromThread``.
    :param entropy: gives random bits, as ``secrets.randbits`` does.
    :param store: makes a message durable, and owns its content from then on.
    """

    def __init__(
        self,
        contents: Path,
        now: Callable[[], float],
        call_from_thread: CallFromThread,
        entropy: Callable[[int], int],
        store: Callable[[Envelope, Sealed], Awaitable[None]],
        disk: Disk | None = None,
    ) -> None:
        self._contents = contents
        self._now = now
        self._entropy = entropy
        self._store = store
        self._disk = disk or Disk()
        self._files = Pool("spool-files", FILE_THREADS, call_from_thread, _FILE_BACKLOG)
        self._orders = StandingOrders()

    def start_files(self) -> None:
        """Begin: large drafts may be written from now on."""
        self._files.start()

    def stop_files(self) -> None:
        """Finish what was begun with files, and end. Does not wait for it."""
        self._files.stop()

    def draft(self, sender: Address, recipients: Sequence[Recipient]) -> IDraft:
        """As :meth:`mailserver.interfaces.ISpool.draft`."""
        id_ = make_queue_id(self._now(), self._entropy(40))
        return Draft(id_, self._body(id_), self._store)

    def detains(self, envelope: Envelope) -> bool:
        """As :meth:`mailserver.interfaces.ISpool.detains`."""
        return HOLD in envelope.marks or self._orders.concern(envelope)

    @property
    def orders(self) -> StandingOrders:
        """The administrator's, as they stand now."""
        return self._orders

    def obey(self, orders: StandingOrders) -> None:
        """The administrator has given these."""
        self._orders = orders

    def _body(self, name: str) -> Body:
        return Body(self._disk, self._files, self._contents, name)

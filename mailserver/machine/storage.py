"""Storage: who lives here, where mail rests, where it waits.

Both sides of the server stand on it, the one that accepts (:mod:`mailserver.machine.front`) and the one that
delivers (:mod:`mailserver.machine.back`). Where they are several processes, the one that delivers has all of
it, and keeps it up; the others have :class:`Holdings` of their own, whose mail goes to that one.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from mailserver.access.routes import routed_domains
from mailserver.config import Config
from mailserver.delivery.notice import QuotaNotices
from mailserver.domains.directory import Directory
from mailserver.domains.senders import Senders
from mailserver.entropy import Entropy
from mailserver.interfaces import Account
from mailserver.mailboxes.store import MailStore
from mailserver.settings import relay_domains
from mailserver.spool.entrance import Entrance
from mailserver.spool.history import FILE as HISTORY
from mailserver.spool.history import History
from mailserver.spool.store import Spool
from mailserver.spool.story import Story
from mailserver.state import StateDirectory

__all__ = ["Finished", "Holdings", "Storage"]

_log = Logger()

Finished = Callable[[Iterable[Story]], None]
"""Is told the stories of mail: :meth:`mailserver.spool.history.History.finished`."""

_DAY = 86400.0


class Holdings:
    """What every process has.

    :ivar directory: who lives here.
    :ivar senders: under which addresses forwarded mail goes out.
    :ivar mailboxes: where mail rests.
    :ivar spool: the way in to where it waits.
    :ivar finished: told of mail that has ended here.
    """

    spool: Entrance

    def __init__(self, config: Config, mailboxes: MailStore, spool: Entrance, finished: Finished) -> None:
        self.senders = Senders(time.time, b"", config.forwarding.srs)  # the key is read at the start
        self.directory = Directory(config.tree, config.hostname, self.senders)
        self._keep_routes(config)
        self.mailboxes = mailboxes
        self.spool = spool
        self.finished = finished
        self._keep_mailboxes(config)

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self.directory.replace(config.tree)
        self._keep_routes(config)
        self.senders.rewrites = config.forwarding.srs
        self._keep_mailboxes(config)
        self.mailboxes.limits_changed()

    def _keep_mailboxes(self, config: Config) -> None:
        self.mailboxes.warn_at = config.mailboxes.quota_warnings
        self.mailboxes.keep_deleted = config.mailboxes.keep_deleted

    def _keep_routes(self, config: Config) -> None:
        self.directory.routed = routed_domains(config.delivery.routes)
        self.directory.relayed = relay_domains(config)


class Storage(Holdings):
    """All there is on disk, in the process that delivers.

    :ivar spool: where mail waits.
    :ivar history: what became of it.
    """

    spool: Spool

    def __init__(self, reactor: Any, config: Config) -> None:
        call = reactor.callFromThread
        mailboxes = MailStore(config.state / "mail", config.hostname, time.time, call)
        directory = config.state / "spool"
        self.history = History(
            directory / HISTORY, time.time, call, reactor.callLater, config.delivery.history
        )
        waits = config.delivery.schedule.waits
        spool = Spool(directory, time.time, call, Entropy(), max(waits))
        super().__init__(config, mailboxes, spool, self.history.finished)
        self._notices = QuotaNotices(config.hostname, spool, time.time)
        mailboxes.on_filling = self._warn_of_filling
        self._tidying = LoopingCall(lambda: Deferred.fromCoroutine(mailboxes.tidy()))
        self._tidying.clock = reactor

    def start(self, state: StateDirectory) -> None:
        """Open all of it; blocks. Raises ``SpoolUnusable`` or ``OSError``."""
        self.senders.key = state.secret("senders")
        globalLogPublisher.addObserver(self.history)
        self.spool.history = self.history
        self.spool.start()
        self.mailboxes.start()
        _ = self._tidying.start(_DAY, now=False).addErrback(_broken)

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        super().reload(config)
        self.history.keep = config.delivery.history

    def rest(self) -> None:
        """Begin no more upkeep: the server stops."""
        if self._tidying.running:
            self._tidying.stop()

    async def stop(self) -> None:
        """Finish what was begun, and close."""
        await self.mailboxes.stop()
        await self.spool.stop()
        globalLogPublisher.removeObserver(self.history)

    def _warn_of_filling(self, account: Account, level: int) -> None:
        _ = Deferred.fromCoroutine(self._notices.send(account, level)).addErrback(_broken)


def _broken(failure: Failure) -> None:
    _log.failure("in the upkeep of mailboxes", failure)

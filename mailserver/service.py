"""The composition root: builds the whole machine, starts it in order, stops it in the opposite order.

:func:`makeService` is what ``twistd mailserver`` calls. :class:`MailServer` joins the parts, which are built
in :mod:`mailserver.machine`, and starts, reloads and stops them. Nothing below those is handed the
configuration, only the plain values that :mod:`mailserver.settings` cuts from it. With ``workers``, this is
the process that stores, steers and holds the sockets; :mod:`mailserver.workers` accept, and speak to others.

Start: the sockets are bound while we may still be root, the state directory is locked (a second server on it
refuses to start), then storage opens, then delivery and sessions begin. Stop: no new connections, sessions
end after the command under way, delivery finishes or gives up what it is doing, storage closes.

A configuration that cannot be used, a socket that cannot be bound and a state directory that is in use end
the process with exit status 1 and a line on standard error that says what and where. On SIGHUP the
configuration is read again; one with an error is refused whole and the old one stays.
"""

import os
import secrets
import signal
import sys
import time
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.failure import Failure

from mailserver import __version__, journal
from mailserver.config import Config
from mailserver.config.reading import ConfigErrors, find_config, load
from mailserver.control.access import access_verbs
from mailserver.control.server import Control
from mailserver.listening import open_many_files
from mailserver.logfile import Log, log_of
from mailserver.machine.back import Back
from mailserver.machine.collector import keep_what_is_built
from mailserver.machine.counters import Counters, Ledger
from mailserver.machine.front import Front
from mailserver.machine.storage import Storage
from mailserver.net.certificates import BadCertificate
from mailserver.net.reactor import shorten
from mailserver.settings import as_begun, unable, unchangeable, unwise, worker_count
from mailserver.spool.schema import SpoolUnusable
from mailserver.state import StateDirectory, StateInUse, await_orphans, user_of
from mailserver.supervisor import Supervisor
from mailserver.threads import Pool
from mailserver.workers.house import Workers
from mailserver.workers.worker import Beginning

__all__ = ["MailServer", "Options", "makeService"]

_log = Logger()

_FAREWELL = 5.0
"""Seconds that sessions, and then deliveries under way, get to end by themselves at a stop."""


class Options(usage.Options):
    """The command line of ``twistd mailserver``."""

    synopsis = "Usage: twistd [options] mailserver [--config FILE]"
    optParameters = [  # noqa: RUF012 - the name and type that twisted.python.usage reads
        ["config", "c", None, "The configuration [etc/mailserver.toml, /etc/mailserver/mailserver.toml]"],
    ]

    def opt_version(self) -> None:
        """Show the server's version."""
        print("mailserver", __version__)
        raise SystemExit(0)


def makeService(options: Options) -> "MailServer":
    """The server on the configuration that the command line names.

    Raises ``SystemExit(1)`` after printing all that is wrong with it.
    """
    from twisted.internet import reactor

    try:
        config = load(find_config(options["config"]).absolute())
    except ConfigErrors as errors:
        _refuse(*errors.problems)
    # Deadlines must not move when somebody sets the clock. Calendar time is always asked for as such.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    shorten(reactor)
    return MailServer(reactor, config, log_of(options.parent or {}, reactor.callFromThread))  # type: ignore[attr-defined]


def _refuse(*reasons: object) -> NoReturn:
    """Say why the server does not start, and end the process."""
    for reason in reasons:
        # twistd has put its log in the place of sys.stderr by the time sockets are bound; whoever typed the
        # command looks at the real one.
        print(reason, file=sys.__stderr__)
        if sys.stderr is not sys.__stderr__:
            journal.trouble("start", reason)
    raise SystemExit(1)


class MailServer(Service):
    """The server, as one Twisted service.

    :param reactor: the reactor, for all that follows from here.
    :param config: what it is built from; its files are read again at a reload.
    :param log: what is logged goes there; ``None``: wherever twistd has it go.
    """

    def __init__(self, reactor: Any, config: Config, log: Log | None = None) -> None:
        self._reactor = reactor
        self._log = log
        self._begun = self._config = config
        self._state = StateDirectory(config.state)
        self._supervisor = Supervisor(reactor, os.environ)
        self._key = secrets.token_bytes(32)
        self._chores = Pool("chores", 1, reactor.callFromThread)
        workers = worker_count(config.workers, len(os.sched_getaffinity(0)))
        self._storage = Storage(reactor, config)
        self._ledger = ledger = Ledger(reactor, config)
        self._counters = Counters(reactor, config, self._storage, ledger.meet, ledger.devices)
        self._front = Front(reactor, config, self._storage, self._counters, self._chores, self._key)
        self._listeners = self._front.listeners
        self._back = Back(reactor, config, self._storage, self._listeners.bound, self._chores)
        self._workers = Workers(reactor, workers, self._storage, self._counters, ledger, self._back.outbound)
        # The administrator's verbs: to add some, add a table.
        verbs = {
            **self._back.verbs(),
            **access_verbs(self._counters.lockout),
            **self._workers.verbs(),
        }
        self._control = Control(reactor, config.state / "run" / "control", verbs)

    # --- start --------------------------------------------------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        if self._log is not None:
            # twistd, which begins to log next, asks its application for somewhere to log to.
            parent.setComponent(ILogObserver, self._log)

    def privilegedStartService(self) -> None:
        """Bind the sockets, while we may still be root. Raises ``SystemExit(1)`` when one cannot be bound."""
        open_many_files()
        await_orphans(self._config.state)  # they may have the sockets
        refusals = self._listeners.bind(self._config.listen)
        if refusals:
            user = user_of(self._config.state)
            _refuse(*refusals, *([user] if user is not None else []))

    def startService(self) -> None:
        """Open what there is on disk, then begin. Raises ``SystemExit(1)`` when that cannot be used."""
        super().startService()
        # Only now is it clear who we are: privileges have been given up, where they are.
        if refusals := unable(self._config, os.geteuid()):
            _refuse(*refusals)
        try:
            self._state.acquire()
            self._front.load_certificates(self._config)
            self._storage.start(self._state)
            self._ledger.start()
            self._front.start(self._state)
        except (StateInUse, BadCertificate, SpoolUnusable, OSError) as refusal:
            _refuse(refusal)
        self._chores.start()
        self._back.start(self._config)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        if self._workers:
            self._listeners.hold()
            self._reactor.callWhenRunning(self._open_doors)
        else:
            self._announce()

    def _open_doors(self) -> None:
        """Have the workers begin; then tell that we are there."""
        doors = self._listeners.doors()
        beginning = Beginning(
            self._config,
            tuple(door for door, _ in doors),
            count=len(self._workers),
            key=self._key,
            logs_in_full=self._log is None,
        )
        starting = self._workers.start(beginning, [descriptor for _, descriptor in doors], self._state.lock)
        _ = Deferred.fromCoroutine(starting).addCallback(lambda _: self._announce()).addErrback(_broken)

    def _announce(self) -> None:
        if not self.running:
            return  # the stop came first
        listeners = self._listeners.bound()
        for listener in listeners:
            journal.listening(listener.service, listener.host, listener.port)
        for problem in (*self._config.problems, *unwise(self._config, os.geteuid())):
            journal.warned("configuration", problem)
        self._control.start()
        self._state.announce(listeners)
        if self._log is not None:
            self._log.begin(self._reactor.callLater)
        keep_what_is_built()
        self._supervisor.ready()

    # --- reload -------------------------------------------------------------------------------------

    def reload(self) -> "Deferred[None]":
        """Read the configuration again and go by it, or refuse it whole."""
        self._supervisor.reloading()
        return Deferred.fromCoroutine(self._reload()).addErrback(_broken).addCallback(self._reloaded)

    def _reloaded(self, _: None) -> None:
        if self.running:
            self._supervisor.ready()

    async def _reload(self) -> None:
        try:
            config = await self._chores.run(load, self._config.file)
            if refusals := unable(config, os.geteuid()):
                raise ConfigErrors(tuple(refusals))
            self._front.load_certificates(config)
        except ConfigErrors as errors:
            journal.refused_configuration(self._config.file, errors.problems)
            return
        except (BadCertificate, OSError) as refusal:
            journal.refused_configuration(self._config.file, [refusal])
            return
        for part in (self._storage, self._counters, self._front, self._back):
            part.reload(config)
        await self._workers.reload(as_begun(self._begun, config))
        warnings = (*config.problems, *unwise(config, os.geteuid()), *unchangeable(self._config, config))
        for problem in warnings:
            journal.warned("configuration", problem)
        journal.reloaded(config.file, len(config.tree.domains), config.tree.user_count)
        self._config = config

    # --- stop ---------------------------------------------------------------------------------------

    def stopService(self) -> "Deferred[None]":
        """Stop in order; fires when all is closed."""
        super().stopService()
        self._supervisor.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._storage.rest()
        self._back.rest()  # what the workers break off is for the next start
        # They first: closing what they listen on would be an error to them.
        await self._workers.close()
        await self._listeners.stop()
        await self._control.stop()
        await self._front.drain(_FAREWELL)
        await self._workers.stop()
        await self._ledger.stop()
        await self._back.stop(_FAREWELL)
        await self._storage.stop()
        self._front.stop()
        self._chores.stop()
        self._state.release()
        if self._log is not None:
            self._log.end()


def _broken(failure: Failure) -> None:
    _log.failure("in the composition root", failure)

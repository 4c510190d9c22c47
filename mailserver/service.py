"""The composition root: builds the whole machine, starts it in order, stops it in the opposite order.

:func:`makeService` is what ``twistd mailserver`` calls. :class:`MailServer` holds everything; read
:meth:`MailServer._build` for the whole of it on one screen. Nothing below this module sees the
configuration, only the plain values it needs.

Start: the state directory is locked (a second server on it refuses to start), the sockets are bound while
we may still be root, then storage opens, then delivery and sessions begin. Stop: no new connections,
sessions end after the command under way, delivery finishes or gives up what it is doing, storage closes.

A configuration that cannot be used, a socket that cannot be bound and a state directory that is in use end
the process with exit status 1 and a line on standard error that says what and where. On SIGHUP the
configuration is read again; one with an error is refused whole and the old one stays.
"""

import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import usage
from twisted.python.failure import Failure

from mailserver import __version__, journal
from mailserver.access.networks import Networks
from mailserver.config import Config, ConfigErrors, Listen, find_config, load
from mailserver.delivery.bounce import ReportWriter
from mailserver.delivery.couriers.forward import ForwardCourier
from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.couriers.mx import Finder, MXCourier
from mailserver.delivery.couriers.program import ProgramCourier
from mailserver.delivery.recording import Recorder
from mailserver.delivery.routing import Forwarding, Local, Programs, Remote, route
from mailserver.delivery.runner import Directions, Runner
from mailserver.delivery.slots import Slots, Window
from mailserver.delivery.timing import Time
from mailserver.domains.directory import Directory
from mailserver.domains.realm import Checker, Realm, login_pool
from mailserver.interfaces import Account
from mailserver.mailboxes.store import MailStore
from mailserver.model.source import Source
from mailserver.net.exchangers import Exchangers, Smarthosts
from mailserver.net.resolver import Resolver
from mailserver.net.session import Bounds, SessionFactory
from mailserver.net.tls import BadCertificate, Certificates, ClientTLS, ensure_self_signed
from mailserver.pop3.server import BOUNDS as POP3_BOUNDS
from mailserver.pop3.server import POP3Factory
from mailserver.smtp.client import Deadlines
from mailserver.smtp.reception import Limits, Office, Rules
from mailserver.smtp.server import SMTPFactory
from mailserver.smtp.transmitter import Transmitter
from mailserver.spool.schema import SpoolUnusable
from mailserver.spool.store import Spool
from mailserver.state import Listener, StateDirectory, StateInUse, running_pid
from mailserver.threads import Pool

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
    return MailServer(reactor, config)


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
    """

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor = reactor
        self._config = config
        self._state = StateDirectory(config.state)
        self._configuring = Pool("configuration", 1, reactor.callFromThread)
        self._certificates = Certificates()
        self._ports: list[tuple[Listen, IListeningPort]] = []
        self._build(config)

    def _build(self, config: Config) -> None:
        """The whole machine. Nothing here touches disk or network yet."""
        reactor, call = self._reactor, self._reactor.callFromThread
        clock = Time(reactor, time.time, random.random)

        self._directory = Directory(config.tree, config.hostname)
        self._mailboxes = MailStore(config.state / "mail", config.hostname, time.time, call)
        waits = config.delivery.schedule.waits
        self._spool = Spool(config.state / "spool", time.time, call, secrets.randbits, max(waits))

        self._resolver = Resolver(reactor, config.dns.servers, config.dns.timeout)
        self._transmitter = Transmitter(reactor, reactor, config.hostname, ClientTLS(), _deadlines(config))
        reports = ReportWriter(config.hostname, partial(secrets.randbits, 64))
        self._recorder = Recorder(self._spool, reports, config.delivery.schedule, clock)
        self._directions = Directions(partial(route, directory=self._directory), {})
        slots = Slots(self._directory.hosts, local=Window(200, 100), remote=Window(500, 20))
        self._runner = Runner(self._spool, self._directions, self._recorder, slots, clock)
        self._spool.on_arrival = self._runner.wake
        self._directions.couriers = {
            Local: MailboxCourier(self._directory, self._mailboxes),
            Remote: self._mx_courier(config),
            Programs: ProgramCourier(self._directory, reactor, reactor),
            Forwarding: ForwardCourier(self._directory, self._spool),
        }

        self._office = Office(config.hostname, self._directory, self._spool, _rules(config), time.time)
        smtp = SMTPFactory(self._office, self._certificates.current, Bounds(), reactor)

        self._passwords = login_pool(call)
        self._plaintext = Networks(config.login.plaintext_networks)
        realm = Realm({IMailboxPOP3: self._open_maildrop})
        portal = Portal(realm, [Checker(self._directory, self._passwords)])
        current = self._certificates.current
        plainly = self._may_log_in_plainly
        pop3 = POP3Factory(portal, config.hostname, current, plainly, POP3_BOUNDS, reactor)

        self._sessions: tuple[SessionFactory, ...] = (smtp, pop3)
        self._services: dict[str, Any] = {
            "smtp": smtp,
            "pop3": pop3,
            "pop3s": TLSMemoryBIOFactory(self._certificates, False, pop3),
        }

    def _mx_courier(self, config: Config) -> MXCourier:
        """To the smarthosts where there are some, else to the MX hosts."""
        delivery = config.delivery
        bound = [_listener(*it) for it in self._ports]
        finder: Finder
        if delivery.smarthost:
            finder = Smarthosts(self._resolver, delivery.smarthost)
        else:
            finder = Exchangers(
                self._resolver,
                delivery.port,
                own_names=(config.hostname,),
                own_addresses=[it.host for it in bound if it.port == delivery.port],
                chance=random.Random(secrets.randbits(64)),  # noqa: S311 - the order of equal hosts
                loopback=delivery.loopback,
            )
        return MXCourier(finder, self._transmitter)

    def _may_log_in_plainly(self, client: str) -> bool:
        return self._plaintext.match(client) is not None

    async def _open_maildrop(self, account: Account) -> tuple[object, Callable[[], None]]:
        maildrop = await self._mailboxes.maildrop(account)
        return maildrop, maildrop.logout

    # --- start --------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind the sockets, while we may still be root. Raises ``SystemExit(1)`` when one cannot be bound."""
        refusals: list[str] = []
        for listen in self._config.listen:
            factory = self._services.get(listen.service)
            if factory is None:
                refusals.append(f"{listen.source}: {listen.service} needs AUTH, which this version lacks")
                continue
            binding = serverFromString(self._reactor, listen.endpoint).listen(factory)
            binding.addCallbacks(
                lambda port, listen=listen: self._ports.append((listen, port)),
                lambda failure, listen=listen: refusals.append(_unbound(listen, failure)),
            ).addErrback(_broken)
        if refusals:
            pid = running_pid(self._config.state)
            if pid is not None:
                refusals.append(str(StateInUse(self._config.state, str(pid))))
            _refuse(*refusals)

    def startService(self) -> None:
        """Open what there is on disk, then begin. Raises ``SystemExit(1)`` when that cannot be used."""
        super().startService()
        try:
            self._state.acquire()
            self._certificates.load(*self._certificate_files(self._config))
            self._spool.start()
        except (StateInUse, BadCertificate, SpoolUnusable, OSError) as refusal:
            _refuse(refusal)
        for threads in (self._configuring, self._passwords, self._mailboxes):
            threads.start()
        # Our own addresses are known only now that the sockets are bound.
        self._directions.couriers = {**self._directions.couriers, Remote: self._mx_courier(self._config)}
        self._runner.start()
        listeners = [_listener(listen, port) for listen, port in self._ports]
        for listener in listeners:
            journal.listening(listener.service, listener.host, listener.port)
        for problem in self._config.problems:
            journal.trouble("configuration", problem)
        self._state.announce(listeners)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def _certificate_files(self, config: Config) -> tuple[Path, Path]:
        if config.tls is not None:
            return config.tls.certificate, config.tls.key
        return ensure_self_signed(config.state / "tls", config.hostname)

    # --- reload -------------------------------------------------------------------------------------

    def reload(self) -> "Deferred[None]":
        """Read the configuration again and go by it, or refuse it whole."""
        return Deferred.fromCoroutine(self._reload()).addErrback(_broken)

    async def _reload(self) -> None:
        try:
            config = await self._configuring.run(load, self._config.file)
            self._certificates.load(*self._certificate_files(config))
        except ConfigErrors as errors:
            journal.refused_configuration(self._config.file, errors.problems)
            return
        except (BadCertificate, OSError) as refusal:
            journal.refused_configuration(self._config.file, [refusal])
            return
        self._directory.replace(config.tree)
        self._office.rules = _rules(config)
        self._plaintext = Networks(config.login.plaintext_networks)
        self._recorder.schedule = config.delivery.schedule
        self._directions.couriers = {**self._directions.couriers, Remote: self._mx_courier(config)}
        for problem in (*config.problems, *_unchangeable(self._config, config)):
            journal.trouble("configuration", problem)
        journal.reloaded(config.file, len(config.tree.domains), config.tree.user_count)
        self._config = config
        self._runner.wake()

    # --- stop ---------------------------------------------------------------------------------------

    def stopService(self) -> "Deferred[None]":
        """Stop in order; fires when all is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for _, port in ports:
            await maybeDeferred(port.stopListening)
        for factory in self._sessions:
            await factory.drain(_FAREWELL)
        await self._runner.stop(_FAREWELL)
        await self._transmitter.stop()
        await self._resolver.stop()
        await self._mailboxes.stop()
        await self._spool.stop()
        self._passwords.stop()
        self._configuring.stop()
        self._state.release()


def _rules(config: Config) -> Rules:
    limits = Limits(config.limits.message_size, config.limits.recipients, source=Source(config.file.name))
    return Rules(Networks(config.relay.networks), limits)


def _deadlines(config: Config) -> Deadlines:
    return Deadlines(connect=config.delivery.connect_timeout, greeting=config.delivery.greeting_timeout)


def _unchangeable(old: Config, new: Config) -> list[str]:
    """What differs and is not gone by before the next start."""
    names = ("hostname", "state", "workers", "listen", "dns")
    changed = [name for name in names if _spelled(old, name) != _spelled(new, name)]
    return [f"{name}: the change takes effect at the next start" for name in changed]


def _spelled(config: Config, name: str) -> object:
    if name == "listen":
        return [(listen.service, listen.endpoint) for listen in config.listen]
    return getattr(config, name)


def _listener(listen: Listen, port: IListeningPort) -> Listener:
    address = port.getHost()
    host = getattr(address, "host", None) or str(getattr(address, "name", ""))
    return Listener(listen.service, host, getattr(address, "port", 0))


def _unbound(listen: Listen, failure: Failure) -> str:
    return f"{listen.source}: cannot listen on {listen.endpoint}: {failure.getErrorMessage()}"


def _broken(failure: Failure) -> None:
    _log.failure("in the composition root", failure)

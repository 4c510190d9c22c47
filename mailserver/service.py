"""The composition root: builds the whole machine, starts it in order, stops it in the opposite order.

:func:`makeService` is what ``twistd mailserver`` calls. :class:`MailServer` holds everything; read
:meth:`MailServer._build` and the methods it calls, which are the whole of it in the order of the mail's way.
Nothing below this module is handed the configuration, only the plain values that :mod:`mailserver.settings`
cuts from it.

Start: the state directory is locked (a second server on it refuses to start), the sockets are bound while
we may still be root, then storage opens, then delivery and sessions begin. Stop: no new connections,
sessions end after the command under way, delivery finishes or gives up what it is doing, storage closes.

A configuration that cannot be used, a socket that cannot be bound and a state directory that is in use end
the process with exit status 1 and a line on standard error that says what and where. On SIGHUP the
configuration is read again; one with an error is refused whole and the old one stays.
"""

import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher
from twisted.mail.interfaces import IMailboxPOP3, IMessageDeliveryFactory
from twisted.python import usage
from twisted.python.failure import Failure

from mailserver import __version__, journal
from mailserver.access.acquaintances import Acquaintances
from mailserver.access.connections import Connections
from mailserver.access.devices import DEVICES, Devices
from mailserver.access.lockout import Lockout
from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile
from mailserver.access.rates import Rates
from mailserver.access.routes import Route, To
from mailserver.config import Config, ConfigErrors, find_config, load
from mailserver.control.access import access_verbs
from mailserver.control.server import Control
from mailserver.delivery.bounce import ReportWriter
from mailserver.delivery.couriers.forward import ForwardCourier
from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.couriers.mx import Finder, MXCourier
from mailserver.delivery.couriers.outside import OutsideCourier
from mailserver.delivery.couriers.program import ProgramCourier
from mailserver.delivery.couriers.routed import RoutedCourier
from mailserver.delivery.notice import QuotaNotices
from mailserver.delivery.recording import Recorder
from mailserver.delivery.routing import Forwarding, Local, Programs, Remote, route
from mailserver.delivery.runner import Directions, Runner
from mailserver.delivery.slots import Slots, Window
from mailserver.delivery.steering import Steering, parse_host
from mailserver.delivery.timing import Time
from mailserver.domains.directory import Directory
from mailserver.domains.realm import Checker, Realm, login_pool
from mailserver.domains.senders import Senders
from mailserver.domains.verifiers import Verifiers
from mailserver.interfaces import Account
from mailserver.listening import Listeners, open_many_files
from mailserver.mailboxes.store import MailStore
from mailserver.net.certificates import BadCertificate, ensure_self_signed
from mailserver.net.exchangers import Exchangers, Smarthosts
from mailserver.net.failings import Failings
from mailserver.net.ourselves import is_our_address
from mailserver.net.resolver import Resolver
from mailserver.net.session import Bounds, SessionFactory
from mailserver.net.tls import Certificates, ClientTLS, Trust, Version
from mailserver.pop3.delay import LoginDelay
from mailserver.pop3.server import BOUNDS as POP3_BOUNDS
from mailserver.pop3.server import POP3Factory
from mailserver.pop3.server import Rules as POP3Rules
from mailserver.settings import connection_rules, deadlines, lockout_rules, reception_rules, unchangeable
from mailserver.smtp.alarm import Alarm
from mailserver.smtp.authentication import Logins
from mailserver.smtp.reception import Office, Sender
from mailserver.smtp.room import Room
from mailserver.smtp.server import SMTPFactory
from mailserver.smtp.standby import Standby
from mailserver.smtp.transmitter import Transmitter
from mailserver.smtp.usage import Usage
from mailserver.spool import orders
from mailserver.spool.free import FreeSpace
from mailserver.spool.history import FILE as HISTORY
from mailserver.spool.history import History
from mailserver.spool.schema import SpoolUnusable
from mailserver.spool.store import Spool
from mailserver.state import StateDirectory, StateInUse, running_pid
from mailserver.supervisor import Supervisor
from mailserver.threads import Pool

__all__ = ["MailServer", "Options", "makeService"]

_log = Logger()

_DAY = 86400.0
_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - what is listened on is the administrator's word
_STANDBY = 5.0
"""Seconds for which a connection to a mail host waits for another message."""

_PORTION = 2000
"""The recipients that are made due in one transaction."""

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
        self._supervisor = Supervisor(reactor, os.environ)
        self._build(config)

    def _build(self, config: Config) -> None:
        """The whole machine. Nothing here touches disk or network yet."""
        self._time = Time(self._reactor, time.time, random.random)
        self._build_storage(config)
        self._build_delivery(config)
        self._build_reception(config)
        self._build_services(config)

    def _build_storage(self, config: Config) -> None:
        """Who lives here, where mail rests, where it waits."""
        reactor, call = self._reactor, self._reactor.callFromThread
        self._senders = Senders(time.time, b"", config.forwarding.srs)  # the key is read at the start
        self._directory = Directory(config.tree, config.hostname, self._senders)
        self._mailboxes = MailStore(config.state / "mail", config.hostname, time.time, call)
        self._tidying = LoopingCall(lambda: Deferred.fromCoroutine(self._mailboxes.tidy()))
        self._tidying.clock = reactor
        self._keep_mailboxes(config)
        waits = config.delivery.schedule.waits
        spool = config.state / "spool"
        self._history = History(spool / HISTORY, time.time, call, config.delivery.history)
        self._spool = Spool(spool, time.time, call, secrets.randbits, max(waits))
        self._spool.history = self._history

    def _build_delivery(self, config: Config) -> None:
        """From the spool to mailboxes, programs and the world."""
        reactor = self._reactor
        self._resolver = Resolver(reactor, config.dns.servers, config.dns.timeout)
        self._failings = Failings(reactor.seconds)
        strict = ClientTLS(Trust.PKIX)
        self._transmitter = Transmitter(
            reactor,
            reactor,
            config.hostname,
            ClientTLS(),
            deadlines(config),
            strict,
            Standby(reactor, _STANDBY),
        )
        self._transmitter.compute = self._configuring.run
        reports = ReportWriter(config.hostname, partial(secrets.randbits, 64))
        self._recorder = Recorder(self._spool, reports, config.delivery.schedule, self._time)
        self._directions = Directions(partial(route, directory=self._directory), {}, self._rerouted)
        slots = Slots(self._directory.hosts, local=Window(200, 100), remote=Window(500, 20, first=5))
        self._runner = Runner(self._spool, self._directions, self._recorder, slots, self._time)
        self._runner.hasten = self._hasten
        self._spool.on_arrival = self._runner.wake
        self._notices = QuotaNotices(config.hostname, self._spool, time.time)
        self._mailboxes.on_filling = self._warn_of_filling
        self._directions.couriers = {
            Local: MailboxCourier(self._directory, self._mailboxes),
            Programs: ProgramCourier(self._directory, reactor, reactor),
            Forwarding: ForwardCourier(self._directory, self._spool),
        }

    def _build_reception(self, config: Config) -> None:
        """What is taken, from whom."""
        room = Room(self._directory, self._mailboxes.room)
        rules = reception_rules(config)
        self._office = Office(config.hostname, self._directory, self._spool, rules, time.time, room)
        free = FreeSpace(config.state, self._configuring.run, self._reactor.seconds)
        self._office.free, self._office.look_at_disk = free, free.look
        self._office.usage = self._build_usage(config)

    def _build_services(self, config: Config) -> None:
        """The doors: what is spoken where, with whom."""
        reactor = self._reactor
        logins = self._build_logins(config)
        current = self._certificates.current
        mail = {
            service: SMTPFactory(self._office, current, Bounds(), reactor, service, logins)
            for service in ("smtp", "submission", "submissions")
        }
        self._login_delay = LoginDelay(config.pop3.login_delay, reactor.seconds)
        pop3_rules = POP3Rules(
            current, logins.plaintext, logins.mechanisms, lambda: self._login_delay.seconds
        )
        pop3 = POP3Factory(logins.portal, config.hostname, pop3_rules, POP3_BOUNDS, reactor)

        steering = Steering(self._spool, self._recorder, self._runner, self._time)
        # The administrator's verbs: to add one, add a line.
        verbs = {**steering.verbs(), **access_verbs(self._lockout)}
        self._control = Control(reactor, config.state / "run" / "control", verbs)

        self._sessions: dict[str, SessionFactory] = {**mail, "pop3": pop3, "pop3s": pop3}
        self._connections = Connections(connection_rules(config))
        for factory in self._sessions.values():
            factory.connections = self._connections
        self._proxies = Networks(config.proxy.networks)
        self._listeners = Listeners(reactor, self._sessions, self._certificates, self._is_proxy)

    def _build_usage(self, config: Config) -> Usage:
        """What is counted of the mail that comes in."""
        self._counting = Pool("counting", 1, self._reactor.callFromThread)
        self._acquaintances = Acquaintances(config.state / "acquaintances.sqlite")
        self._devices = Devices(config.state / DEVICES, self._counting, self._reactor, time.time)
        meet = partial(self._counting.run, self._acquaintances.meet)
        alarm = Alarm(config.hostname, self._directory, self._spool, time.time)
        return Usage(Rates(self._reactor.seconds), meet, self._devices, alarm.sound, time.time)

    def _build_logins(self, config: Config) -> Logins:
        """How people log in, by whatever protocol."""
        self._passwords = login_pool(self._reactor.callFromThread)
        self._plaintext = Networks(config.login.plaintext_networks)
        self._lockout = Lockout(lockout_rules(config), self._reactor.seconds)
        self._verifiers = Verifiers(self._directory, b"")  # the key is read at the start
        realm = Realm({IMailboxPOP3: self._open_maildrop, IMessageDeliveryFactory: self._make_sender})
        checker = Checker(self._directory, self._passwords, self._lockout, self._reactor)
        return Logins(Portal(realm, [checker]), self._verifiers.mechanisms, self._may_log_in_plainly)

    def _remote_courier(self, config: Config) -> RoutedCourier:
        """By the routes; else to the smarthosts where there are some, else to the MX hosts."""
        delivery = config.delivery
        exchangers = Exchangers(
            self._resolver,
            delivery.port,
            own_names=(config.hostname,),
            own_addresses=[it.host for it in self._listeners.bound() if it.port == delivery.port],
            chance=random.Random(secrets.randbits(64)),  # noqa: S311 - the order of equal hosts
            loopback=delivery.loopback,
            is_ours=is_our_address if self._is_on_all_addresses(delivery.port) else lambda _: False,
        )

        def courier(route: Route) -> OutsideCourier:
            finder: Finder = exchangers
            if route.to is To.SMARTHOST:
                finder = Smarthosts(self._resolver, route.smarthosts)
            there = MXCourier(
                finder, self._transmitter, 10, self._failings, security=route.security, login=route.login
            )
            return OutsideCourier(there, self._directory, self._senders)

        to = To.SMARTHOST if delivery.smarthost else To.MX
        otherwise = Route(to, smarthosts=delivery.smarthost, security=delivery.security)
        return RoutedCourier(delivery.routes, courier, courier(otherwise))

    def _is_on_all_addresses(self, port: int) -> bool:
        return any(it.host in _ALL_ADDRESSES for it in self._listeners.bound() if it.port == port)

    async def _hasten(self, destination: str) -> None:
        """Have what waits for a destination due at once, in portions, so that other commits come between."""
        while True:
            apply = partial(orders.hasten, destination=destination, limit=_PORTION, now=time.time())
            if (await self._spool.order(apply)).recipients < _PORTION:
                return

    def _rerouted(self, host: str) -> OutsideCourier:
        there = MXCourier(Smarthosts(self._resolver, [parse_host(host)]), self._transmitter)
        return OutsideCourier(there, self._directory, self._senders)

    def _may_log_in_plainly(self, client: str) -> bool:
        profile = self._profile(client)
        return (profile is not None and profile.plaintext_login) or self._plaintext.match(client) is not None

    def _profile(self, client: str) -> Profile | None:
        return self._office.rules.networks.match(client)

    def _oldest_tls(self, client: str) -> Version:
        profile = self._profile(client)
        if profile is not None and profile.tls_minimum:
            return Version(profile.tls_minimum)
        return self._config.tls.minimum

    def _is_proxy(self, client: str) -> bool:
        return self._proxies.match(client) is not None

    async def _open_maildrop(self, account: Account) -> tuple[object, Callable[[], None]]:
        maildrop = await self._login_delay.open(account.name, partial(self._mailboxes.maildrop, account))
        return maildrop, maildrop.logout

    async def _make_sender(self, account: Account) -> tuple[object, Callable[[], None]]:
        return Sender(self._office, account), lambda: None

    def _keep_mailboxes(self, config: Config) -> None:
        self._mailboxes.warn_at = config.mailboxes.quota_warnings
        self._mailboxes.keep_deleted = config.mailboxes.keep_deleted

    def _warn_of_filling(self, account: Account, level: int) -> None:
        _ = Deferred.fromCoroutine(self._notices.send(account, level)).addErrback(_broken)

    # --- start --------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind the sockets, while we may still be root. Raises ``SystemExit(1)`` when one cannot be bound."""
        open_many_files()
        refusals = self._listeners.bind(self._config.listen)
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
            self._load_certificates(self._config)
            self._verifiers.key = self._state.secret("decoys")
            self._senders.key = self._state.secret("senders")
            globalLogPublisher.addObserver(self._history)
            self._spool.start()
        except (StateInUse, BadCertificate, SpoolUnusable, OSError) as refusal:
            _refuse(refusal)
        self._devices.load()
        for threads in (self._configuring, self._passwords, self._mailboxes, self._counting):
            threads.start()
        # Only now that the sockets are bound are our own addresses known, which mail must not be sent to.
        self._directions.couriers = {**self._directions.couriers, Remote: self._remote_courier(self._config)}
        self._runner.start()
        _ = self._tidying.start(_DAY, now=False).addErrback(_broken)
        listeners = self._listeners.bound()
        for listener in listeners:
            journal.listening(listener.service, listener.host, listener.port)
        for problem in self._config.problems:
            journal.warned("configuration", problem)
        self._control.start()
        self._state.announce(listeners)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        self._supervisor.ready()

    def _load_certificates(self, config: Config) -> None:
        """Have the handshakes to come go by the configuration. Raises, and then nothing has changed."""
        tls = config.tls
        default = tls.default or ensure_self_signed(config.state / "tls", config.hostname)
        self._certificates.load(default, tls.named)
        self._certificates.oldest = self._oldest_tls

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
            config = await self._configuring.run(load, self._config.file)
            self._load_certificates(config)
        except ConfigErrors as errors:
            journal.refused_configuration(self._config.file, errors.problems)
            return
        except (BadCertificate, OSError) as refusal:
            journal.refused_configuration(self._config.file, [refusal])
            return
        self._directory.replace(config.tree)
        self._login_delay.seconds = config.pop3.login_delay
        self._office.rules = reception_rules(config)
        self._connections.rules = connection_rules(config)
        self._keep_mailboxes(config)
        self._plaintext = Networks(config.login.plaintext_networks)
        self._lockout.rules = lockout_rules(config)
        self._proxies = Networks(config.proxy.networks)
        self._recorder.schedule = config.delivery.schedule
        self._transmitter.deadlines = deadlines(config)
        self._history.keep = config.delivery.history
        self._senders.rewrites = config.forwarding.srs
        self._directions.couriers = {**self._directions.couriers, Remote: self._remote_courier(config)}
        for problem in (*config.problems, *unchangeable(self._config, config)):
            journal.warned("configuration", problem)
        journal.reloaded(config.file, len(config.tree.domains), config.tree.user_count)
        self._config = config
        self._runner.wake()

    # --- stop ---------------------------------------------------------------------------------------

    def stopService(self) -> "Deferred[None]":
        """Stop in order; fires when all is closed."""
        super().stopService()
        self._supervisor.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._tidying.running:
            self._tidying.stop()
        await self._listeners.stop()
        await self._control.stop()
        # All at once, under one grace; pop3 and pop3s share a factory.
        farewells = [Deferred.fromCoroutine(it.drain(_FAREWELL)) for it in set(self._sessions.values())]
        for farewell in farewells:
            await farewell
        await self._devices.stop()
        await self._counting.run(self._acquaintances.close)
        self._counting.stop()
        await self._runner.stop(_FAREWELL)
        await self._transmitter.stop()
        await self._resolver.stop()
        await self._mailboxes.stop()
        await self._spool.stop()
        globalLogPublisher.removeObserver(self._history)
        self._passwords.stop()
        self._configuring.stop()
        self._state.release()


def _broken(failure: Failure) -> None:
    _log.failure("in the composition root", failure)

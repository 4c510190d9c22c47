"""The back: the side that delivers. From the spool to mailboxes, programs and the world; and its steering.

The spool hands it what has come, and is asked for what falls due (:attr:`Runner.arrived`); of the side that
accepts it knows nothing but our own addresses, to which mail must not be sent.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mailserver.access.routes import Route, To
from mailserver.config import Config
from mailserver.control.server import Verb
from mailserver.delivery.bounce import ReportWriter
from mailserver.delivery.couriers import programs
from mailserver.delivery.couriers.forward import ForwardCourier
from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.couriers.mx import Finder, MXCourier
from mailserver.delivery.couriers.outside import OutsideCourier
from mailserver.delivery.couriers.pipe import PipeCourier
from mailserver.delivery.couriers.program import ProgramCourier
from mailserver.delivery.couriers.routed import RoutedCourier
from mailserver.delivery.recording import Recorder
from mailserver.delivery.routing import Forwarding, Local, Programs, Remote, route
from mailserver.delivery.runner import Directions, Runner
from mailserver.delivery.slots import Slots, Window
from mailserver.delivery.steering import Steering
from mailserver.delivery.timing import Time
from mailserver.domains.hops import parse_reroute
from mailserver.interfaces import ICourier
from mailserver.machine.outgoing import build_transmitter
from mailserver.machine.storage import Storage
from mailserver.model.exchanger import Manner
from mailserver.net.assurance import Assurance
from mailserver.net.exchangers import Exchangers, Smarthosts, is_address
from mailserver.net.failings import Failings
from mailserver.net.https import Fetcher
from mailserver.net.ourselves import is_our_address
from mailserver.net.policies import DomainPolicies
from mailserver.net.policyfile import PolicyFile
from mailserver.net.resolver import Resolver
from mailserver.net.tls import ClientTLS, Trust
from mailserver.settings import deadlines, schedules
from mailserver.smtp.outbound import Outbound
from mailserver.spool import orders
from mailserver.state import Listener
from mailserver.threads import Pool

__all__ = ["Back"]

_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - what is listened on is the administrator's word
_PORTION = 2000
"""The recipients that are made due in one transaction."""


class Back:
    """The side that delivers.

    :param listening: what listens where; asked once the sockets are bound.
    :param chores: a thread for what takes a moment.
    :ivar outbound: the way to other hosts, which other processes may be given a share in.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config,
        storage: Storage,
        listening: Callable[[], Sequence[Listener]],
        chores: Pool,
    ) -> None:
        self._reactor = reactor
        self._chores = chores
        self._hostname = config.hostname
        self._storage = storage
        self._listening = listening
        self._time = Time(reactor, time.time, random.random)
        self._resolver = Resolver(
            reactor, config.dns.servers, config.dns.timeout, validating=config.dns.validating
        )
        self._failings = Failings(reactor.seconds)
        self._transmitter = build_transmitter(reactor, config, chores)
        self.outbound = Outbound(self._transmitter, reactor)
        self._programs = programs.Programs(reactor, reactor)
        self._local = {
            Local: MailboxCourier(storage.directory, storage.mailboxes),
            Programs: ProgramCourier(storage.directory, self._programs),
            Forwarding: ForwardCourier(storage.directory, storage.spool),
        }
        self._directions = Directions(partial(route, directory=storage.directory), {}, self._rerouted)
        reports = ReportWriter(config.hostname, partial(secrets.randbits, 64))
        self._recorder = Recorder(storage.spool, reports, config.delivery.schedule, self._time)
        slots = Slots(self._stays_here, local=Window(200, 100), remote=Window(500, 20, first=5))
        self._runner = Runner(storage.spool, self._directions, self._recorder, slots, self._time)
        self._runner.hasten = self._hasten
        storage.spool.on_arrival = self._runner.arrived

    def _stays_here(self, domain: str) -> bool:
        """Whether mail for a domain goes to mailboxes here, and no other server can be slow with it."""
        directory = self._storage.directory
        return directory.hosts(domain) and domain not in directory.routed

    def verbs(self) -> dict[str, Verb]:
        """What the administrator can order about the queue."""
        return Steering(self._storage.spool, self._recorder, self._runner, self._time).verbs()

    # --- life

    def start(self, config: Config) -> None:
        """Begin to deliver. The sockets are bound: only now are our own addresses known."""
        self._direct(config)
        self._runner.start()

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self._recorder.schedule = config.delivery.schedule
        self._transmitter.deadlines = deadlines(config)
        self._direct(config)
        self._runner.wake()

    def rest(self) -> None:
        """Begin no more deliveries: the server stops."""
        self._runner.rest()

    async def stop(self, grace: float) -> None:
        """Finish what is under way, or give it up after so many seconds."""
        await self._runner.stop(grace)
        await self._transmitter.stop()
        await self._resolver.stop()

    # --- the ways

    def _direct(self, config: Config) -> None:
        self._recorder.schedules = schedules(config)
        remote = self._remote_courier(config)
        self._directions.couriers = {**self._local, Remote: remote}
        self._directions.route = partial(
            route, directory=self._storage.directory, led_away=lambda *mail: remote.choose(*mail) is not None
        )

    def _remote_courier(self, config: Config) -> RoutedCourier:
        """By the routes; else to the smarthosts where there are some, else to the MX hosts."""
        delivery = config.delivery
        here = [it.host for it in self._listening() if it.port == delivery.port]
        exchangers = Exchangers(
            self._resolver,
            delivery.port,
            own_names=(self._hostname, *delivery.own_names),
            own_addresses=[*here, *filter(is_address, delivery.own_names)],
            chance=random.Random(secrets.randbits(64)),  # noqa: S311 - the order of equal hosts
            loopback=delivery.loopback,
            is_ours=is_our_address if set(here) & set(_ALL_ADDRESSES) else lambda _: False,
        )

        assurance = Assurance(self._resolver, delivery.dane, self._policies(config))
        self._own_assurance = Assurance(self._resolver, delivery.dane, are_ours=True)

        def courier(route: Route) -> ICourier:
            if route.pipe is not None:
                return PipeCourier(route.pipe, self._programs)
            finder: Finder = Smarthosts(self._resolver, route.hops) if route.hops else exchangers
            there = MXCourier(
                finder,
                self.outbound,
                10,
                self._failings,
                route.manner,
                self._own_assurance if route.hops else assurance,
            )
            # Who speaks LMTP puts mail into mailboxes: nobody looks at SPF there.
            return there if route.to is To.LMTP else self._outside(there)

        to = To.SMARTHOST if delivery.smarthost else To.MX
        otherwise = Route(to, hops=delivery.smarthost, manner=Manner(delivery.security, roots=delivery.roots))
        hosts = self._storage.directory.hosts
        return RoutedCourier(delivery.routes, courier, courier(otherwise), hosts)

    def _policies(self, config: Config) -> DomainPolicies | None:
        """What is known of MTA-STS outlives a reload on the disk; ``None``: nobody asks."""
        delivery = config.delivery
        if not delivery.mta_sts:
            return None
        roots = ClientTLS(Trust.PKIX, delivery.roots or None)
        fetcher = Fetcher(
            self._reactor, self._resolver, roots, delivery.mta_sts_port, loopback=delivery.loopback
        )
        file = PolicyFile(config.state / "mta-sts.sqlite")
        return DomainPolicies(
            self._resolver, fetcher.fetch, file, self._chores.run, time.time, self._reactor.seconds
        )

    def _rerouted(self, host: str) -> ICourier:
        hop = parse_reroute(host)
        # Who listens on a socket has the mailboxes, as under a route to LMTP.
        manner = Manner(lmtp=not hop.port)
        finder = Smarthosts(self._resolver, [hop])
        there = MXCourier(finder, self.outbound, manner=manner, assurance=self._own_assurance)
        return there if manner.lmtp else self._outside(there)

    def _outside(self, courier: ICourier) -> OutsideCourier:
        return OutsideCourier(courier, self._storage.directory, self._storage.senders)

    async def _hasten(self, destination: str) -> None:
        """Have what waits for a destination due at once, in portions, so that other commits come between."""
        while True:
            apply = partial(orders.hasten, destination=destination, limit=_PORTION, now=time.time())
            if (await self._storage.spool.order(apply)).recipients < _PORTION:
                return

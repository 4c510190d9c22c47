"""The front: the side that accepts. Who is let in by which door, what is taken from whom.

It brings mail to the storage, straight into mailboxes where it can, and fetches it there; of the side
that works off the queue it knows nothing.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMailboxPOP3, IMessageDeliveryFactory

from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile
from mailserver.config import Config
from mailserver.delivery.couriers.mailbox import MailboxCourier
from mailserver.delivery.direct import Direct
from mailserver.domains.realm import Checker, Realm, login_pool
from mailserver.domains.verifiers import Verifiers
from mailserver.interfaces import Account
from mailserver.listening import Listeners
from mailserver.machine.counters import Counters
from mailserver.machine.storage import Holdings
from mailserver.net.certificates import ensure_self_signed
from mailserver.net.session import Bounds, SessionFactory
from mailserver.net.tls import Certificates, Version
from mailserver.pop3.server import BOUNDS as POP3_BOUNDS
from mailserver.pop3.server import POP3Factory
from mailserver.pop3.server import Rules as POP3Rules
from mailserver.settings import reception_rules
from mailserver.smtp.authentication import Logins
from mailserver.smtp.reception import Office, Sender
from mailserver.smtp.room import Room
from mailserver.smtp.server import SMTPFactory
from mailserver.spool.free import FreeSpace
from mailserver.state import StateDirectory
from mailserver.threads import Pool

__all__ = ["Front"]


class Front:
    """The side that accepts.

    :param chores: a thread for what takes a moment.
    :param key: under which passwords that were right, and guesses, are remembered; the same in all processes.
    :ivar listeners: what listens where.
    """

    def __init__(
        self, reactor: Any, config: Config, storage: Holdings, counters: Counters, chores: Pool, key: bytes
    ) -> None:
        self._storage = storage
        self._counters = counters
        self._oldest_for_all = config.tls.minimum
        self._office = self._build_office(reactor, config, chores)
        self._certificates = Certificates()
        self._certificates.oldest = self._oldest_tls
        self._sessions = self._build_sessions(reactor, config, self._build_logins(reactor, key))
        self._take_rules(config)
        self.listeners = Listeners(reactor, self._sessions, self._certificates, self._is_proxy)

    def _build_office(self, reactor: Any, config: Config, chores: Pool) -> Office:
        """What is taken, from whom."""
        storage, directory = self._storage, self._storage.directory
        mailboxes = MailboxCourier(directory, storage.mailboxes)
        direct = Direct(storage.spool, directory, mailboxes, storage.finished, time.time)
        free = FreeSpace(config.state, chores.run, reactor.seconds)
        return Office(
            config.hostname,
            directory,
            direct,
            reception_rules(config),
            time.time,
            Room(directory, storage.mailboxes.room),
            self._counters.usage,
            free,
            free.look,
        )

    def _build_logins(self, reactor: Any, key: bytes) -> Logins:
        """How people log in, by whatever protocol."""
        directory = self._storage.directory
        self._passwords = login_pool(reactor.callFromThread)
        self._verifiers = Verifiers(directory, b"")  # the key is read at the start
        realm = Realm({IMailboxPOP3: self._open_maildrop, IMessageDeliveryFactory: self._make_sender})
        self._checker = Checker(directory, self._passwords, self._counters.lockout, reactor, key)
        return Logins(Portal(realm, [self._checker]), self._verifiers.mechanisms, self._may_log_in_plainly)

    def _build_sessions(self, reactor: Any, config: Config, logins: Logins) -> dict[str, SessionFactory]:
        """What is spoken, by the service's name."""
        current = self._certificates.current
        mail = {
            service: SMTPFactory(self._office, current, Bounds(), reactor, service, logins)
            for service in ("smtp", "submission", "submissions")
        }
        rules = POP3Rules(
            current, logins.plaintext, logins.mechanisms, lambda: self._counters.login_delay.seconds
        )
        pop3 = POP3Factory(logins.portal, config.hostname, rules, POP3_BOUNDS, reactor)
        sessions: dict[str, SessionFactory] = {**mail, "pop3": pop3, "pop3s": pop3}
        for factory in sessions.values():
            factory.connections = self._counters.connections
        return sessions

    # --- life

    def start(self, state: StateDirectory) -> None:
        """Be ready for sessions, which may begin once this has returned. Raises ``OSError``."""
        self._verifiers.key = state.secret("decoys")
        self._passwords.start()

    def load_certificates(self, config: Config) -> None:
        """Have the handshakes to come go by the configuration.

        Raises ``BadCertificate`` or ``OSError``, and then nothing has changed.
        """
        tls = config.tls
        default = tls.default or ensure_self_signed(config.state / "tls", config.hostname)
        self._certificates.load(default, tls.named)
        self._oldest_for_all = tls.minimum

    def reload(self, config: Config) -> None:
        """Go by another configuration, its certificates apart."""
        self._take_rules(config)
        self._office.rules = reception_rules(config)

    async def drain(self, grace: float) -> None:
        """Take leave of all sessions: at once, and under one grace."""
        # pop3 and pop3s share a factory.
        farewells = [Deferred.fromCoroutine(it.drain(grace)) for it in set(self._sessions.values())]
        for farewell in farewells:
            await farewell

    def stop(self) -> None:
        """End the threads."""
        self._passwords.stop()

    # --- what is asked in sessions

    def _take_rules(self, config: Config) -> None:
        self._plaintext = Networks(config.login.plaintext_networks)
        self._proxies = Networks(config.proxy.networks)
        self._checker.remember = config.login.remember

    def _may_log_in_plainly(self, client: str) -> bool:
        profile = self._profile(client)
        return (profile is not None and profile.plaintext_login) or self._plaintext.match(client) is not None

    def _profile(self, client: str) -> Profile | None:
        return self._office.rules.networks.match(client)

    def _oldest_tls(self, client: str) -> Version:
        profile = self._profile(client)
        if profile is not None and profile.tls_minimum:
            return Version(profile.tls_minimum)
        return self._oldest_for_all

    def _is_proxy(self, client: str) -> bool:
        return self._proxies.match(client) is not None

    async def _open_maildrop(self, account: Account) -> tuple[object, Callable[[], None]]:
        maildrop = await self._counters.login_delay.open(
            account.name, partial(self._storage.mailboxes.maildrop, account)
        )
        return maildrop, maildrop.logout

    async def _make_sender(self, account: Account) -> tuple[object, Callable[[], None]]:
        return Sender(self._office, account), lambda: None

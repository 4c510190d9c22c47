"""A whole receiving side in memory: the SMTP server's factory over a fake directory and spool."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock

from mailserver.access.networks import Networks
from mailserver.access.profiles import Allowance, Over, Profile, Relay, Require, anywhere
from mailserver.access.rates import Rates
from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.model.source import Source
from mailserver.net.session import Bounds
from mailserver.smtp.reception import Limits, Office, Rules
from mailserver.smtp.room import Room
from mailserver.smtp.server import SMTPFactory
from mailserver.smtp.usage import Usage
from tests.support.fakes import FakeDirectory, FakeSpool
from tests.support.logins import logins

__all__ = ["ARRIVAL", "LAN", "Premises"]

LAN = Source("mailserver.toml", 17)
"""The line that lists the relay network."""

ARRIVAL = 1_700_000_000.0
"""What the office's clock says, always."""

USERS = ("alice@example.lan", "bob@example.lan", "carol@example.lan", "jörg@example.lan")
ALIASES = {
    "staff@example.lan": ("alice@example.lan", "bob@example.lan"),
    "everybody@example.lan": ("staff@example.lan", "away@elsewhere.example"),
}


class Premises:
    """Everything that a session needs, by name.

    :param settings: those of a dialogue: ``relay=yes|no``, ``sloppy=yes``, ``tls=yes|no``, ``size``, ``recipients``,
        ``spool=full|trouble``; ``unknown=N``; ``room=OCTETS`` in every mailbox; and of the network's profile ``relay=local|listed``, ``senders``,
        ``domains``, ``require``, ``hourly`` and ``over``; of logins ``login=plain|tls``, ``scram=yes`` and
        ``service``.
    :param lan: the relay network where ``relay=yes``.
    :param clock: the reactor, for real connections; or else a :class:`Clock`.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
        lan: str = "192.168.1.0/24",
        clock: Any = None,
    ) -> None:
        settings = settings or {}
        self.client = "192.0.2.99" if settings.get("relay", "no") == "no" else "192.168.1.7"
        self.clock = clock or Clock()
        self.spool = FakeSpool()
        troubles = {"full": StorageFull("no room"), "trouble": StorageTrouble("no disk")}
        self.spool.trouble = troubles.get(settings.get("spool", ""))
        self.directory = FakeDirectory(USERS, ALIASES)
        limits = Limits(int(settings.get("size", 4096)), int(settings.get("recipients", 1000)))
        profiles = [(network, _profile(it, settings)) for network, it in anywhere([(ip_network(lan), LAN)])]
        rules = Rules(Networks(profiles), limits, unknown=int(settings.get("unknown", 0)))
        self.office = Office("mail.example.lan", self.directory, self.spool, rules, lambda: ARRIVAL)
        if room := settings.get("room"):
            self.office.room = Room(self.directory, lambda account, octets: octets <= int(room))
        self.office.usage = Usage(Rates(self.clock.seconds))
        self.context: object | None = None if settings.get("tls") == "no" else object()
        login, service = settings.get("login", "no"), settings.get("service", "smtp")
        people = logins(
            self.office, self.directory.accounts, login == "plain", settings.get("scram") == "yes"
        )
        self.factory = SMTPFactory(
            self.office,
            lambda: self.context,
            bounds or Bounds(),
            self.clock,
            service,
            None if login == "no" else people,
        )


def _profile(profile: Profile, settings: Mapping[str, str]) -> Profile:
    relay = settings.get("relay", "no")
    return evolve(
        profile,
        relay=Relay.ANYWHERE if relay in ("yes", "no") else Relay(relay),
        senders=frozenset(filter(None, settings.get("senders", "").split(","))),
        domains=frozenset(filter(None, settings.get("domains", "").split(","))),
        require=Require(settings.get("require", "none")),
        allowance=Allowance(int(settings.get("hourly", 0)), 0, Over(settings.get("over", "delay")), LAN),
        sloppy=settings.get("sloppy") == "yes",
    )

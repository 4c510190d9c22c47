"""A whole receiving side in memory: the SMTP server's factory over a fake directory and spool."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from twisted.internet.task import Clock

from mailserver.access.networks import Networks
from mailserver.interfaces import StorageFull, StorageTrouble
from mailserver.model.source import Source
from mailserver.net.session import Bounds
from mailserver.smtp.reception import Limits, Office, Rules
from mailserver.smtp.server import SMTPFactory
from tests.support.fakes import FakeDirectory, FakeSpool

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

    :param settings: those of a dialogue: ``relay=yes|no``, ``tls=yes|no``, ``size``, ``recipients``,
        ``spool=full|trouble``.
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
        self.client = "192.168.1.7" if settings.get("relay") == "yes" else "192.0.2.99"
        self.clock = clock or Clock()
        self.spool = FakeSpool()
        troubles = {"full": StorageFull("no room"), "trouble": StorageTrouble("no disk")}
        self.spool.trouble = troubles.get(settings.get("spool", ""))
        self.directory = FakeDirectory(USERS, ALIASES)
        limits = Limits(int(settings.get("size", 4096)), int(settings.get("recipients", 1000)))
        rules = Rules(Networks([(ip_network(lan), LAN)]), limits)
        self.office = Office("mail.example.lan", self.directory, self.spool, rules, lambda: ARRIVAL)
        self.context: object | None = None if settings.get("tls") == "no" else object()
        self.factory = SMTPFactory(self.office, lambda: self.context, bounds or Bounds(), self.clock)

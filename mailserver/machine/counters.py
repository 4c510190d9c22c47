"""The counters: what is remembered of clients and users from one session to the next.

Who guesses passwords, who sends how much, who writes to whom, who is connected, who has just logged in.
Where the server is several processes, each holds :attr:`Counters.shared`; the :class:`Ledger` is one's, and
the others ask it.
"""

import time
from typing import Any

from mailserver import journal
from mailserver.access.acquaintances import Acquaintances
from mailserver.access.connections import Connections
from mailserver.access.devices import DEVICES
from mailserver.access.devices import Devices as DeviceList
from mailserver.access.lockout import Lockout
from mailserver.access.rates import Rates
from mailserver.config import Config
from mailserver.interfaces import IShared
from mailserver.machine.storage import Holdings
from mailserver.pop3.delay import LoginDelay
from mailserver.settings import connection_rules, lockout_rules
from mailserver.smtp.alarm import Alarm
from mailserver.smtp.usage import Devices, Meet, Usage
from mailserver.threads import Pool

__all__ = ["Counters", "Ledger"]


class Ledger:
    """What is counted in files.

    :ivar devices: who uses the relay.
    """

    def __init__(self, reactor: Any, config: Config) -> None:
        self._thread = Pool("counting", 1, reactor.callFromThread)
        self._acquaintances = Acquaintances(config.state / "acquaintances.sqlite")
        self.devices = DeviceList(config.state / DEVICES, self._thread, reactor, time.time)

    async def meet(self, user: str, recipient: str, most: int, now: float) -> bool:
        """See :meth:`mailserver.access.acquaintances.Acquaintances.meet`."""
        return await self._thread.run(self._acquaintances.meet, user, recipient, most, now)

    def start(self) -> None:
        """Begin with what an earlier process left; blocks."""
        self.devices.load()
        self._thread.start()

    async def stop(self) -> None:
        """Write what is to outlast the process."""
        await self.devices.stop()
        await self._thread.run(self._acquaintances.close)
        self._thread.stop()


class Counters:
    """All that is counted in memory.

    :param meet: whether a user may write to a recipient.
    :param devices: told of clients of listed networks.
    :param is_first: this is the process that tells the admin what all have found.
    :ivar lockout: who has guessed too often.
    :ivar connections: how many are connected.
    :ivar login_delay: who has just been in.
    :ivar usage: what comes in.
    :ivar shared: what all processes remember together, by name.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config,
        storage: Holdings,
        meet: Meet,
        devices: Devices,
        is_first: bool = True,
    ) -> None:
        # A lock is found by all at about the same time, and told once.
        told = journal.locked if is_first else lambda *_: None
        self.lockout = Lockout(lockout_rules(config), reactor.seconds, told)
        self.connections = Connections(connection_rules(config))
        self.login_delay = LoginDelay(config.pop3.login_delay, reactor.seconds)
        rates = Rates(reactor.seconds)
        alarm = Alarm(config.hostname, storage.directory, storage.spool, time.time)
        self.usage = Usage(rates, meet, devices, alarm.sound, time.time)
        self.shared: dict[str, IShared] = {
            "lockout": self.lockout,
            "connections": self.connections,
            "login delay": self.login_delay,
            "rates": rates,
            "usage": self.usage,
        }

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self.lockout.rules = lockout_rules(config)
        self.connections.rules = connection_rules(config)
        self.login_delay.seconds = config.pop3.login_delay

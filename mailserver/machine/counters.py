"""The counters: what is remembered of clients and users from one session to the next.

Who guesses passwords, who sends how much, who writes to whom, who is connected, who has just logged in.
"""

import time
from functools import partial
from typing import Any

from mailserver.access.acquaintances import Acquaintances
from mailserver.access.connections import Connections
from mailserver.access.devices import DEVICES, Devices
from mailserver.access.lockout import Lockout
from mailserver.access.rates import Rates
from mailserver.config import Config
from mailserver.machine.storage import Storage
from mailserver.pop3.delay import LoginDelay
from mailserver.settings import connection_rules, lockout_rules
from mailserver.smtp.alarm import Alarm
from mailserver.smtp.usage import Usage
from mailserver.threads import Pool

__all__ = ["Counters"]


class Counters:
    """All that is counted.

    :ivar lockout: who has guessed too often.
    :ivar connections: how many are connected.
    :ivar login_delay: who has just been in.
    :ivar usage: what comes in.
    """

    def __init__(self, reactor: Any, config: Config, storage: Storage) -> None:
        self.lockout = Lockout(lockout_rules(config), reactor.seconds)
        self.connections = Connections(connection_rules(config))
        self.login_delay = LoginDelay(config.pop3.login_delay, reactor.seconds)
        self._files = Pool("counting", 1, reactor.callFromThread)
        self._acquaintances = Acquaintances(config.state / "acquaintances.sqlite")
        self._devices = Devices(config.state / DEVICES, self._files, reactor, time.time)
        meet = partial(self._files.run, self._acquaintances.meet)
        alarm = Alarm(config.hostname, storage.directory, storage.spool, time.time)
        self.usage = Usage(Rates(reactor.seconds), meet, self._devices, alarm.sound, time.time)

    def start(self) -> None:
        """Begin with what an earlier process left; blocks."""
        self._devices.load()
        self._files.start()

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self.lockout.rules = lockout_rules(config)
        self.connections.rules = connection_rules(config)
        self.login_delay.seconds = config.pop3.login_delay

    async def stop(self) -> None:
        """Write what is to outlast the process."""
        await self._devices.stop()
        await self._files.run(self._acquaintances.close)
        self._files.stop()

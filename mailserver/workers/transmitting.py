"""A worker's share in mail for other hosts: it speaks to them for its parent, which steers and records.

The parent hands over what is to be offered to which host, and is answered with what became of it
(:mod:`mailserver.smtp.outbound`). Connections that stand are the worker's; what is known of hosts and
domains is the parent's.
"""

import socket
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailserver.config import Config
from mailserver.machine.outgoing import build_transmitter
from mailserver.settings import deadlines
from mailserver.smtp.plain import read_order, spell_transmission
from mailserver.smtp.transmitter import Transmission
from mailserver.spool.content import MemoryContent
from mailserver.taking import Intake
from mailserver.threads import Pool

__all__ = ["Transmitting"]


class Transmitting:
    """The worker's end.

    :param outbound: the descriptor of the way from the parent.
    :param chores: a thread for what takes a moment.
    """

    _log = Logger()

    def __init__(self, reactor: Any, config: Config, outbound: int, chores: Pool) -> None:
        self._transmitter = build_transmitter(reactor, config, chores)
        self._intake = Intake(reactor, socket.socket(fileno=outbound), self._transmit)

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self._transmitter.deadlines = deadlines(config)

    async def stop(self, grace: float) -> None:
        """Finish what the parent has handed over, or break it off after so many seconds."""
        await self._intake.stop(grace)
        await self._transmitter.stop()

    async def _transmit(self, facts: Any, octets: bytes) -> Any:
        exchanger, envelope = read_order(facts)
        recipients, content = envelope.recipients, MemoryContent(octets)
        try:
            done = await self._transmitter.transmit(exchanger, envelope, content, recipients)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("transmitting {id} to {exchanger}", id=envelope.id, exchanger=str(exchanger))
            done = Transmission({})
        return spell_transmission(done, recipients)

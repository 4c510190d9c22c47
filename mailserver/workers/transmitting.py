"""A worker's share in mail for other hosts: it speaks to them for its parent, which steers and records.

The parent hands over what is to be offered to which host, and is answered with what became of it
(:mod:`mailserver.smtp.outbound`). Connections that stand are the worker's; what is known of hosts and
domains is the parent's.
"""

import socket
from functools import lru_cache
from typing import Any

from mailserver.config import Config
from mailserver.machine.outgoing import build_transmitter
from mailserver.settings import deadlines
from mailserver.smtp.plain import read_host, read_request, spell_transmission
from mailserver.spool.content import MemoryContent
from mailserver.taking import Intake
from mailserver.threads import Pool

__all__ = ["Transmitting"]

_MOST_READ = 256
"""The hosts that are remembered as they were spelled."""


class Transmitting:
    """The worker's end.

    :param outbound: the descriptor of the way from the parent.
    :param chores: a thread for what takes a moment.
    """

    def __init__(self, reactor: Any, config: Config, outbound: int, chores: Pool) -> None:
        self._transmitter = build_transmitter(reactor, config, chores)
        self._read_host = lru_cache(_MOST_READ)(read_host)
        self._intake = Intake(reactor, socket.socket(fileno=outbound), self._transmit)

    def reload(self, config: Config) -> None:
        """Go by another configuration."""
        self._transmitter.deadlines = deadlines(config)

    async def stop(self, grace: float) -> None:
        """Finish what the parent has handed over, or break it off after so many seconds."""
        await self._intake.stop(grace)
        await self._transmitter.stop()

    async def _transmit(self, facts: Any, octets: bytes) -> Any:
        host, envelope = read_request(facts)
        exchanger, recipients = self._read_host(host), envelope.recipients
        done = await self._transmitter.transmit(exchanger, envelope, MemoryContent(octets), recipients)
        return spell_transmission(done, recipients)

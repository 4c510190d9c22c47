"""The SMTP client as every process has it that speaks to mail hosts."""

from typing import Any

from mailserver.config import Config
from mailserver.net.tls import ClientTLS, Trust
from mailserver.settings import deadlines
from mailserver.smtp.standby import USUAL, Standby
from mailserver.smtp.transmitter import Transmitter
from mailserver.threads import Pool

__all__ = ["build_transmitter"]


def build_transmitter(reactor: Any, config: Config, chores: Pool) -> Transmitter:
    """A client of its own connections.

    :param chores: a thread for what takes a moment.
    """
    transmitter = Transmitter(
        reactor,
        reactor,
        config.hostname,
        ClientTLS(),
        deadlines(config),
        ClientTLS(Trust.PKIX),
        Standby(reactor, USUAL),
    )
    transmitter.compute = chores.run
    return transmitter

"""The configuration as values: paths absolute, durations in seconds, sizes in octets.

``docs/configuration.rst`` describes each key; the values here bear the same names.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from mailserver.domains.tree import Tree
from mailserver.model.retry import Schedule
from mailserver.model.source import Problem, Source

__all__ = ["DNS", "TLS", "Config", "Delivery", "Limits", "Listen", "Login", "Network", "Networks", "Relay"]

Network = IPv4Network | IPv6Network
Networks = tuple[tuple[Network, Source], ...]
"""Networks, each with the line that names it."""


@frozen
class Listen:
    """One listener.

    :ivar service: ``smtp``, ``submission``, ``submissions``, ``pop3`` or ``pop3s``.
    :ivar endpoint: for ``twisted.internet.endpoints.serverFromString``; it has been parsed once.
    """

    service: str
    endpoint: str
    source: Source


@frozen
class Relay:
    """Who may send anywhere without a password."""

    networks: Networks


@frozen
class Login:
    """How people log in.

    :ivar plaintext_networks: from where a password is taken on a connection without TLS.
    """

    plaintext_networks: Networks


@frozen
class TLS:
    """A certificate with its chain, and its key: PEM files that exist and can be read."""

    certificate: Path
    key: Path


@frozen
class DNS:
    """Whom to ask.

    :ivar servers: addresses and ports; empty: as in ``resolv.conf``.
    """

    servers: tuple[tuple[str, int], ...]
    timeout: float


@frozen
class Delivery:
    """How mail leaves.

    :ivar port: of remote mail hosts.
    :ivar smarthost: hosts and ports in the order in which they are tried; empty: the MX hosts.
    :ivar loopback: whether a mail host with a loopback address is allowed.
    """

    port: int
    schedule: Schedule
    smarthost: tuple[tuple[str, int], ...]
    loopback: bool
    connect_timeout: float
    greeting_timeout: float


@frozen
class Limits:
    """Of one message: octets, and recipients."""

    message_size: int
    recipients: int


@frozen
class Config:
    """The whole configuration.

    :ivar file: where it was read from.
    :ivar tls: ``None``: make a self-signed pair.
    :ivar tree: the hosted domains; empty after :func:`~mailserver.config.load_server`.
    :ivar problems: warnings, none of them fatal.
    """

    file: Path
    hostname: str
    state: Path
    domains: Path
    workers: int | Literal["auto"]
    listen: tuple[Listen, ...]
    relay: Relay
    login: Login
    tls: TLS | None
    dns: DNS
    delivery: Delivery
    limits: Limits
    tree: Tree = field(repr=False)
    problems: tuple[Problem, ...]

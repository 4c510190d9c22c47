"""The configuration cut to size: what each part of the server takes of it, as plain values.

Functions of the configuration, asked at the start and at each reload by the parts of the machine
(:mod:`mailserver.machine`), which hand the values down.
"""

from functools import partial

from mailserver.access.connections import ConnectionRules
from mailserver.access.lockout import LockoutRules
from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile
from mailserver.config import Config
from mailserver.model.source import Source
from mailserver.smtp.client import Deadlines
from mailserver.smtp.reception import Limits, Rules
from mailserver.spool.free import affordable

__all__ = [
    "connection_rules",
    "deadlines",
    "lockout_rules",
    "reception_rules",
    "unchangeable",
]


def reception_rules(config: Config) -> Rules:
    """Who may send what, and how much of it."""
    limits = Limits(config.limits.message_size, config.limits.recipients, source=Source(config.file.name))
    return Rules(
        Networks(config.profiles),
        limits,
        config.rates,
        config.limits.unknown_recipients,
        config.greeting_delay,
        reserve=affordable(config.limits.disk_reserve, config.state),
        hide_client=config.submission.hide_client,
    )


def connection_rules(config: Config) -> ConnectionRules:
    """How many may connect."""
    listed, limits = Networks(config.profiles), config.limits
    source = Source(config.file.name)
    exempt = partial(_is_listed, listed)
    return ConnectionRules(limits.connections, limits.connections_per_address, exempt, source)


def _is_listed(networks: Networks[Profile], client: str) -> bool:
    return networks.match(client) is not None


def lockout_rules(config: Config) -> LockoutRules:
    """When somebody who guesses passwords is locked out."""
    login = config.login
    exempt = Networks(login.exempt_networks)
    source = Source(config.file.name)
    return LockoutRules(login.failures, login.lockout, lambda it: exempt.match(it) is not None, source)


def deadlines(config: Config) -> Deadlines:
    """How long mail hosts are waited for."""
    return Deadlines(connect=config.delivery.connect_timeout, greeting=config.delivery.greeting_timeout)


def unchangeable(old: Config, new: Config) -> list[str]:
    """What differs and is not gone by before the next start, each with what to say of it."""
    names = ("hostname", "state", "workers", "listen", "dns")
    changed = [name for name in names if _spelled(old, name) != _spelled(new, name)]
    return [f"{name}: the change takes effect at the next start" for name in changed]


def _spelled(config: Config, name: str) -> object:
    if name == "listen":
        return [(listen.service, listen.endpoint) for listen in config.listen]
    return getattr(config, name)

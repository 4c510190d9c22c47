"""The configuration cut to size: what each part of the server takes of it, as plain values.

Functions of the configuration, asked at the start and at each reload by the parts of the machine
(:mod:`mailserver.machine`), which hand the values down.
"""

from functools import partial

from attrs import evolve

from mailserver.access.connections import ConnectionRules
from mailserver.access.lockout import LockoutRules
from mailserver.access.networks import Networks
from mailserver.access.profiles import Profile
from mailserver.config import Config
from mailserver.config.shapes import MOST_WORKERS
from mailserver.domains.relayed import RelayDomain, RelayDomains
from mailserver.model.retry import Schedule
from mailserver.model.source import Problem, Source
from mailserver.smtp.client import Deadlines
from mailserver.smtp.reception import Limits, Rules
from mailserver.spool.free import affordable

__all__ = [
    "as_begun",
    "connection_rules",
    "deadlines",
    "lockout_rules",
    "reception_rules",
    "relay_domains",
    "schedules",
    "unable",
    "unchangeable",
    "unwise",
    "worker_count",
]

_FOR_LIFE = ("hostname", "state", "workers", "listen", "dns")


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


def relay_domains(config: Config) -> RelayDomains:
    """The domains for which mail is taken from anybody and handed on."""
    domains: dict[str, RelayDomain] = {}
    for route in config.delivery.routes:
        for name in route.domains if route.accepts else ():
            domains.setdefault(name, RelayDomain(route.source, route.recipients))
    return RelayDomains(domains)


def schedules(config: Config) -> dict[str, Schedule]:
    """The retry schedules of domains that have one of their own."""
    found: dict[str, Schedule] = {}
    for route in config.delivery.routes:
        for name in route.domains if route.lifetime else ():
            found.setdefault(name, evolve(config.delivery.schedule, lifetime=route.lifetime))
    return found


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


def unable(config: Config, uid: int) -> list[Problem]:
    """What a process of this user cannot do: run programs as somebody else, unless it is root's."""
    problems = []
    for route in config.delivery.routes:
        identity = route.pipe.identity if route.pipe is not None else None
        if identity is not None and uid not in (0, identity.uid):
            text = f'only a server that runs as root can run programs as "{identity.name}"'
            problems.append(Problem(route.source, "route.user", text))
    return problems


def unwise(config: Config, uid: int) -> list[Problem]:
    """What a process of this user had better not do: run programs as root."""
    pipes = [(route.pipe, route.source) for route in config.delivery.routes if route.pipe is not None]
    text = "the program runs as root: name a user"
    return [
        Problem(source, "route.user", text, fatal=False)
        for pipe, source in pipes
        if uid == 0 and (pipe.identity is None or pipe.identity.uid == 0)
    ]


def unchangeable(old: Config, new: Config) -> list[str]:
    """What differs and is not gone by before the next start, each with what to say of it."""
    changed = [name for name in _FOR_LIFE if _spelled(old, name) != _spelled(new, name)]
    return [f"{name}: the change takes effect at the next start" for name in changed]


def as_begun(begun: Config, now: Config) -> Config:
    """The configuration that is gone by: ``now``, but for what does not change before the next start."""
    return evolve(now, **{name: getattr(begun, name) for name in _FOR_LIFE})


def worker_count(workers: int | str, cores: int) -> int:
    """How many processes accept, by the ``workers`` key and the cores that this process may use.

    ``"auto"`` is one for each core; with one core there is nothing to share.
    """
    if not isinstance(workers, str):
        return workers
    return min(cores, MOST_WORKERS) if cores > 1 else 0


def _spelled(config: Config, name: str) -> object:
    if name == "listen":
        return [(listen.service, listen.endpoint) for listen in config.listen]
    return getattr(config, name)

"""The shape of ``mailserver.toml``: every key, its type, its default. What is said of each is in the docs.

The defaults are safe rather than useful: nothing listens, and only this machine may relay or log in
without TLS.
"""

import socket
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mailserver.config.endpoints import check_endpoint
from mailserver.domains.hops import parse_hop, parse_lmtp, split_port
from mailserver.domains.naming import parse_domain, parse_mailbox
from mailserver.domains.tomlfile import Table
from mailserver.domains.units import Network, parse_duration, parse_network, parse_size, quote
from mailserver.model.exchanger import NextHop

__all__ = ["MOST_WORKERS", "File"]

MOST_WORKERS = 64

_LONGEST = 366 * 86400.0


def _parse_wait(value: object) -> float:
    seconds = parse_duration(value)
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f'"{value}" is too short or too long')
    return seconds


def _parse_wait_or_none(value: object) -> float:
    return 0.0 if parse_duration(value) == 0 else _parse_wait(value)


def _parse_greeting_delay(value: object) -> float:
    seconds = parse_duration(value)
    if seconds > 60:
        raise ValueError(f'"{value}" is too long: clients do not wait for more than "60s"')
    return seconds


def _parse_message_size(value: object) -> int:
    octets = parse_size(value)
    if octets == 0:
        raise ValueError("nothing would be accepted: it must be above 0")
    return octets


def _parse_server(value: object) -> tuple[str, int]:
    """``"127.0.0.1"``, ``"127.0.0.1:5300"``, ``"::1"``, ``"[::1]:53"``."""
    host, port = split_port(value, 53)
    try:
        return str(ip_address(host)), port
    except ValueError:
        raise ValueError(f'"{value}" is not an IP address, with or without :port') from None


def _parse_lmtp_or_none(value: object) -> NextHop | None:
    return None if value == "" else parse_lmtp(value)


def _check_waits(waits: list[float]) -> list[float]:
    if not waits:
        raise ValueError("names no wait: at least one is needed, the last one repeats")
    return waits


def _check_levels(levels: list[int]) -> list[int]:
    if not all(0 < level < 100 for level in levels):
        raise ValueError("percentages from 1 to 99")
    return levels


def _usual_levels() -> list[int]:
    return [80, 95]


def _check_hostname(name: str) -> str:
    domain = parse_domain(name)
    if domain.replace(".", "").isdecimal():
        raise ValueError(f'"{name}" is an address, not a name')
    return domain


def _parse_correspondents(value: object) -> str:
    """``"scanner@example.lan"``, or ``"@example.lan"`` for everybody there, as a key."""
    if not isinstance(value, str):
        raise ValueError(f'{quote(value)} is not an address, nor "@" and a domain')
    if value.startswith("@"):
        return "@" + parse_domain(value[1:])
    return parse_mailbox(value).key


def _parse_own_name(value: object) -> str:
    """``"mx2.example.org"``, or an IP address."""
    if not isinstance(value, str):
        raise ValueError(f"{quote(value)} is neither a name nor an IP address")
    try:
        return str(ip_address(value))
    except ValueError:
        return parse_domain(value)


def _parse_domains_below(name: str) -> str:
    """``"example.org"``, or ``".example.org"`` for all below it."""
    return "." + parse_domain(name[1:]) if name.startswith(".") else parse_domain(name)


def _check_user(name: str) -> str:
    return parse_mailbox(name).key


def _check_networks(networks: list[Any]) -> list[Any]:
    if not networks:
        raise ValueError("names no network")
    return networks


def _check_workers(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_WORKERS:
        return value
    if value == "auto":
        return value
    raise ValueError(f'{quote(value)} is not a number from 0 to {MOST_WORKERS}, or "auto"')


_Wait = Annotated[float, BeforeValidator(_parse_wait)]
_Networks = list[Annotated[Any, BeforeValidator(parse_network)]]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Path = Annotated[str, Field(min_length=1)]


class _Listen(Table):
    service: Literal["smtp", "submission", "submissions", "pop3", "pop3s"]
    endpoint: Annotated[str, AfterValidator(check_endpoint)]


def _system_name() -> str:
    return socket.gethostname()


def _this_machine() -> list[Network]:
    return [parse_network("127.0.0.0/8"), parse_network("::1/128")]


def _usual_waits() -> list[float]:
    return [60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0]


class _Relay(Table):
    networks: _Networks = Field(default_factory=_this_machine)


_Correspondents = list[Annotated[str, BeforeValidator(_parse_correspondents)]]
_Domains = list[Annotated[str, AfterValidator(parse_domain)]]
_DomainsBelow = list[Annotated[str, AfterValidator(_parse_domains_below)]]
_Hops = list[Annotated[Any, BeforeValidator(parse_hop)]]
_Security = Literal["none", "may", "encrypt", "verify", "dane"]
_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
_Over = Literal["delay", "refuse", "hold"]


class _Network(Table):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    cidrs: Annotated[_Networks, AfterValidator(_check_networks)]
    owner: Annotated[str, Field(max_length=200)] = ""
    relay: Literal["anywhere", "local", "listed"] = "local"
    senders: _Correspondents = Field(default_factory=list)
    recipients: _Correspondents = Field(default_factory=list)
    domains: _Domains = Field(default_factory=list)
    require: Literal["none", "tls", "auth"] = "none"
    message_size: Annotated[int, BeforeValidator(parse_size)] = 0
    recipients_per_message: Annotated[int, Field(ge=0, le=100_000)] = 0
    messages_per_hour: _Count = 0
    recipients_per_hour: _Count = 0
    over: _Over = "delay"
    plaintext_login: bool = False
    tls_minimum: Literal["", "1.0", "1.1", "1.2", "1.3"] = ""
    sloppy: bool = False


class _Rates(Table):
    user_messages: _Count = 0
    user_recipients: _Count = 0
    user_over: _Over = "delay"
    address_messages: _Count = 0
    address_recipients: _Count = 0
    address_over: _Over = "delay"
    first_time_recipients: _Count = 200


class _SMTP(Table):
    greeting_delay: Annotated[float, BeforeValidator(_parse_greeting_delay)] = 0.0


class _Login(Table):
    plaintext_networks: _Networks = Field(default_factory=_this_machine)
    failures: Annotated[int, Field(ge=0, le=1000)] = 10
    lockout: _Wait = 900.0
    exempt_networks: _Networks = Field(default_factory=list)
    remember: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 3600.0


class _TLS(Table):
    certificate: str = ""
    key: str = ""
    directory: _Path = "certs"
    minimum: Literal["1.2", "1.3"] = "1.2"


class _Proxy(Table):
    networks: _Networks = Field(default_factory=list)


class _DNS(Table):
    servers: list[Annotated[Any, BeforeValidator(_parse_server)]] = Field(default_factory=list)
    timeout: _Wait = 5.0
    validating: bool = False


class _Delivery(Table):
    port: _Port = 25
    retry: Annotated[list[_Wait], AfterValidator(_check_waits)] = Field(default_factory=_usual_waits)
    lifetime: _Wait = 5 * 86400.0
    warn_after: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 4 * 3600.0
    smarthost: _Hops = Field(default_factory=list)
    loopback: bool = False
    own_names: list[Annotated[str, BeforeValidator(_parse_own_name)]] = Field(default_factory=list)
    connect_timeout: _Wait = 30.0
    greeting_timeout: _Wait = 300.0
    history: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 30 * 86400.0
    tls: _Security = "may"
    dane: bool = True
    mta_sts: bool = True
    mta_sts_port: _Port = 443
    tls_roots: str = ""


class _Route(Table):
    domains: _DomainsBelow = Field(default_factory=list)
    senders: _DomainsBelow = Field(default_factory=list)
    networks: _Networks = Field(default_factory=list)
    users: list[Annotated[str, AfterValidator(_check_user)]] = Field(default_factory=list)
    to: Literal["mx", "backup", "smarthost", "lmtp", "pipe", "discard", "refuse"] = "mx"
    smarthost: _Hops = Field(default_factory=list)
    lmtp: Annotated[Any, BeforeValidator(_parse_lmtp_or_none)] = None
    username: str = ""
    password_file: str = ""
    tls: _Security = "may"
    tls_roots: str = ""
    command: list[_Path] = Field(default_factory=list)
    user: str = ""
    each: bool = True
    timeout: _Wait = 300.0
    processes: Annotated[int, Field(ge=1, le=100)] = 5
    accept: bool = False
    recipients: list[_Path] = Field(default_factory=list)
    recipients_file: str = ""
    lifetime: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 0.0
    text: Annotated[str, Field(max_length=200)] = ""


class _Forwarding(Table):
    srs: bool = True


class _Mailboxes(Table):
    quota_warnings: Annotated[list[int], AfterValidator(_check_levels)] = Field(default_factory=_usual_levels)
    keep_deleted: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 7 * 86400.0


class _Submission(Table):
    hide_client: bool = False


class _Limits(Table):
    message_size: Annotated[int, BeforeValidator(_parse_message_size)] = 50 * 2**20
    recipients: Annotated[int, Field(ge=1, le=100_000)] = 1000
    unknown_recipients: _Count = 10
    connections: _Count = 10_000
    connections_per_address: _Count = 100
    disk_reserve: Annotated[int, BeforeValidator(parse_size)] = 32 * 2**20


class _POP3(Table):
    login_delay: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 0.0


class File(Table):
    """The whole file."""

    hostname: Annotated[str, AfterValidator(_check_hostname)] = Field(
        default_factory=_system_name, validate_default=True
    )
    state: _Path = "../var"
    domains: _Path = "domains"
    workers: Annotated[Any, BeforeValidator(_check_workers)] = 0
    listen: list[_Listen] = Field(default_factory=list)
    relay: _Relay = _Relay()
    network: list[_Network] = Field(default_factory=list)
    rates: _Rates = _Rates()
    smtp: _SMTP = _SMTP()
    login: _Login = _Login()
    tls: _TLS = _TLS()
    proxy: _Proxy = _Proxy()
    dns: _DNS = _DNS()
    delivery: _Delivery = _Delivery()
    route: list[_Route] = Field(default_factory=list)
    forwarding: _Forwarding = _Forwarding()
    mailboxes: _Mailboxes = _Mailboxes()
    pop3: _POP3 = _POP3()
    limits: _Limits = _Limits()
    submission: _Submission = _Submission()

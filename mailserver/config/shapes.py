"""The shape of ``mailserver.toml``: every key, its type, its default. What is said of each is in the docs.

The defaults are safe rather than useful: nothing listens, and only this machine may relay or log in
without TLS.
"""

import socket
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mailserver.config.endpoints import check_endpoint
from mailserver.domains.naming import parse_domain
from mailserver.domains.tomlfile import Table
from mailserver.domains.units import Network, parse_duration, parse_network, parse_size, quote

__all__ = ["File"]

_LONGEST = 366 * 86400.0


def _parse_wait(value: object) -> float:
    seconds = parse_duration(value)
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f'"{value}" is too short or too long')
    return seconds


def _parse_wait_or_none(value: object) -> float:
    return 0.0 if parse_duration(value) == 0 else _parse_wait(value)


def _parse_message_size(value: object) -> int:
    octets = parse_size(value)
    if octets == 0:
        raise ValueError("nothing would be accepted: it must be above 0")
    return octets


def _parse_server(value: object) -> tuple[str, int]:
    """``"127.0.0.1"``, ``"127.0.0.1:5300"``, ``"::1"``, ``"[::1]:53"``."""
    host, port = _split_port(value, 53)
    try:
        return str(ip_address(host)), port
    except ValueError:
        raise ValueError(f'"{value}" is not an IP address, with or without :port') from None


def _parse_host(value: object) -> tuple[str, int]:
    """``"relay.isp.example:587"``, or an address; port 25 if none is named."""
    host, port = _split_port(value, 25)
    try:
        return str(ip_address(host)), port
    except ValueError:
        return parse_domain(host), port


def _split_port(value: object, default: int) -> tuple[str, int]:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{quote(value)} is not a host, with or without :port")
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = value, str(default)
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) <= 65535:
        raise ValueError(f'"{value}" has no port between 1 and 65535')
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_waits(waits: list[float]) -> list[float]:
    if not waits:
        raise ValueError("names no wait: at least one is needed, the last one repeats")
    return waits


def _check_hostname(name: str) -> str:
    domain = parse_domain(name)
    if domain.replace(".", "").isdecimal():
        raise ValueError(f'"{name}" is an address, not a name')
    return domain


def _check_workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 64):
        return value
    raise ValueError(f'{quote(value)} is not a number from 0 to 64, or "auto"')


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


class _Login(Table):
    plaintext_networks: _Networks = Field(default_factory=_this_machine)


class _TLS(Table):
    certificate: str = ""
    key: str = ""


class _DNS(Table):
    servers: list[Annotated[Any, BeforeValidator(_parse_server)]] = Field(default_factory=list)
    timeout: _Wait = 5.0


class _Delivery(Table):
    port: _Port = 25
    retry: Annotated[list[_Wait], AfterValidator(_check_waits)] = Field(default_factory=_usual_waits)
    lifetime: _Wait = 5 * 86400.0
    warn_after: Annotated[float, BeforeValidator(_parse_wait_or_none)] = 4 * 3600.0
    smarthost: list[Annotated[Any, BeforeValidator(_parse_host)]] = Field(default_factory=list)
    loopback: bool = False
    connect_timeout: _Wait = 30.0
    greeting_timeout: _Wait = 300.0


class _Limits(Table):
    message_size: Annotated[int, BeforeValidator(_parse_message_size)] = 50 * 2**20
    recipients: Annotated[int, Field(ge=1, le=100_000)] = 1000


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
    login: _Login = _Login()
    tls: _TLS = _TLS()
    dns: _DNS = _DNS()
    delivery: _Delivery = _Delivery()
    limits: _Limits = _Limits()

"""How an admin writes quantities and networks: ``"90s"``, ``"50MB"``, ``"192.168.0.0/16"``.

Every function raises :class:`ValueError` with a text that stands alone in a list of problems: what was
written, and how it should have been.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

__all__ = ["Network", "parse_duration", "parse_network", "parse_size", "quote", "spell_size"]

Network = IPv4Network | IPv6Network

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_OCTETS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_LONGEST = 20  # characters; nobody writes a longer one, and int() of a long one costs its square


def parse_duration(value: object) -> float:
    """Seconds in ``"90s" "5m" "4h" "5d"``; also ``ms`` and ``w``, and a fraction before the unit."""
    if isinstance(value, str) and len(value) <= _LONGEST and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError(f'{quote(value)} is not a duration: a number and s, m, h or d, as "90s"')


def parse_size(value: object) -> int:
    """Octets in ``"64KB" "50MB" "1GB"``, 1 KB being 1024; a plain number is octets."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and len(value) <= _LONGEST and (match := _SIZE.fullmatch(value.strip())):
        return int(float(match[1]) * _OCTETS[match[2].upper()])
    raise ValueError(f'{quote(value)} is not a size: a number and KB, MB or GB, as "50MB"')


def spell_size(octets: int) -> str:
    """The shortest exact spelling that :func:`parse_size` reads back: ``50MB``, ``1536KB``, ``1000``."""
    for unit in "TGMK":
        if octets and octets % _OCTETS[unit] == 0:
            return f"{octets // _OCTETS[unit]}{unit}B"
    return str(octets)


def parse_network(value: object) -> Network:
    """An IPv4 or IPv6 network in CIDR form; an address alone is the network of that one address."""
    if isinstance(value, str):
        try:
            return ip_network(value)
        except ValueError:
            pass
        try:
            meant = ip_network(value, strict=False)
        except ValueError:
            pass
        else:
            raise ValueError(f'{quote(value)} is an address in a network; the network is "{meant}"')
    raise ValueError(f"{quote(value)} is not a network")


def quote(value: object) -> str:
    """What was written, as it stood in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)

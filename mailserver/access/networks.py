"""Which rule an IP address falls under: networks in CIDR form, the most specific first.

An address that is none, as a UNIX socket's empty one, is in no network. IPv4 addresses and networks mean
the same whether written plainly or IPv4-mapped (RFC 4291 §2.5.5.2): a socket that listens on ``::`` shows its
IPv4 clients in the long form.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Generic, TypeVar

from attrs import field, frozen

__all__ = ["Network", "Networks"]

Network = IPv4Network | IPv6Network

Rule = TypeVar("Rule")
"""What is said of a network: the line that names it, a profile."""

_Table = tuple[tuple[int, Mapping[int, Rule]], ...]
"""For each length of prefix in use, longest first: the host bits to cut off, and the rules by what is
left."""


@frozen
class Networks(Generic[Rule]):
    """A list of networks, each with its rule.

    :ivar rules: in the order of the files; of two equal networks the first one counts.
    """

    rules: tuple[tuple[Network, Rule], ...] = ()
    _ipv4: _Table[Rule] = field(init=False, eq=False, repr=False)
    _ipv6: _Table[Rule] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        plain = [(_unmapped(network), rule) for network, rule in self.rules]
        object.__setattr__(self, "_ipv4", _table(plain, 4))
        object.__setattr__(self, "_ipv6", _table(plain, 6))

    def match(self, address: str) -> Rule | None:
        """The rule of the most specific network that holds ``address``; ``None`` if none does.

        Costs one look-up for each length of prefix in use, however many networks there are.
        """
        version, number = _parse(address)
        tables = {4: self._ipv4, 6: self._ipv6}.get(version, ())
        for host_bits, rules in tables:
            rule = rules.get(number >> host_bits)
            if rule is not None:
                return rule
        return None


@lru_cache(4096)  # a client's address is asked about once for every message
def _parse(address: str) -> tuple[int, int]:
    """The version and the number of an address; version 0 for what is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return 0, 0
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed)


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _table(rules: Sequence[tuple[Network, Rule]], version: int) -> _Table[Rule]:
    tables: dict[int, dict[int, Rule]] = {}
    for network, rule in rules:
        if network.version == version:
            host_bits = network.max_prefixlen - network.prefixlen
            tables.setdefault(host_bits, {}).setdefault(int(network.network_address) >> host_bits, rule)
    return tuple(sorted(tables.items(), key=lambda entry: entry[0]))

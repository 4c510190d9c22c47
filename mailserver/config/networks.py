"""The ``[[network]]`` and ``[rates]`` tables as values, and what is wrong with them beyond single keys."""

from collections.abc import Callable, Iterator
from typing import Any

from mailserver.access.profiles import Allowance, Over, Profile, Relay, Require
from mailserver.access.rates import RateRules
from mailserver.config.shapes import File
from mailserver.domains.units import Network
from mailserver.model.source import Problem, Source

__all__ = ["network_problems", "read_profiles", "read_rates"]

Locate = Callable[..., Source]
"""Where a key stands, by its path."""


def read_profiles(file: File, locate: Locate) -> tuple[tuple[Network, Profile], ...]:
    """Every network of the tables with its profile, in the order of the file."""
    profiles = [_profile(table, locate("network", index)) for index, table in enumerate(file.network)]
    return tuple(
        (network, profile)
        for table, profile in zip(file.network, profiles, strict=True)
        for network in table.cidrs
    )


def read_rates(file: File, locate: Locate) -> RateRules:
    """What users and addresses may send in an hour."""
    rates, source = file.rates, locate("rates")
    return RateRules(
        user=Allowance(rates.user_messages, rates.user_recipients, Over(rates.user_over), source),
        address=Allowance(rates.address_messages, rates.address_recipients, Over(rates.address_over), source),
        first_time=rates.first_time_recipients,
        source=source,
    )


def network_problems(file: File, locate: Locate) -> Iterator[Problem]:
    """What is wrong though every key by itself is right, and what is unwise."""
    names: dict[str, int] = {}
    networks: dict[Network, int] = {}
    for index, table in enumerate(file.network):
        if table.name in names:
            line = locate("network", names[table.name], "name").line
            yield _problem(locate, index, "name", f'"{table.name}" is the name of the network of line {line}')
        names.setdefault(table.name, index)
        for network in table.cidrs:
            if network in networks:
                line = locate("network", networks[network], "cidrs").line
                yield _problem(locate, index, "cidrs", f'"{network}" stands in line {line} already')
            networks.setdefault(network, index)
        yield from _list_problems(table, index, locate)


def _list_problems(table: Any, index: int, locate: Locate) -> Iterator[Problem]:
    lists = [name for name in ("senders", "recipients", "domains") if getattr(table, name)]
    if table.relay == "listed" and not lists:
        text = '"listed", and nothing is: give senders, recipients or domains'
        yield _problem(locate, index, "relay", text)
    if table.relay != "listed":
        for name in lists:
            yield _problem(locate, index, name, 'has no effect without relay = "listed"', fatal=False)
    if table.tls_minimum in ("1.0", "1.1"):
        yield _problem(locate, index, "tls_minimum", "old TLS is no protection (RFC 8996)", fatal=False)


def _problem(locate: Locate, index: int, key: str, text: str, fatal: bool = True) -> Problem:
    return Problem(locate("network", index, key), f"network[{index}].{key}", text, fatal)


def _profile(table: Any, source: Source) -> Profile:
    over = Over(table.over)
    return Profile(
        name=table.name,
        owner=table.owner,
        relay=Relay(table.relay),
        senders=frozenset(table.senders),
        recipients=frozenset(table.recipients),
        domains=frozenset(table.domains),
        require=Require(table.require),
        message_size=table.message_size,
        most_recipients=table.recipients_per_message,
        allowance=Allowance(table.messages_per_hour, table.recipients_per_hour, over, source),
        plaintext_login=table.plaintext_login,
        tls_minimum=table.tls_minimum,
        sloppy=table.sloppy,
        source=source,
    )

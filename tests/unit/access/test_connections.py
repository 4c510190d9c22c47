"""Connections: in all, and from one address."""

import pytest

from mailserver.access.connections import ConnectionRules, Connections
from mailserver.model.source import Source

LINE = Source("mailserver.toml", 40)


def admitted(connections: Connections, address: str, times: int) -> int:
    return sum(connections.admit(address).allowed for _ in range(times))


def test_from_one_address() -> None:
    connections = Connections(ConnectionRules(0, 3, lambda it: it == "192.168.1.7", LINE))
    assert admitted(connections, "192.0.2.1", 5) == 3
    assert admitted(connections, "192.0.2.2", 5) == 3
    assert admitted(connections, "192.168.1.7", 50) == 50, "listed"
    assert admitted(connections, "", 50) == 50, "a UNIX socket"
    verdict = connections.admit("192.0.2.1")
    assert (verdict.reason, verdict.source) == ("3 connections from 192.0.2.1", LINE)
    connections.leave("192.0.2.1")
    assert admitted(connections, "192.0.2.1", 2) == 1


def test_an_ipv6_client_is_its_64() -> None:
    connections = Connections(ConnectionRules(0, 2))
    assert admitted(connections, "2001:db8::1", 1) == 1
    assert admitted(connections, "2001:db8::2", 5) == 1
    assert admitted(connections, "2001:db8:0:1::2", 5) == 2


def test_in_all() -> None:
    connections = Connections(ConnectionRules(10, 0, lambda _: True))
    assert sum(connections.admit(f"192.0.2.{number}").allowed for number in range(20)) == 10
    for number in range(10):
        connections.leave(f"192.0.2.{number}")
    assert len(connections) == 0
    assert connections.admit("192.0.2.1").allowed


def test_nothing_is_kept_of_who_has_left() -> None:
    connections = Connections(ConnectionRules())
    for number in range(200):
        assert connections.admit(f"192.0.2.{number}").allowed
        connections.leave(f"192.0.2.{number}")
    assert not connections._by_client


@pytest.mark.parametrize(
    ("own", "elsewhere", "processes", "exceeds"),
    [
        (0, 0, 2, False),
        (2, 0, 2, False),  # of few, anybody may have some more
        (3, 0, 2, True),
        (3, 1, 2, False),
        (30, 30, 2, False),
        (38, 22, 2, False),
        (39, 21, 2, True),
        (20, 60, 4, False),
        (27, 53, 4, True),
        (80, 0, 1, False),  # all of them are the share of the only one
    ],
)
def test_who_has_more_than_his_share(own: int, elsewhere: int, processes: int, exceeds: bool) -> None:
    connections = Connections(ConnectionRules())
    assert admitted(connections, "192.0.2.1", own) == own
    for _ in range(elsewhere):
        connections.hear(["192.0.2.1", 1], 0)
    assert connections.exceeds_share(processes) is exceeds

"""Networks: the most specific rule wins, and what is no address matches nothing."""

from ipaddress import ip_network

import pytest

from mailserver.access.networks import Networks
from mailserver.model.source import Source


def at(line: int) -> Source:
    return Source("mailserver.toml", line)


NETWORKS = Networks(
    [
        (ip_network("10.0.0.0/8"), at(1)),
        (ip_network("10.1.0.0/16"), at(2)),
        (ip_network("10.1.2.3/32"), at(3)),
        (ip_network("2001:db8::/32"), at(4)),
        (ip_network("2001:db8:1::/48"), at(5)),
        (ip_network("::1/128"), at(6)),
        (ip_network("::ffff:172.16.0.0/108"), at(7)),
        (ip_network("10.0.0.0/8"), at(8)),
    ]
)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("10.200.0.1", 1),
        ("10.1.0.0", 2),
        ("10.1.255.255", 2),
        ("10.1.2.3", 3),
        ("10.1.2.4", 2),
        ("11.0.0.0", None),
        ("9.255.255.255", None),
        ("::ffff:10.1.2.3", 3),
        ("::ffff:0a01:0203", 3),
        ("2001:db8::1", 4),
        ("2001:DB8:1::1", 5),
        ("::1", 6),
        ("::2", None),
        ("172.16.0.9", 7),
        ("172.32.0.0", None),
        ("fe80::1%eth0", None),
        ("", None),
        ("unix", None),
        ("10.1.2", None),
        ("10.1.2.3\n", None),
        ("010.001.002.003", None),
        ("10.1.2.3/32", None),
    ],
)
def test_match(address: str, line: int | None) -> None:
    assert NETWORKS.match(address) == (at(line) if line else None)


def test_everybody() -> None:
    networks = Networks(((ip_network("0.0.0.0/0"), at(1)),))
    assert networks.match("255.255.255.255") == at(1)
    assert networks.match("::1") is None


def test_nobody() -> None:
    assert Networks(()).match("127.0.0.1") is None


def test_is_a_value() -> None:
    assert Networks() == Networks(())
    assert len({Networks(), Networks(())}) == 1

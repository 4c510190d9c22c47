"""Quantities and networks, as admins write them."""

from ipaddress import ip_network

import pytest

from mailserver.domains.units import parse_duration, parse_network, parse_size, spell_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("4h", 14400),
        ("5d", 432000),
        ("1w", 604800),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("0s", 0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "5", "5y", "-5s", "s", "5 m m", "1h30m", 5, None, True, "９s", "9" * 50 + "s"]
)
def test_no_durations(value):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("64KB", 65536),
        ("50MB", 50 * 2**20),
        ("1GB", 2**30),
        ("1 gb", 2**30),
        ("1.5KB", 1536),
        ("10", 10),
        (10, 10),
        (0, 0),
    ],
)
def test_sizes(value, octets):
    assert parse_size(value) == octets


@pytest.mark.parametrize("value", ["", "50 parsecs", "-1", -1, 1.5, True, None, "KB", "9" * 50])
def test_no_sizes(value):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(value)


@pytest.mark.parametrize("octets", [0, 1, 1000, 1024, 1536, 50 * 2**20, 2**30, 3 * 2**40])
def test_sizes_are_spelled_to_be_read_back(octets):
    assert parse_size(spell_size(octets)) == octets


def test_networks():
    assert parse_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert parse_network("192.0.2.1") == ip_network("192.0.2.1/32")
    assert parse_network("::1/128") == ip_network("::1/128")


@pytest.mark.parametrize(
    "value", ["192.168.0.0/33", "", "example.lan", 7, 2130706433, "10.0.0.0/8 ", "::1/129", None]
)
def test_no_networks(value):
    with pytest.raises(ValueError, match="is not a network"):
        parse_network(value)


def test_host_bits_name_the_network_that_was_meant():
    with pytest.raises(ValueError, match=r'the network is "192\.168\.1\.0/24"'):
        parse_network("192.168.1.5/24")

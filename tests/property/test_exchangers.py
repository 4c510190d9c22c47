"""Whatever DNS says: hosts come in order, once, all of them better than ourselves, and nothing raises."""

from ipaddress import ip_address
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mailserver.model.exchanger import MX
from mailserver.net.exchangers import is_usable, order_addresses, order_hosts
from mailserver.net.resolver import is_dns_name

HOSTS = st.sampled_from(["", "us", "also-us", "a", "b", "c", "d"])
RECORDS = st.lists(st.builds(MX, st.integers(0, 5), HOSTS), max_size=12)
ADDRESSES = st.lists(st.ip_addresses().map(str), max_size=12, unique=True)


@given(RECORDS, st.integers())
def test_hosts(records, seed):
    ordered = order_hosts(records, {"us", "also-us"}, Random(seed))
    limit = min((mx.preference for mx in records if mx.host in ("us", "also-us")), default=100)
    preferences = [mx.preference for mx in ordered]
    assert preferences == sorted(preferences)
    assert all(mx in records and mx.preference < limit for mx in ordered)
    # Nobody is left out, and each has its best preference.
    best = {}
    for mx in records:
        if mx.host and mx.preference < limit:
            best[mx.host] = min(mx.preference, best.get(mx.host, 100))
    assert {mx.host: mx.preference for mx in ordered} == best
    assert len(ordered) == len(best)


@given(ADDRESSES)
def test_addresses(addresses):
    ordered = order_addresses(addresses)
    assert sorted(ordered) == sorted(addresses)
    assert ordered[:1] == tuple(addresses[:1])
    six = [":" in address for address in ordered]
    shorter = min(six.count(True), six.count(False))
    assert all(six[n] != six[n + 1] for n in range(2 * shorter - 1))


@given(st.ip_addresses())
def test_loopback_is_the_only_difference(address):
    if is_usable(str(address), loopback=True) != is_usable(str(address)):
        assert ip_address(getattr(address, "ipv4_mapped", None) or address).is_loopback


@given(st.text())
def test_a_name_is_one_that_dns_can_carry(text):
    if is_dns_name(text):
        assert len(text) <= 253
        assert all(0 < len(label) <= 63 for label in text.split("."))
        assert text.isascii()
        assert not set(text) & set(" \t\r\n\0[]:")

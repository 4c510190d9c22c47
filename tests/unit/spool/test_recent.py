"""The memory of recent messages is bounded and drops the least recently used first."""

from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin
from mailserver.spool.recent import Recent


def envelope(id):
    return Envelope(id, NULL_SENDER, (), Origin(), 0.0)


def test_what_was_put_is_there_until_forgotten():
    recent = Recent(100_000)
    recent.put(envelope("A"), b"a")
    assert recent.envelope("A") == envelope("A")
    assert recent.octets("A") == b"a"
    recent.forget("A")
    recent.forget("A")
    assert recent.envelope("A") is None
    assert recent.octets("A") is None


def test_the_least_recently_used_goes_first():
    recent = Recent(30_000)
    recent.put(envelope("A"), bytes(10_000))
    recent.put(envelope("B"), bytes(10_000))
    assert recent.envelope("A")
    recent.put(envelope("C"), bytes(10_000))
    assert recent.envelope("B") is None
    assert recent.envelope("A")
    assert recent.envelope("C")


def test_it_never_holds_more_than_its_limit():
    recent = Recent(50_000)
    for number in range(100):
        recent.put(envelope(str(number)), bytes(number * 700))
        assert recent._size <= 50_000
    recent.put(envelope("huge"), bytes(60_000))
    assert recent.envelope("huge") is None


def test_putting_again_replaces():
    recent = Recent(50_000)
    for _ in range(100):
        recent.put(envelope("A"), bytes(1000))
    assert recent._size == 3000

import pytest

from mailserver.domains.hops import parse_hop, parse_lmtp, parse_reroute, spell_hop
from mailserver.model.exchanger import NextHop

HOSTS = [
    ("mx.Example.org", NextHop("mx.example.org")),
    ("mx.example.org:587", NextHop("mx.example.org", 587)),
    ("192.0.2.1:2525", NextHop("192.0.2.1", 2525)),
    ("2001:db8::1", NextHop("2001:db8::1")),
    ("[2001:db8::1]:26", NextHop("2001:db8::1", 26)),
    ("[2001:db8::1]", NextHop("2001:db8::1")),
    ("smtps://mx.example.org", NextHop("mx.example.org", 465, wrapped=True)),
    ("smtps://[2001:db8::1]:1465", NextHop("2001:db8::1", 1465, wrapped=True)),
]


@pytest.mark.parametrize(("text", "hop"), HOSTS)
def test_hosts(text: str, hop: NextHop) -> None:
    assert parse_hop(text) == parse_reroute(text) == hop


@pytest.mark.parametrize("hop", [*(hop for _, hop in HOSTS), NextHop("/run/lmtp", 0)])
def test_what_is_spelled_is_read_as_the_same(hop: NextHop) -> None:
    assert parse_reroute(spell_hop(hop)) == hop


def test_where_lmtp_is_spoken() -> None:
    assert parse_lmtp("unix:/run/dovecot/lmtp") == parse_reroute("unix:/run/dovecot/lmtp")
    assert parse_lmtp("unix:/run/dovecot/lmtp") == NextHop("/run/dovecot/lmtp", 0)
    assert parse_lmtp("MDA.example") == NextHop("mda.example", 24)
    assert parse_lmtp("[::1]:2424") == NextHop("::1", 2424)


@pytest.mark.parametrize(
    "text",
    ["", "mx:0", "mx.example.org:99999", "mx.example.org:x", "192.0.2.300", "a b", "smtps://", "unix:lmtp"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_reroute(text)
    with pytest.raises(ValueError, match=r".+"):
        parse_hop(text)


@pytest.mark.parametrize("value", ["unix:lmtp", "unix:/" + "x" * 107, "mda:0", 24])
def test_where_no_lmtp_is_spoken(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_lmtp(value)


def test_smtp_is_not_spoken_on_a_socket() -> None:
    with pytest.raises(ValueError, match="port"):
        parse_hop("unix:/run/smtp")

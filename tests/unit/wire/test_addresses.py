"""The address grammar: one meaning for one mailbox, and a refusal for all that is none."""

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.wire.addresses import parse_address, parse_domain, parse_forward_path, parse_reverse_path
from mailserver.wire.syntax import BadSyntax

D63 = "d" * 63


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.lan", "alice", "example.lan"),
        ("Alice@EXAMPLE.lan", "Alice", "example.lan"),
        ("a.b+tag@host", "a.b+tag", "host"),
        ("user%other.example@relay.example", "user%other.example", "relay.example"),
        ("host!user@relay.example", "host!user", "relay.example"),
        ("!#$%&'*+-/=?^_`{|}~@d", "!#$%&'*+-/=?^_`{|}~", "d"),
        ('"a b"@d', "a b", "d"),
        ('"alice"@d', "alice", "d"),
        ('"a@b"@d', "a@b", "d"),
        (r'"a\"\\\b"@d', 'a"\\b', "d"),
        ('".."@d', "..", "d"),
        ("müller@example.lan", "müller", "example.lan"),
        ('"mü ller"@example.lan', "mü ller", "example.lan"),
        ("a@MÜNCHEN.example", "a", "xn--mnchen-3ya.example"),
        ("a@bücher。example", "a", "xn--bcher-kva.example"),
        ("a@faß.example", "a", "xn--fa-hia.example"),
        ("a@_dmarc.my_host.example", "a", "_dmarc.my_host.example"),
        ("a@1.2.3.4", "a", "1.2.3.4"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:DB8:0:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@[ipv6:::1]", "a", "[IPv6:::1]"),
        ("l" * 64 + "@d", "l" * 64, "d"),
        ('"' + "l" * 62 + '"@d', "l" * 62, "d"),
        (f"a@{D63}.{D63}.{D63}.{'d' * 60}", "a", f"{D63}.{D63}.{D63}.{'d' * 60}"),
    ],
)
def test_addresses(text: str, local: str, domain: str) -> None:
    address = parse_address(text)
    assert address == Address(local, domain)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "alice",
        "postmaster",
        "alice@",
        "@example.lan",
        "a@b@c",
        ".a@d",
        "a.@d",
        "a..b@d",
        "a b@d",
        " a@d",
        "a@d ",
        "a,b@d",
        "a(b)@d",
        "a\0b@d",
        "a\x7fb@d",
        "a\x85b@d",
        "a\u2028b@d",
        'a"b"@d',
        '"a"b@d',
        '"a@d',
        '"a"',
        '""@d',
        '"a\nb"@d',
        '"a\\\nb"@d',
        '"a\\"@d',
        '"a"b"@d',
        "a@.",
        "a@d.",
        "a@.d",
        "a@d..e",
        "a@-d",
        "a@d-",
        "a@d e",
        "a@d!",
        "a@d\n",
        "a@" + "d" * 64,
        "a@-ü.example",
        "a@ü。",
        "a@ü..example",
        "a@\u2028ü",
        "a@x\ud800.example",
        "\ud800@example",
        "a@[]",
        "a@[192.0.2.1",
        "a@[192.0.2.256]",
        "a@[192.0.2.01]",
        "a@[192.0.2.1].d",
        "a@[2001:db8::1]",
        "a@[IPv6:192.0.2.1]",
        "a@[IPv6:fe80::1%eth0]",
        "a@[tag:content]",
        "a@[١٩٢.0.2.1]",
        "l" * 65 + "@d",
        "ü" * 33 + "@d",
        '"' + "l" * 63 + '"@d',
        "a@" + "d." * 126 + "d",
        "a@" + "d." * 127 + "dd",
        "a@" + "ü." * 60 + "d",
        "l" * 20 + "@" + "ü." * 29 + "ü",
        "x" * 1_000_000,
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(BadSyntax):
        parse_address(text)


def test_a_domain_that_only_its_a_labels_make_too_long() -> None:
    with pytest.raises(BadSyntax):
        parse_domain(".".join(["ü" * 10 + "d"] * 14))


def test_a_domain_too_long() -> None:
    parse_domain("d." * 127 + "d")
    with pytest.raises(BadSyntax):
        parse_domain("d." * 127 + "dd")


def test_bare_postmaster_where_it_is_asked_for() -> None:
    assert parse_address("Postmaster", bare=True) == Address("Postmaster", "")
    with pytest.raises(BadSyntax):
        parse_address("alice", bare=True)


def test_no_text_of_the_peer_in_what_is_said() -> None:
    with pytest.raises(BadSyntax) as caught:
        parse_address("evil\x1b[2J@d")
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<a@d>", Address("a", "d")),
        ("<@one.example:a@d>", Address("a", "d")),
        ("<@one.example,@two.example:a@d>", Address("a", "d")),
        ('<@one.example:"a:b"@d>', Address("a:b", "d")),
        ("<@one.example:a@[IPv6:::1]>", Address("a", "[IPv6:::1]")),
    ],
)
def test_paths(path: str, address: Address) -> None:
    assert parse_reverse_path(path) == address
    assert parse_forward_path(path) == address


@pytest.mark.parametrize(
    "path",
    [
        "",
        "<",
        ">",
        "< >",
        "a@d",
        "<a@d",
        "a@d>",
        "<<a@d>>",
        "<@one.example>",
        "<@one.example a@d>",
        "<@:a@d>",
        "<@one.example,:a@d>",
        "<@one.example,two.example:a@d>",
        "<@-.example:a@d>",
        "<@[192.0.2.1:a@d>",
        "<alice>",
        "<a@" + "d." * 126 + "dd>",
        "<@" + "r" * 63 + "." + "r" * 63 + "," + "@r" * 60 + ":a@d>",
        "<" + "@a," * 300_000 + "a@d>",
    ],
)
def test_no_paths(path: str) -> None:
    for parse in (parse_reverse_path, parse_forward_path):
        with pytest.raises(BadSyntax):
            parse(path)


def test_the_null_sender_is_a_sender_only() -> None:
    assert parse_reverse_path("<>") == NULL_SENDER
    with pytest.raises(BadSyntax):
        parse_forward_path("<>")


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
def test_bare_postmaster_is_a_recipient_only(name: str) -> None:
    assert parse_forward_path(f"<{name}>") == Address(name, "")
    with pytest.raises(BadSyntax):
        parse_reverse_path(f"<{name}>")

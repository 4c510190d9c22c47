"""The [[network]], [rates] and [smtp] tables: as values, and every mistake with its line."""

from pathlib import Path

import pytest

from mailserver.access.networks import Networks
from mailserver.access.profiles import Allowance, Over, Profile, Relay, Require
from mailserver.access.rates import RateRules
from mailserver.config.reading import ConfigErrors, load
from mailserver.model.source import Source

HEAD = 'hostname = "mail.example.lan"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "domains").mkdir()
    return tmp_path / "mailserver.toml"


def errors_of(path: Path, text: str) -> list[str]:
    path.write_text(HEAD + text)
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    return [str(problem) for problem in caught.value.problems if problem.fatal]


def test_all_keys(path: Path) -> None:
    path.write_text(
        HEAD
        + """
[[network]]
name = "printers"
cidrs = ["10.0.0.0/8", "fd00::/8"]
owner = "the office"
relay = "listed"
senders = ["Copier@Example.LAN", "@bücher.example"]
recipients = ["x@y.example"]
domains = ["TAX.example"]
require = "tls"
message_size = "1MB"
recipients_per_message = 5
messages_per_hour = 60
recipients_per_hour = 100
over = "hold"
plaintext_login = true
tls_minimum = "1.0"
sloppy = true

[rates]
user_messages = 1
user_recipients = 2
user_over = "refuse"
address_messages = 3
first_time_recipients = 4

[smtp]
greeting_delay = "5s"

[limits]
unknown_recipients = 7
connections = 8
connections_per_address = 9
"""
    )
    config = load(path)
    source = Source("mailserver.toml", 3)
    printers = Profile(
        "printers",
        "the office",
        Relay.LISTED,
        frozenset({"copier@example.lan", "@xn--bcher-kva.example"}),
        frozenset({"x@y.example"}),
        frozenset({"tax.example"}),
        Require.TLS,
        2**20,
        5,
        Allowance(60, 100, Over.HOLD, source),
        True,
        "1.0",
        True,
        source,
    )
    networks = Networks(config.profiles)
    assert networks.match("10.1.2.3") == printers
    assert networks.match("fd00::7") == printers
    loopback = networks.match("127.0.0.1")
    assert loopback is not None
    assert loopback.relay is Relay.ANYWHERE
    rates = Source("mailserver.toml", 21)
    assert config.rates == RateRules(
        Allowance(1, 2, Over.REFUSE, rates), Allowance(3, 0, Over.DELAY, rates), 4, rates
    )
    assert config.greeting_delay == 5
    limits = config.limits
    assert (limits.unknown_recipients, limits.connections, limits.connections_per_address) == (7, 8, 9)
    assert [str(it) for it in config.problems if "tls_minimum" in it.key] == [
        "mailserver.toml:18: network[0].tls_minimum: old TLS is no protection (RFC 8996)"
    ]


def test_defaults(path: Path) -> None:
    path.write_text(HEAD + '[[network]]\nname = "lan"\ncidrs = ["10.0.0.0/8"]\n')
    config = load(path)
    source = Source("mailserver.toml", 2)
    lan = Profile("lan", allowance=Allowance(source=source), source=source)
    assert Networks(config.profiles).match("10.0.0.1") == lan
    assert lan.relay is Relay.LOCAL
    assert config.rates.first_time == 200
    assert config.greeting_delay == 0
    assert (config.limits.connections, config.limits.connections_per_address) == (10_000, 100)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('cidrs = ["10.0.0.0/8"]', "2: network[0].name: is missing"),
        ('name = "x"', "2: network[0].cidrs: is missing"),
        ('name = "x"\ncidrs = []', "4: network[0].cidrs: names no network"),
        (
            'name = "x"\ncidrs = [\n"10.0.0.0/8",\n"10.0.0.1/8"]',
            '6: network[0].cidrs[1]: "10.0.0.1/8" is an address in a network; the network is "10.0.0.0/8"',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\nrelay = "all"',
            "5: network[0].relay: \"all\" is not one of 'anywhere', 'local' or 'listed'",
        ),
        (
            'name = "x"\ncidrs = ["::1"]\nrelay = "listed"',
            '5: network[0].relay: "listed", and nothing is: give senders, recipients or domains',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\nrelay = "listed"\nsenders = ["nobody"]',
            '6: network[0].senders[0]: "nobody" is not an address',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\nsenders = [7]',
            '5: network[0].senders[0]: 7 is not an address, nor "@" and a domain',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\ndomains = ["[::1]"]',
            '5: network[0].domains[0]: "[::1]" is not a domain',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\n[[network]]\nname = "x"\ncidrs = ["::2"]',
            '6: network[1].name: "x" is the name of the network of line 3',
        ),
        (
            'name = "x"\ncidrs = ["::1"]\n[[network]]\nname = "y"\ncidrs = ["::1"]',
            '7: network[1].cidrs: "::1/128" stands in line 4 already',
        ),
        ('name = "x"\ncidrs = ["::1"]\nsloppy = "yes"', "5: network[0].sloppy: must be true or false"),
        (
            'name = "x"\ncidrs = ["::1"]\nrely = "local"',
            '5: network[0].rely: unknown key, did you mean "relay"?',
        ),
    ],
)
def test_mistakes(path: Path, text: str, error: str) -> None:
    found = errors_of(path, "[[network]]\n" + text)
    assert len(found) == 1
    assert found[0].startswith(f"mailserver.toml:{error}")


def test_too_long_a_greeting_delay(path: Path) -> None:
    (error,) = errors_of(path, '[smtp]\ngreeting_delay = "2m"\n')
    assert error.startswith("mailserver.toml:3: smtp.greeting_delay: ")


def test_lists_without_effect_are_warned_of(path: Path) -> None:
    path.write_text(HEAD + '[[network]]\nname = "x"\ncidrs = ["::2"]\nsenders = ["x@y.example"]\n')
    said = [str(problem) for problem in load(path).problems if "senders" in problem.key]
    assert said == ['mailserver.toml:5: network[0].senders: has no effect without relay = "listed"']

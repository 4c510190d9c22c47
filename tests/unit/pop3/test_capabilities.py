"""CAPA in each state, with and without TLS (RFC 2449 §5; RFC 2595 §4; RFC 5034 §3; RFC 6856)."""

import pytest

from mailserver.pop3.capabilities import Abilities, capability_lines

ALWAYS = [
    "TOP",
    "UIDL",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "EXPIRE NEVER",
    "UTF8 USER",
    "LANG",
    "IMPLEMENTATION mailserver",
]


@pytest.mark.parametrize(
    ("tls", "login", "delay", "more"),
    [
        (False, False, 0, []),
        (True, False, 0, ["STLS"]),
        (False, True, 0, ["USER", "SASL SCRAM-SHA-256 PLAIN"]),
        (True, True, 0, ["USER", "SASL SCRAM-SHA-256 PLAIN", "STLS"]),
        (False, True, 0.5, ["LOGIN-DELAY 1", "USER", "SASL SCRAM-SHA-256 PLAIN"]),
        (False, False, 90, ["LOGIN-DELAY 90"]),
    ],
)
def test_table(tls: bool, login: bool, delay: float, more: list[str]) -> None:
    lines = capability_lines(Abilities(tls, login, ["SCRAM-SHA-256", "PLAIN"], delay))
    assert lines == [*ALWAYS[:-1], *more, ALWAYS[-1]]

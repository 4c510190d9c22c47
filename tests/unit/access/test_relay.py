"""Who may send what to whom, as a table."""

import pytest

from mailserver.access.relay import may_send, refusal
from mailserver.interfaces import Account, Forward, Nobody, NotHosted, Standing
from mailserver.model.address import Address
from mailserver.model.reply import NO_SUCH_USER_550, RELAYING_DENIED_550
from mailserver.model.source import BUILT_IN, Source

LAN = Source("mailserver.toml", 17)
USERS = Source("domains/example.lan/users", 3)
ALIASES = Source("domains/example.lan/aliases", 4)
DOMAIN = Source("domains/example.lan")

BOB = Address("bob", "example.lan")
FRIEND = Address("friend", "elsewhere.example")

HERE = Account("bob@example.lan", source=USERS)
ALIAS = Forward((FRIEND,), ALIASES)
UNKNOWN = Nobody(DOMAIN)
ELSEWHERE = NotHosted()


@pytest.mark.parametrize(
    ("relay", "login", "standing", "recipient", "allowed", "rule"),
    [
        (None, "", HERE, BOB, True, USERS),
        (LAN, "", HERE, BOB, True, USERS),
        (None, "", ALIAS, BOB, True, ALIASES),
        (None, "", UNKNOWN, BOB, False, DOMAIN),
        (LAN, "", UNKNOWN, BOB, False, DOMAIN),
        (None, "alice@example.lan", UNKNOWN, BOB, False, DOMAIN),
        (None, "", ELSEWHERE, FRIEND, False, BUILT_IN),
        (LAN, "", ELSEWHERE, FRIEND, True, LAN),
        (None, "alice@example.lan", ELSEWHERE, FRIEND, True, BUILT_IN),
        (None, "", ELSEWHERE, Address("friend", "[192.0.2.1]"), False, BUILT_IN),
    ],
)
def test_may_send(
    relay: Source | None, login: str, standing: Standing, recipient: Address, allowed: bool, rule: Source
) -> None:
    verdict = may_send(relay, login, standing, recipient)
    assert (verdict.allowed, verdict.source) == (allowed, rule)
    assert verdict.reason


def test_reason_names_the_recipient_in_question() -> None:
    assert "bob@example.lan" in may_send(None, "", UNKNOWN, BOB).reason
    assert "elsewhere.example" in may_send(None, "", ELSEWHERE, FRIEND).reason


def test_refusal() -> None:
    assert refusal(UNKNOWN) == NO_SUCH_USER_550
    assert refusal(ELSEWHERE) == RELAYING_DENIED_550

"""Who may send what to whom, as a table."""

import pytest

from mailserver.access.profiles import Profile, Relay
from mailserver.access.relay import may_send, refusal
from mailserver.interfaces import Account, Forward, Nobody, NotHosted, Relayed, Standing
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.reply import MAILBOX_DISABLED_550, NO_SUCH_USER_550, RELAYING_DENIED_550
from mailserver.model.source import BUILT_IN, Source

LAN = Source("mailserver.toml", 17)
NETWORK = Profile("lan", relay=Relay.ANYWHERE, source=LAN)
USERS = Source("domains/example.lan/users", 3)
ALIASES = Source("domains/example.lan/aliases", 4)
DOMAIN = Source("domains/example.lan")
ROUTE = Source("mailserver.toml", 71)

BOB = Address("bob", "example.lan")
FRIEND = Address("friend", "elsewhere.example")

HERE = Account("bob@example.lan", source=USERS)
ALIAS = Forward((FRIEND,), ALIASES)
DISABLED = Account("bob@example.lan", source=USERS, disabled=True)
UNKNOWN = Nobody(DOMAIN)
ELSEWHERE = NotHosted()


@pytest.mark.parametrize(
    ("relay", "login", "standing", "recipient", "allowed", "rule"),
    [
        (None, "", HERE, BOB, True, USERS),
        (NETWORK, "", HERE, BOB, True, USERS),
        (None, "", ALIAS, BOB, True, ALIASES),
        (None, "", DISABLED, BOB, False, USERS),
        (NETWORK, "alice@example.lan", DISABLED, BOB, False, USERS),
        (None, "", UNKNOWN, BOB, False, DOMAIN),
        (NETWORK, "", UNKNOWN, BOB, False, DOMAIN),
        (None, "alice@example.lan", UNKNOWN, BOB, False, DOMAIN),
        (None, "", ELSEWHERE, FRIEND, False, BUILT_IN),
        (NETWORK, "", ELSEWHERE, FRIEND, True, LAN),
        (None, "alice@example.lan", ELSEWHERE, FRIEND, True, BUILT_IN),
        (None, "", ELSEWHERE, Address("friend", "[192.0.2.1]"), False, BUILT_IN),
        (None, "", Relayed(ROUTE), FRIEND, True, ROUTE),
        (NETWORK, "", Relayed(ROUTE), FRIEND, True, ROUTE),
        (None, "", Relayed(ROUTE, known=False), FRIEND, False, ROUTE),
        (NETWORK, "", Relayed(ROUTE, known=False), FRIEND, False, ROUTE),
        (None, "alice@example.lan", Relayed(ROUTE, known=False), FRIEND, False, ROUTE),
    ],
)
def test_may_send(
    relay: Profile | None, login: str, standing: Standing, recipient: Address, allowed: bool, rule: Source
) -> None:
    verdict = may_send(relay, login, standing, recipient)
    assert (verdict.allowed, verdict.source) == (allowed, rule)
    assert verdict.reason


def test_reason_names_the_recipient_in_question() -> None:
    assert "bob@example.lan" in may_send(None, "", UNKNOWN, BOB).reason
    assert "elsewhere.example" in may_send(None, "", ELSEWHERE, FRIEND).reason


@pytest.mark.parametrize(("sender", "allowed"), [(NULL_SENDER, True), (FRIEND, False)])
def test_the_way_back_to_a_sender_takes_reports_only(sender: Address, allowed: bool) -> None:
    way_back = Forward((FRIEND,), BUILT_IN, reports_only=True)
    for profile, login in ((None, ""), (NETWORK, ""), (None, "alice@example.lan")):
        assert may_send(profile, login, way_back, BOB, sender).allowed is allowed
    assert refusal(way_back) == NO_SUCH_USER_550


def test_refusal() -> None:
    assert refusal(DISABLED) == MAILBOX_DISABLED_550
    assert refusal(UNKNOWN) == NO_SUCH_USER_550
    assert refusal(Relayed(ROUTE, known=False)) == NO_SUCH_USER_550
    assert refusal(ELSEWHERE) == RELAYING_DENIED_550

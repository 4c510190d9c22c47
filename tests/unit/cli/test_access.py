"""``mailctl access``: what it prints. That it reaches a server is for ``tests/functional``."""

import pytest

from mailserver.cli import access
from mailserver.control.client import NoServer


@pytest.fixture
def answer(monkeypatch):
    """Answers instead of a server; what was asked is in the list."""
    asked = []

    def prepare(result):
        def ask(path, verb, request):
            asked.append((path.name, verb, request))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(access, "ask", ask)
        return asked

    return prepare


def test_list(mailctl, answer):
    asked = answer(
        [
            {"client": "192.0.2.1", "account": "alice@a.example", "seconds": 59.6},
            {"client": "2001:db8::/64", "account": "", "seconds": 3},
            {"client": "192.0.2.2", "account": "\x1b[2Jx\n", "seconds": 3},
        ]
    )
    assert mailctl("access", "list") == (
        "192.0.2.1      alice@a.example  60 s left\n"
        "2001:db8::/64  (all accounts)  3 s left\n"
        "192.0.2.2      ?[2Jx?  3 s left\n"
    )
    assert asked == [("control", "access.list", {})]


def test_nobody(mailctl, answer):
    answer([])
    assert mailctl("access", "list") == "nobody is locked out\n"


@pytest.mark.parametrize(("locks", "said"), [(0, "0 locks"), (1, "1 lock"), (2, "2 locks")])
def test_lift(mailctl, answer, locks, said):
    asked = answer({"locks": locks})
    assert mailctl("access", "lift", "192.0.2.1") == f"lifted {said} of 192.0.2.1\n"
    assert asked == [("control", "access.lift", {"client": "192.0.2.1"})]


def test_lift_takes_what_the_list_shows(mailctl, answer):
    asked = answer({"locks": 1})
    mailctl("access", "lift", "2001:db8::/64")
    assert asked == [("control", "access.lift", {"client": "2001:db8::"})]


@pytest.mark.parametrize("what", ["alice@a.example", "192.0.2.0/24", "192.0.2"])
def test_what_is_no_client(mailctl, answer, what):
    asked = answer({"locks": 0})
    assert "is not a client's address" in mailctl("access", "lift", what, status=2)
    assert asked == []


def test_without_a_server(mailctl, answer):
    answer(NoServer("no server listens"))
    assert "no server listens" in mailctl("access", "list", status=1)

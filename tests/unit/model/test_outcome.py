"""The table of MX fallback, held against the one in the architecture."""

import pytest

from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope, another_host_may_help

TABLE = {
    Scope.HOST: (True, True),
    Scope.MESSAGE: (True, False),
    Scope.RECIPIENT: (True, False),
    Scope.DOUBT: (False, False),
}


@pytest.mark.parametrize("scope", Scope)
def test_troubles(scope: Scope) -> None:
    outcomes: tuple[Outcome, Outcome] = Delayed(scope, "x"), Failed(scope, "x")
    assert tuple(map(another_host_may_help, outcomes)) == TABLE[scope]


def test_delivered_is_delivered() -> None:
    assert not another_host_may_help(Delivered("ok"))


def test_status_of_what_says_none() -> None:
    assert Delivered("ok").status[0] == "2"
    assert Delayed(Scope.HOST, "x").status[0] == "4"
    assert Failed(Scope.HOST, "x").status[0] == "5"

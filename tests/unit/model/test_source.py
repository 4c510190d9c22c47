"""Where a rule stands, and what is wrong there."""

from mailserver.model.source import BUILT_IN, Problem, Source


def test_sources() -> None:
    assert str(Source("etc/mailserver.toml", 12)) == "etc/mailserver.toml:12"
    assert str(Source("etc/mailserver.toml")) == "etc/mailserver.toml"
    assert str(BUILT_IN) == "built-in"


def test_problems() -> None:
    assert (
        str(Problem(Source("f", 3), "relay.networks[2]", "no network"))
        == "f:3: relay.networks[2]: no network"
    )
    assert str(Problem(Source("f"), "", "unreadable")) == "f: unreadable"
    assert Problem(BUILT_IN, "", "").fatal

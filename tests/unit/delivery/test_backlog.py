"""Where older mail may wait."""

from mailserver.delivery.backlog import Backlog


def test_it_may_be_anywhere_until_somebody_has_looked():
    backlog = Backlog()
    assert backlog
    assert "x.example" in backlog
    backlog.look()
    assert "x.example" in backlog, "not before the answer"
    backlog.looked(["y.example"])
    assert "x.example" not in backlog
    assert "y.example" in backlog
    backlog.look()
    assert "y.example" in backlog
    backlog.looked([])
    assert not backlog
    assert "y.example" not in backlog


def test_what_is_given_back_is_there_until_a_look_that_began_later():
    backlog = Backlog()
    backlog.look()
    backlog.looked([])
    backlog.add("x.example")
    assert backlog
    backlog.look()
    backlog.add("y.example")
    backlog.looked([])
    assert "x.example" not in backlog
    assert "y.example" in backlog
    backlog.look()
    backlog.add("y.example")
    backlog.looked([])
    assert "y.example" in backlog, "given back again meanwhile"


def test_after_trouble_nothing_is_known():
    backlog = Backlog()
    backlog.look()
    backlog.looked([])
    backlog.look()
    backlog.lose()
    assert "x.example" in backlog
    backlog.look()
    backlog.looked([])
    assert not backlog

"""What is known of destinations in trouble."""

import pytest

from mailserver.delivery.destinations import Destinations, went_well
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope

SILENT = Delayed(Scope.HOST, "no connection", "4.4.1", "mx")
GREY = Delayed(Scope.RECIPIENT, "450 later", "4.2.0", "mx", 450)


@pytest.mark.parametrize(
    ("outcomes", "well"),
    [
        ([], None),
        ([Delivered("250 ok", host="mx")], True),
        ([SILENT, SILENT], False),
        ([SILENT, GREY], True),
        ([Delayed(Scope.HOST, "421", "4.3.2", "mx", 421)], False),
        ([Failed(Scope.RECIPIENT, "550", "5.1.1", "mx", 550)], True),
        ([Delayed(Scope.DOUBT, "lost", "4.4.2", "mx")], True),
        ([Delayed(Scope.HOST, "interrupted", "4.3.2")], None),
        ([Delayed(Scope.MESSAGE, "cannot be read", "4.3.0")], None),
    ],
)
def test_whether_somebody_spoke(outcomes, well):
    assert went_well(dict(enumerate(outcomes))) is well


def test_rests_until_its_mail_is_due_but_for_five_minutes_at_most():
    now = [0.0]
    destinations = Destinations(lambda: now[0])
    destinations.failed("a.example", "no connection", 60.0)
    destinations.failed("b.example", "no connection", 7200.0)
    assert destinations.resting() == {"a.example", "b.example"}
    assert destinations.trouble("a.example").error == "no connection"
    now[0] = 60.0
    assert destinations.resting() == {"b.example"}
    now[0] = 300.0
    assert destinations.resting() == frozenset()
    assert destinations.recovered("a.example")
    assert not destinations.recovered("a.example")
    assert destinations.trouble("a.example") is None


def test_woken_by_the_administrator():
    destinations = Destinations(lambda: 0.0)
    destinations.failed("a.example", "x", 60.0)
    destinations.wake()
    assert destinations.resting() == frozenset()
    assert destinations.recovered("a.example")


def test_told_to_people():
    now = [100.0]
    destinations = Destinations(lambda: now[0])
    destinations.failed("a.example", "no connection", 60.0)
    now[0] = 200.0
    destinations.failed("a.example", "still none", 60.0)
    now[0] = 230.0
    assert destinations.told() == [
        {"domain": "a.example", "error": "still none", "rests": 30.0, "lasts": 130.0}
    ]
    destinations.wake()
    assert destinations.told()[0]["rests"] == 0.0


def test_bounded():
    destinations = Destinations(lambda: 0.0, most=2)
    for name in "abc":
        destinations.failed(name, "x", 60.0)
    assert destinations.resting() == {"b", "c"}

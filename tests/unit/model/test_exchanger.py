"""Mail hosts."""

from mailserver.model.exchanger import MX, Exchanger


def test_the_lower_preference_comes_first() -> None:
    assert sorted([MX(20, "a"), MX(10, "b"), MX(9, "c")]) == [MX(9, "c"), MX(10, "b"), MX(20, "a")]


def test_an_exchanger_names_host_address_and_port() -> None:
    assert str(Exchanger("mx.example", "192.0.2.1", 25, 10)) == "mx.example[192.0.2.1]:25"

"""The table of replies: the number in the name, the class in the status, and nothing unprintable."""

import pytest

from mailserver.model import reply as table
from mailserver.model.reply import Reply

NAMED = {name: value for name, value in vars(table).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", NAMED)
def test_the_number_stands_in_the_name(name: str) -> None:
    assert name.endswith(f"_{NAMED[name].code}")
    assert name == name.upper()


@pytest.mark.parametrize("name", NAMED)
def test_the_status_is_of_the_class_of_the_code(name: str) -> None:
    reply = NAMED[name]
    if reply.code == 354:
        assert reply.status == ""  # RFC 2034 §4
    else:
        assert reply.status.split(".")[0] == str(reply.code)[0]
        assert len(reply.status.split(".")) == 3


@pytest.mark.parametrize("name", NAMED)
def test_texts_are_for_strangers(name: str) -> None:
    text = NAMED[name].text
    assert text
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 100


def test_there_is_a_table() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(
    ("code", "positive", "transient"),
    [(250, True, False), (354, True, False), (421, False, True), (499, False, True), (500, False, False)],
)
def test_classes(code: int, positive: bool, transient: bool) -> None:
    reply = Reply(code, "", "")
    assert (reply.is_positive, reply.is_transient) == (positive, transient)


def test_saying() -> None:
    assert table.OK_250.saying("queued") == Reply(250, "2.0.0", "queued")
    assert table.OK_250.text == "Ok"

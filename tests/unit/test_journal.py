"""Nobody writes a line of their own: what holds anything but printable ASCII without blanks is quoted."""

from collections.abc import Iterator
from enum import IntEnum

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from mailserver import journal


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ("x", "x"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b', '"a\\"b"'),
        ("back\\slash", '"back\\\\slash"'),
        ("a\nlogin", '"a\\nlogin"'),
        ("\n", '"\\n"'),
        ("a\r\nb", '"a\\r\\nb"'),
        ("\x1b[2J", '"\\x1b[2J"'),
        ("jörg", '"j\\xf6rg"'),
        ("x" * 500, "x" * 500),
        ("x" * 501, '"' + "x" * 500 + '\\u2026"'),
    ],
)
def test_values(events: list[LogEvent], value: str, spelled: str) -> None:
    journal.steered("hold", value, 2, "detail")
    journal.steered("hold", "1B2", 2, value)
    first, second = (event["mail_line"] for event in events)
    assert first == f"steered order=hold id={spelled if value else '-'} recipients=2 detail=detail"
    assert second == f"steered order=hold id=1B2 recipients=2 detail={spelled}"
    assert events[1]["mail_fields"] == {"order": "hold", "id": "1B2", "recipients": 2, "detail": value}


def test_what_is_no_text_is_spelled_as_text(events: list[LogEvent]) -> None:
    journal.trouble("x", "y", number=7, yes=True, kind=_Kind.ONE, what_else=None)
    (event,) = events
    assert event["mail_line"] == 'trouble where=x what=y number=7 yes=True kind="the first" what_else=None'


class _Kind(IntEnum):
    ONE = 1

    def __str__(self) -> str:
        return "the first"


def test_no_exception_is_kept(events: list[LogEvent]) -> None:
    journal.trouble("disk", OSError("it is full"), id="1B2")
    journal.warned("disk", ValueError("it is old"))
    journal.refused_configuration("mailserver.toml", [ValueError("line 3")])
    assert [event["mail_fields"]["what"] for event in events] == [
        "it is full",
        "it is old",
        "line 3",
        "mailserver.toml refused; the old configuration stays",
    ]

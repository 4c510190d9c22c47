"""What a worker says is in its parent's log as if the parent had said it."""

import marshal
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogPublisher

from mailserver import journal
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, QueueID
from mailserver.model.source import Source
from mailserver.spool.story import Story
from mailserver.workers.channel import Channel
from mailserver.workers.log import Sender, heard, tell_stories


class Said(Channel):
    def __init__(self) -> None:
        super().__init__(Clock())
        self.said: list[tuple[str, Any]] = []
        self.slow = False
        self.urgent = 0
        """Of what was said, how much may not wait."""

    @property
    def is_slow(self) -> bool:
        return self.slow

    def mention(self, kind: str, *facts: Any) -> None:
        self.said.append((kind, *facts))  # type: ignore[arg-type]

    def say(self, kind: str, *facts: Any) -> None:
        self.urgent += 1
        self.mention(kind, *facts)


@pytest.fixture
def observed() -> Any:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def carried(channel: Said, observed: list[Any]) -> Any:
    """The one event that was said, as the parent publishes it."""
    ((kind, *facts),) = channel.said
    channel.said.clear()
    observed.clear()
    heard()[kind](*marshal.loads(marshal.dumps(facts)))
    (event,) = observed
    return event


def test_fields_that_nobody_looks_at_stay_away(observed: list[Any]) -> None:
    journal.removed(QueueID("1"))
    journal.refused(Origin("192.0.2.7"), "RCPT <x@y>", "why", Source("mailserver.toml", 3), "550 5.7.1")
    removed, refused = observed
    channel = Said()
    sender = Sender(channel)
    sender.in_full = False
    sender(removed)
    assert carried(channel, observed)["mail_fields"] == {}
    sender(refused)
    assert carried(channel, observed)["mail_fields"]["what"] == "RCPT <x@y>"


def test_an_event_of_the_journal_keeps_its_fields_its_time_and_its_level(observed: list[Any]) -> None:
    journal.refused(Origin("192.0.2.7"), "RCPT <x@y>", "why", Source("mailserver.toml", 3), "550 5.7.1")
    (event,) = observed
    channel = Said()
    Sender(channel)(event)
    again = carried(channel, observed)
    for name in ("mail_line", "mail_event", "log_time", "log_level", "log_format", "log_namespace"):
        assert again[name] == event[name], name
    assert again["mail_fields"] == {name: str(it) for name, it in event["mail_fields"].items()}


def test_of_anything_else_warnings_are_kept_as_text_with_their_traceback(observed: list[Any]) -> None:
    log = Logger(namespace="elsewhere")
    log.info("a port opens")
    log.warn("careful: {what}", what="steps")
    try:
        raise ValueError("of a bug")
    except ValueError:
        log.failure("it broke")
    channel = Said()
    for event in list(observed):
        Sender(channel)(event)
    texts = [told[-1] for told in channel.said]
    assert [told[2:4] for told in channel.said] == [("warn", "elsewhere"), ("critical", "elsewhere")]
    assert texts[0] == "careful: steps"
    assert "ValueError: of a bug" in texts[1]
    assert len(texts) == 2
    assert channel.urgent == 1  # the bug: who has it may be dead in a moment


def test_errors_of_the_journal_do_not_wait_either(observed: list[Any]) -> None:
    journal.removed(QueueID("1"))
    journal.trouble("disk", "it is full")
    channel = Said()
    for event in list(observed):
        Sender(channel)(event)
    assert len(channel.said) == 2
    assert channel.urgent == 1


def test_stories_may_wait() -> None:
    envelope = Envelope(QueueID("1"), NULL_SENDER, (), Origin(), 1.0)
    channel = Said()
    story = Story(envelope, "", (), (), 2.0)
    tell_stories(channel, [story])
    assert channel.said == [("finished", 2.0, story.facts())]
    assert not channel.urgent
    channel.slow = True
    tell_stories(channel, [story])
    assert len(channel.said) == 1


def test_what_comes_too_fast_is_left_out_and_counted(observed: list[Any]) -> None:
    for n in range(4):
        journal.removed(n)  # type: ignore[arg-type]
    channel = Said()
    sender = Sender(channel)
    globalLogPublisher.addObserver(sender)
    channel.slow = True
    sender(observed[0])
    sender(observed[1])
    channel.slow = False
    sender(observed[2])
    globalLogPublisher.removeObserver(sender)
    lines = [told[4] for told in channel.said]
    assert lines == [
        'trouble where=log what="2 events of a worker left out: they came too fast"',
        "removed id=2",
    ]

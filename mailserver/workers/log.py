"""One log for all processes: what a worker says is written by its parent.

The worker's end is an observer of Twisted's log; the parent's publishes the events anew, with the time at
which they happened. So a log that is rotated, a syslog and the history of mail see all processes alike. An
event of the journal keeps its fields; of anything else, what it says as text is kept, with its traceback.

While the parent does not keep up, events are left out and counted.
"""

from collections.abc import Iterable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogPublisher
from zope.interface import implementer

from mailserver import journal
from mailserver.spool.story import Story
from mailserver.workers.channel import Channel

__all__ = ["Sender", "publish", "tell_stories"]


@implementer(ILogObserver)
class Sender:
    """The worker's end. Below warnings, what is not the journal's is left out: ports that open and close."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._left_out = 0

    def __call__(self, event: LogEvent) -> None:
        if "mail_event" not in event and event.get("log_level", LogLevel.info) < LogLevel.warn:
            return
        if self._channel.is_slow:
            self._left_out += 1
            return
        if self._left_out:
            count, self._left_out = self._left_out, 0
            journal.trouble("log", f"{count} events of a worker left out: they came too fast")
        self._channel.say("log", _spell(event))


def _spell(event: LogEvent) -> dict[str, Any]:
    spelled = {
        "log_time": event["log_time"],
        "log_level": event.get("log_level", LogLevel.info).name,
        "log_namespace": event.get("log_namespace", ""),
    }
    kind = event.get("mail_event")
    if kind is None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        return {**spelled, "log_format": "{log_text}", "log_text": text}
    fields = {name: _plain(value) for name, value in event["mail_fields"].items()}
    return {
        **spelled,
        "log_format": event["log_format"],
        "mail_line": event["mail_line"],
        "mail_event": kind,
        "mail_fields": fields,
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float) else str(value)


def tell_stories(channel: Channel, stories: Iterable[Story]) -> None:
    """Have the parent put into the history what became of mail here."""
    for story in stories:
        if not channel.is_slow:  # as when the disk does not keep up: the mail matters more
            channel.say("finished", story.at, story.facts())


_logger = Logger()


def publish(event: dict[str, Any]) -> None:
    """The parent's end: have an event of a worker's in the log."""
    event["log_level"] = LogLevel.levelWithName(event["log_level"])
    event["log_logger"] = _logger
    event["log_source"] = None
    globalLogPublisher(event)

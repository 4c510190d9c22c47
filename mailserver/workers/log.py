"""One log for all processes: what a worker says is written by its parent.

The worker's end is an observer of Twisted's log; the parent's publishes the events anew, with the time at
which they happened. So a log that is rotated, a syslog and the history of mail see all processes alike. An
event of the journal keeps its fields where somebody looks at them: the history, or a log that is not ours. Of
anything else, what it says as text is kept, with its traceback.

What is no error waits some milliseconds for company; a worker that is killed takes that much with it. While
the parent does not keep up, events are left out and counted.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogPublisher
from zope.interface import implementer

from mailserver import journal
from mailserver.spool.history import KINDS
from mailserver.spool.story import Story
from mailserver.workers.channel import Channel

__all__ = ["Sender", "heard", "tell_stories"]


@implementer(ILogObserver)
class Sender:
    """The worker's end. Below warnings, what is not the journal's is left out: ports that open and close.

    :ivar in_full: whether the fields of every event are wanted, and not only those that history is made of.
    """

    def __init__(self, channel: Channel) -> None:
        self.in_full = True
        self._channel = channel
        self._left_out = 0

    def __call__(self, event: LogEvent) -> None:
        kind, level = event.get("mail_event"), event.get("log_level", LogLevel.info)
        if kind is None and level < LogLevel.warn:
            return
        if self._channel.is_slow:
            self._left_out += 1
            return
        if self._left_out:
            count, self._left_out = self._left_out, 0
            journal.trouble("log", f"{count} events of a worker left out: they came too fast")
        tell = self._channel.mention if level < LogLevel.error else self._channel.say
        if kind is None:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            tell("log", event["log_time"], level.name, event.get("log_namespace", ""), text)
            return
        told = {}
        if self.in_full or kind in KINDS:  # several come for each message: as little as will do
            told = {name: _plain(value) for name, value in event["mail_fields"].items()}
        tell("event", event["log_time"], level.name, kind, event["mail_line"], told)


_PLAIN = frozenset({str, int, float, bool})


def _plain(value: object) -> object:
    # Of subclasses, a channel knows nothing.
    return value if type(value) in _PLAIN else str(value)


def tell_stories(channel: Channel, stories: Iterable[Story]) -> None:
    """Have the parent put into the history what became of mail here."""
    for story in stories:
        if not channel.is_slow:  # as when the disk does not keep up: the mail matters more
            channel.mention("finished", story.at, story.facts())


_logger = Logger()


_LEVELS = {level.name: level for level in LogLevel.iterconstants()}


def heard() -> dict[str, Callable[..., None]]:
    """The parent's end: what a worker's messages are for."""
    return {"log": _publish_text, "event": _publish_event}


def _publish_text(time: float, level: str, namespace: str, text: str) -> None:
    _publish(time, level, namespace, {"log_format": "{log_text}", "log_text": text})


def _publish_event(time: float, level: str, kind: str, line: str, fields: dict[str, Any]) -> None:
    told = {"log_format": "{mail_line}", "mail_line": line, "mail_event": kind, "mail_fields": fields}
    _publish(time, level, journal.NAMESPACE, told)


def _publish(time: float, level: str, namespace: str, event: LogEvent) -> None:
    event["log_time"] = time
    event["log_level"] = _LEVELS[level]
    event["log_namespace"] = namespace
    event["log_logger"] = _logger
    event["log_source"] = None
    globalLogPublisher(event)

"""Where the log goes: the file or the stream that twistd's options name, several lines in one write.

The lines are those that Twisted writes (``2026-11-23T17:42:05+0000 [mail#info] accepted id=…``), and so are
the places: standard output under ``twistd -n``, otherwise ``twistd.log`` or what ``--logfile`` says, rotated
as twistd does it and on SIGUSR1. Where twistd is told of another log (``--logger``, ``--syslog``), it makes
that one, and nothing here is used.

Each message that is accepted and delivered makes several lines; formatted and written one by one, they would
cost more than the message. So between :meth:`Log.begin` and :meth:`Log.end` lines wait for up to 50
milliseconds; a warning, and whatever is worse, is written at once with all that waits before it, and so is
what a thread says. A stop in order loses nothing. A process that is killed loses the lines of its last 50
milliseconds: the log tells of mail, and is never the place where mail is kept.
"""

import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEventAsClassicLogText, formatTime
from twisted.python.logfile import LogFile
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

__all__ = ["Log", "log_of"]

_PATIENCE = 0.05
_CAN_WAIT = frozenset({LogLevel.debug, LogLevel.info})

Later = Callable[[float, Callable[[], None]], object]
"""``reactor.callLater``."""

CallFromThread = Callable[[Callable[[], object]], object]
"""``reactor.callFromThread``."""


class Writable(Protocol):
    """A file for text."""

    def write(self, text: str, /) -> object:
        """Append."""

    def flush(self) -> object:
        """Hand all to the kernel."""


@implementer(ILogObserver)
class Log:
    """Twisted's log as lines in a file."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self._later: Later | None = None
        self._waiting: deque[str] = deque()
        self._is_due = False
        self._second = -1
        self._stamp = ""

    def begin(self, later: Later) -> None:
        """The reactor runs: from now on lines may wait."""
        self._later = later

    def end(self) -> None:
        """The reactor is about to stop: write what waits, and what comes from now on at once."""
        self._later = None
        self.flush()

    def __call__(self, event: LogEvent) -> None:
        """Write an event, now or soon; whichever thread it comes from."""
        line = event.get("mail_line")
        if line is None:
            text = formatEventAsClassicLogText(event, self._time)
            if not text:
                return
        else:
            # The journal's own: one line already, and nothing left to format.
            text = f"{self._time(event['log_time'])} [mail#{event['log_level'].name}] {line}\n"
        self._waiting.append(text)
        if self._later is None or event.get("log_level") not in _CAN_WAIT:
            self.flush()
        elif not self._is_due:
            self._be_due(self._later)

    def flush(self) -> None:
        """Write what waits."""
        self._is_due = False
        lines = []
        # Threads, and signals that come in the midst of this, may be here at the same time: no line is
        # written twice, for each is taken by one of them.
        with suppress(IndexError):
            while True:
                lines.append(self._waiting.popleft())
        if lines:
            self._file.write("".join(lines))
            self._file.flush()

    def _be_due(self, later: Later) -> None:
        if isInIOThread():
            self._is_due = True
            later(_PATIENCE, self.flush)
        else:
            self.flush()

    def _time(self, when: float | None) -> str:
        if when is None:
            return formatTime(None)
        second = int(when)
        if second != self._second:
            self._stamp = formatTime(when)
            self._second = second
        return self._stamp


def log_of(twistd: Mapping[str, Any], call_from_thread: CallFromThread) -> Log | None:
    """The log that twistd's own options ask for; ``None`` where they ask for one of another kind.

    Opens the file, which SIGUSR1 rotates.
    """
    name, in_foreground = twistd.get("logfile") or "", bool(twistd.get("nodaemon"))
    if twistd.get("logger") or twistd.get("syslog") or (name == "-" and not in_foreground):
        return None
    if name == "-" or (in_foreground and not name):
        return Log(sys.stdout)
    file = LogFile.fromFullPath(name or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: call_from_thread(file.rotate))
    return Log(file)

"""Runs one program with a message on its standard input, and waits for its end.

The program runs in a session and process group of its own, in ``/``, with the environment it is given and
nothing else, without a shell; as another user where one is named, which takes root. It reads the message with
Unix line ends, no faster than the disk brings it.
The beginning of what it prints is kept, the rest is read and dropped.

It ends by itself, or by SIGTERM to its group at the deadline and SIGKILL a little later; at once by SIGKILL
when the caller is cancelled, or when the message cannot be read to its end: half a message never looks like
a whole one to it. When it has ended and children of it still hold its input or output, they are killed. One
that cannot be killed, as it has become another user (sudo), is waited for no longer.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IPushProducer, IReactorProcess
from twisted.internet.interfaces import IReactorTime as Timers
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.access.routes import Identity
from mailserver.interfaces import IContent, StorageTrouble

__all__ = ["Ended", "run"]

_CHUNK = 64 * 1024
_MOST_OUTPUT = 2048
_UNTIL_KILL = 5.0
_UNTIL_ORPHANS = 1.0

_STILL_THERE = Failure(ProcessTerminated())

# What becomes the program. Python ignores SIGPIPE, and an ignored signal stays so across exec.
_LAUNCH = """
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.setsid()
os.chdir("/")
os.umask(0o077)
try:
    if sys.argv[1]:
        name, uid, gid = sys.argv[1].split(":")
        os.initgroups(name, int(gid))
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as problem:
    print("cannot start:", problem, file=sys.stderr, flush=True)
    os._exit(127 if isinstance(problem, FileNotFoundError) else 126)
"""


@frozen
class Ended:
    """How a program ended.

    :ivar status: its exit status; -1 when a signal ended it.
    :ivar signal: the signal that ended it, or 0.
    :ivar output: the beginning of what it printed.
    :ivar late: it was ended at the deadline.
    :ivar unread: the message could not be read to its end.
    """

    status: int
    signal: int = 0
    output: bytes = b""
    late: bool = False
    unread: bool = False


async def run(
    spawner: IReactorProcess,
    timers: Timers,
    command: Sequence[str],
    environment: Mapping[str, str],
    message: tuple[bytes, IContent],
    deadline: float,
    identity: Identity | None = None,
) -> Ended:
    """Run a program.

    :param message: header lines to put on top, and the content; both in wire form.
    :param deadline: seconds.
    :param identity: whom it runs as; ``None``: as we do.

    Raises OSError where no process can be made.
    """
    program = _Program(timers)
    # The launcher takes the identity on, not the reactor: our interpreter may be nobody's but ours to read.
    who = identity.spelled if identity is not None and identity.uid != os.geteuid() else ""
    words = [word.encode() for word in command]
    arguments = [sys.executable.encode(), b"-I", b"-S", b"-c", _LAUNCH.encode(), who.encode(), *words]
    spawner.spawnProcess(program, sys.executable, arguments, env=dict(environment))
    feeding = Deferred.fromCoroutine(program.feed(*message))
    alarm = timers.callLater(deadline, program.expire)
    try:
        return await program.ended
    except CancelledError:
        program.kill(signal.SIGKILL)
        raise
    finally:
        feeding.cancel()
        if alarm.active():
            alarm.cancel()


@implementer(IPushProducer)
class _Program(ProcessProtocol):
    """One run: the process's protocol, and the producer of its input."""

    transport: IProcessTransport

    def __init__(self, timers: Timers) -> None:
        self.ended: Deferred[Ended] = Deferred()
        self._timers = timers
        self._output = bytearray()
        self._may_write: Deferred[None] | None = None
        self._input_open = True
        self._late = False
        self._unread = False
        self._exit: Failure | None = None
        self._killing: IDelayedCall | None = None
        self._group: int | None = None

    def connectionMade(self) -> None:
        """It runs; its group will have its own number."""
        self._group = self.transport.pid

    # --- its input ---

    async def feed(self, header: bytes, content: IContent) -> None:
        """Write the message, as fast as it is read."""
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        try:
            await self._feed(header, content)
        except CancelledError:
            return
        except StorageTrouble:
            self._unread = True
            self.kill(signal.SIGKILL)
            return
        if self._input_open:
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.closeStdin()

    async def _feed(self, header: bytes, content: IContent) -> None:
        held = header
        offset = 0
        while self._input_open and offset < content.size:
            data = await content.read(offset, _CHUNK)
            if not data:
                raise StorageTrouble("the stored message is shorter than it was")
            offset += len(data)
            data = held + data
            keep = len(data) - 1 if data.endswith(b"\r") else len(data)  # its LF comes with the next chunk
            held = data[keep:]
            self._write(data[:keep].replace(b"\r\n", b"\n"))
            if self._may_write is not None:
                await self._may_write
        self._write(held.replace(b"\r\n", b"\n"))

    def _write(self, data: bytes) -> None:
        if self._input_open:
            self.transport.writeToChild(0, data)

    def pauseProducing(self) -> None:
        """The program does not read as fast."""
        if self._may_write is None:
            self._may_write = Deferred()

    def resumeProducing(self) -> None:
        """It reads again."""
        waiting, self._may_write = self._may_write, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """It reads no more; what it has not read it did not want."""
        self._input_open = False
        self.resumeProducing()

    # --- its output and its end ---

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the beginning of what it prints."""
        self._output += data[: _MOST_OUTPUT - len(self._output)]

    def childConnectionLost(self, childFD: int) -> None:
        """It closed its input or output."""
        if childFD == 0:
            self.stopProducing()

    def processExited(self, reason: Failure) -> None:
        """It has ended; what it printed may still be on its way, and children may hold its pipes."""
        self._exit = reason
        self._stop_killing()
        self._killing = self._timers.callLater(_UNTIL_ORPHANS, self._end_orphans)

    def processEnded(self, reason: Failure) -> None:
        """It has ended and all its pipes are closed."""
        self._stop_killing()
        self._tell(reason)

    def expire(self) -> None:
        """Its time is up."""
        self._late = True
        self.kill(signal.SIGTERM)
        self._killing = self._timers.callLater(_UNTIL_KILL, self._kill_now)

    def kill(self, number: int) -> None:
        """Send its group a signal; to itself only, where it has not yet made a group."""
        if self._exit is not None or self._group is None:
            return
        try:
            os.killpg(self._group, number)
        except ProcessLookupError:
            self.transport.signalProcess(number)
        except PermissionError:
            return  # it is another user by now

    def _kill_now(self) -> None:
        self.kill(signal.SIGKILL)
        self._killing = self._timers.callLater(_UNTIL_KILL, self._give_up)

    def _give_up(self) -> None:
        self._killing = None
        self.transport.loseConnection()
        self._tell(_STILL_THERE)

    def _end_orphans(self) -> None:
        self._killing = None
        if self._group is not None:
            # Who is not found holds the pipes but has left the group, and is left alone.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
        self.transport.loseConnection()
        if self._exit is not None:
            self._tell(self._exit)

    def _stop_killing(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None

    def _tell(self, reason: Failure) -> None:
        if self.ended.called:
            return
        end = reason.value
        status = 0 if isinstance(end, ProcessDone) else -1
        number = 0
        if isinstance(end, ProcessTerminated):
            status = -1 if end.exitCode is None else end.exitCode
            number = end.signal or 0
        self.ended.callback(Ended(status, number, bytes(self._output), self._late, self._unread))

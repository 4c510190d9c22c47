"""The load clients: C, so that they are not what is measured; built when they are first needed.

``gcc`` and the headers of OpenSSL are wanted (Debian: ``gcc libc6-dev libssl-dev``); without them nothing
here can be measured but the hot functions (:mod:`benchmarks.micro`).
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

__all__ = ["Load", "LoadFailed", "NoCompiler", "Outcome", "Sink", "build"]

_SOURCES = Path(__file__).parent
_LIMIT = 600.0


class NoCompiler(Exception):
    """The load clients cannot be built; the text says why."""


class LoadFailed(Exception):
    """A run in which something failed: it counts for nothing."""


@frozen
class Outcome:
    """One run.

    :ivar done: what was done, in the unit of the command.
    :ivar seconds: from the first connection to the last reply.
    :ivar median: seconds that one message or session took.
    """

    done: int
    seconds: float
    median: float
    p99: float


@frozen
class Sink:
    """A mail host that counts what it takes."""

    port: int
    counter: Path

    def taken(self) -> int:
        """How many messages it has taken."""
        return int.from_bytes(self.counter.read_bytes()[:8], "little")


@frozen
class Load:
    """The built program."""

    program: Path

    def smtp(
        self, port: int, sessions: int, messages: int, octets: int, domain: str, recipients: int = 1
    ) -> Outcome:
        """Send messages; done when the last one is acknowledged."""
        return self._run("smtp", port, sessions, messages, octets, recipients, domain)

    def handshakes(self, port: int, sessions: int, count: int) -> Outcome:
        """Sessions of EHLO, STARTTLS, EHLO, QUIT: full handshakes."""
        return self._run("handshakes", port, sessions, count)

    def pop3(self, port: int, sessions: int, count: int, users: int, what: str) -> Outcome:
        """Sessions that ``drain``, ``login`` or ``poll``; done are messages or sessions."""
        return self._run("pop3", port, sessions, count, users, what)

    @contextmanager
    def idle(self, port: int, count: int, what: str) -> Iterator[None]:
        """Hold idle sessions: ``smtp``, ``starttls`` or ``pop3``."""
        with self._held("idle", port, count, what) as told:
            _outcome(told)
            yield

    @contextmanager
    def sink(self, port: int, counter: Path) -> Iterator[Sink]:
        """A sink that takes mail meanwhile."""
        with self._held("sink", port, counter):
            yield Sink(port, counter)

    def _run(self, *words: object) -> Outcome:
        done = subprocess.run(
            [self.program, *map(str, words)], capture_output=True, text=True, timeout=_LIMIT, check=False
        )
        if not done.stdout:
            raise LoadFailed(done.stderr.strip() or f"the load client ended with {done.returncode}")
        return _outcome(done.stdout)

    @contextmanager
    def _held(self, *words: object) -> Iterator[str]:
        with subprocess.Popen(
            [self.program, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield process.stdout.readline()
            finally:
                process.stdin.close()
                process.wait(_LIMIT)


def build(directory: Path) -> Load:
    """Build the program there if it is older than its source. Raises :class:`NoCompiler`."""
    program = directory / "load"
    sources = sorted(_SOURCES.glob("*.[ch]"))
    if not program.exists() or program.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise NoCompiler(
                "no C compiler: the load clients cannot be built (Debian: gcc libc6-dev libssl-dev)"
            )
        directory.mkdir(parents=True, exist_ok=True)
        units = [source for source in sources if source.suffix == ".c"]
        done = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", program, *units, "-lssl", "-lcrypto"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoCompiler(f"the load clients cannot be built (Debian: libssl-dev):\n{done.stderr[-2000:]}")
    return Load(program)


def _outcome(text: str) -> Outcome:
    told = json.loads(text or '{"failed": 1, "error": "it said nothing"}')
    if told["failed"]:
        raise LoadFailed(f"{told['failed']} failed; the first: {told['error']}")
    return Outcome(told["done"], told["seconds"], told["median"], told["p99"])

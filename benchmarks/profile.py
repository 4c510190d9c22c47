"""Where this server's processor time goes in a scenario: ``python -m benchmarks.profile deliver-4k-50``.

py-spy (in the extra ``bench``) looks at all threads of all of the server's processes many times a second
while the scenario is played. What is found at work is counted twice: for the part of the server on whose
behalf it was, which is the innermost function of ours on the stack, and for the function itself. What the
interpreter spends in C (the system's calls, SQLite, OpenSSL) is counted for the function that called it.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks.catalogue import select
from benchmarks.load import NoCompiler, build
from benchmarks.peers.ours import Ours, parse_workers
from benchmarks.peers.server import Place, free_port
from benchmarks.scenarios import Scenario, Stage
from mailserver.net.certificates import ensure_self_signed

__all__ = ["Shares", "shares"]

_RATE = 250
_ROUNDS = 3
_TOP = 15
_WAITING = re.compile(r"(?:Condition\.)?wait \((?:.*/)?threading\.py$")
"""The innermost frame of a thread that has no work, which py-spy does not always see."""

_AROUND_THE_LOOP = ("workers/worker.py", "net/reactor.py")
"""A worker's first function, and the reactor's turn: what they call is Twisted's loop."""


@frozen
class Shares:
    """How the samples are spread.

    :ivar parts: by part of the server: ``smtp``, ``spool`` …; ``Twisted`` and ``other`` where no function
        of ours was on the stack.
    :ivar functions: by function, as ``file: name``.
    """

    parts: Counter[str]
    functions: Counter[str]


def shares(stacks: Iterable[str]) -> Shares:
    """Of collapsed stacks, as ``outermost (file:line);…;innermost (file:line) count``."""
    parts: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if not count.isdecimal():
            continue
        frames = [frame.rpartition(":")[0] for frame in stack.split(";") if ":" in frame]
        if frames and not _WAITING.match(frames[-1]):
            parts[_part(frames)] += int(count)
            name, _, file = frames[-1].partition(" (")
            functions[f"{_short(file)}: {name}"] += int(count)
    return Shares(parts, functions)


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        _, found, rest = frame.rpartition("mailserver/")
        if found and rest.endswith(".py") and rest not in _AROUND_THE_LOOP:
            return rest.partition("/")[0].removesuffix(".py")
    return "Twisted" if any("twisted/" in frame for frame in frames) else "other"


def _short(file: str) -> str:
    """The end of a path that tells which file it is."""
    for mark in ("site-packages/", "mailserver/"):
        if mark in file:
            return file.rpartition(mark)[2]
    return Path(file).name


def _py_spy() -> str | None:
    """The program, of this interpreter's environment or else of the PATH."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


@contextmanager
def _recorded(pid: int, file: Path) -> Iterator[None]:
    command = [
        _py_spy() or "py-spy",
        "record",
        "--pid",
        str(pid),
        "--subprocesses",
        "--format",
        "raw",
        "--rate",
        str(_RATE),
    ]
    command += ["--duration", "3600", "--output", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as recorder:
        assert recorder.stdout is not None
        try:
            while "Sampling" not in (line := recorder.stdout.readline()):
                if not line:
                    raise RuntimeError("py-spy has ended; is it allowed to look?")
            yield
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.stdout.read()


def _profile(scenario: Scenario, stage: Stage, place: Place, workers: int | str) -> Shares:
    server = Ours(place, workers)
    server.start()
    try:
        scenario.prepare(server, stage)
        with _recorded(server.pid, place.directory / "stacks"):
            for _ in range(_ROUNDS):
                scenario.measure(server, stage)
    finally:
        server.stop()
    return shares((place.directory / "stacks").read_text().splitlines())


def _tell(title: str, found: Shares) -> None:
    print(f"\n{title}\n")
    total = found.parts.total()
    for counted in (found.parts, found.functions):
        for name, count in counted.most_common(_TOP):
            print(f"{100 * count / total:6.1f} %  {name}")
        print()


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("scenario", nargs="+", help="those whose names begin so")
    parser.add_argument(
        "--workers", type=parse_workers, default="0", help="of the server: 0, a number, or auto (0)"
    )
    options = parser.parse_args(words)
    if _py_spy() is None:
        print("py-spy is not installed: pip install -e .[bench]", file=sys.stderr)
        return 2
    try:
        scenarios = select(tuple(options.scenario))
        load = build(Path(__file__).resolve().parent.parent / "build" / "benchmarks")
    except (LookupError, NoCompiler) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    for scenario in scenarios:
        with tempfile.TemporaryDirectory(prefix="mailserver-profile-") as name:
            directory = Path(name)
            ensure_self_signed(directory, "mx.bench.test")
            with load.sink(free_port(), directory / "taken") as sink:
                home = directory / "server"
                home.mkdir()
                place = Place(home, directory / "self-signed.pem", sink.port)
                _tell(scenario.title, _profile(scenario, Stage(load, sink), place, options.workers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Holds the server to its law, durable before 250: ``python -m benchmarks.durability`` (wants strace).

The server runs as in ``make bench`` and is sent mail for mailboxes here, for elsewhere, to many mailboxes
at once and too large for the database, by several sessions at once; :mod:`benchmarks.tracing` tells what
has to be true of the trace. Needs strace, the compiler for the load client, and leave to trace.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import Load, NoCompiler, build
from benchmarks.peers.ours import Ours, parse_workers
from benchmarks.peers.server import HERE, QUEUE, Place, free_port
from benchmarks.processes import descendants
from benchmarks.scenarios import KB
from benchmarks.tracing import CALLS, Audit, audit, calls
from mailserver.net.certificates import ensure_self_signed

__all__ = ["examine"]

_PAGE = 5000
"""Octets of each write that are looked at: an ID may stand anywhere in a page of the database."""


def examine(load: Load, directory: Path, messages: int, workers: int | str) -> Audit:
    """Play and audit. ``directory`` is empty."""
    ensure_self_signed(directory, "mx.bench.test")
    place = Place(directory / "server", directory / "self-signed.pem", free_port())
    place.directory.mkdir()
    server = Ours(place, workers)
    server.start()
    try:
        with _traced(server.pid, directory / "trace"):
            for octets, domain, recipients in ((4, HERE, 1), (4, QUEUE, 1), (4, HERE, 10), (200, QUEUE, 1)):
                load.smtp(server.smtp_port, 8, messages, octets * KB, domain, recipients)
    finally:
        server.stop()
    with (directory / "trace").open(encoding="latin-1") as trace:
        return audit(calls(line.rstrip("\n") for line in trace))


@contextmanager
def _traced(pid: int, file: Path) -> Iterator[None]:
    every = [word for one in descendants(pid) for word in ("-p", str(one))]
    command = [
        "strace",
        "-f",
        "-y",
        "-s",
        str(_PAGE),
        "-e",
        f"trace={','.join(CALLS)}",
        "-o",
        str(file),
        *every,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            # It says so for every process that it has attached to.
            while "attached" not in (line := strace.stderr.readline()):
                if not line:
                    raise RuntimeError("strace has ended; is it allowed to trace?")
            time.sleep(0.5)
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.stderr.read()


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__)
    parser.add_argument("--messages", type=int, default=100, help="of each kind (100)")
    parser.add_argument(
        "--workers", type=parse_workers, default="auto", help="of the server: 0, a number, or auto (auto)"
    )
    options = parser.parse_args(words)
    if shutil.which("strace") is None:
        print("strace is not installed", file=sys.stderr)
        return 2
    try:
        load = build(Path(__file__).resolve().parent.parent / "build" / "benchmarks")
    except NoCompiler as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mailserver-audit-") as name:
        found = examine(load, Path(name), options.messages, options.workers)
    print("\n".join(found.broken[:20]))
    syncs = ", ".join(
        f"{number / found.acknowledged:.2f} {name}" for name, number in found.syncs.most_common()
    )
    print(f"{found.acknowledged} messages acknowledged, {len(found.broken)} of the law's demands not met")
    print(f"a message: {syncs}")
    return 1 if found.broken or not found.acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())

"""``make bench``, or ``python -m benchmarks``: measure this server, and its peers where they are there."""

import argparse
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.catalogue import SCENARIOS, select
from benchmarks.course import Maker, play
from benchmarks.disk import spread
from benchmarks.load import Load, NoCompiler, build
from benchmarks.peers.dovecot import Dovecot, DovecotTuned
from benchmarks.peers.ours import Ours, parse_workers
from benchmarks.peers.postfix import Postfix, PostfixUnthrottled
from benchmarks.peers.server import Place, Server, free_port
from benchmarks.results import Run
from benchmarks.scenarios import Scenario, Stage
from benchmarks.table import cells, growth, plain, processor
from mailserver.net.certificates import ensure_self_signed

_ROOT = Path(__file__).resolve().parent.parent
_PEERS: dict[str, tuple[type[Postfix | Dovecot], ...]] = {
    "smtp": (Postfix, PostfixUnthrottled),
    "pop3": (Dovecot, DovecotTuned),
    "": (),
}


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(words)
    # Who ends this ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Thousands of sessions are held, at both ends.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        scenarios = select(tuple(options.scenario))
        load = build(_ROOT / "build" / "benchmarks")
    except (LookupError, NoCompiler) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    if options.quick:
        # One of each kind.
        scenarios = tuple({type(scenario): scenario.shorter() for scenario in scenarios}.values())
    run = _begin(options)
    peers = {service: _peers(service, options) for service in _PEERS}
    run.servers |= {kind.name: kind.title for kinds in peers.values() for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="mailserver-bench-", dir=options.directory) as name:
        # Its peers' users have to get in.
        Path(name).chmod(0o755)
        spread(Path(name))
        _play(options, scenarios, peers, load, Path(name), run)
    print(plain(cells(run)))
    print(*growth(run), sep="\n")
    print("Processor time of all of a server's processes, µs for one message or session:\n")
    print(plain(processor(run)))
    if options.picture:
        from benchmarks.picture import draw

        draw(run, options.picture)
    return 1 if any(Ours.name in result.failures for result in run.results) else 0


def _play(
    options: argparse.Namespace,
    scenarios: tuple[Scenario, ...],
    peers: dict[str, list[type[Postfix | Dovecot]]],
    load: Load,
    directory: Path,
    run: Run,
) -> None:
    certificate = _certificate(directory)
    rounds = 1 if options.quick else options.rounds
    with load.sink(free_port(), directory / "taken") as sink:
        todo = [scenario for scenario in scenarios if run.result(scenario.name) is None]
        for _, group in groupby(todo, lambda scenario: scenario.company or scenario.name):
            together = tuple(group)
            scenario = together[0]
            _tell("; ".join(one.title for one in together) + ":")
            makers: list[Maker] = [
                partial(_ours, certificate=certificate, sink=sink.port, workers=options.workers)
            ]
            for kind in peers[scenario.service][: None if scenario.tuned else 1]:
                makers.insert(
                    len(makers) - 1, partial(_peer, kind=kind, certificate=certificate, sink=sink.port)
                )
            for one in together:
                (directory / one.name).mkdir()
                spread(directory / one.name)
            run.results += play(together, makers, rounds, Stage(load, sink), directory, _tell)
            if options.json:
                run.write(options.json)


def _certificate(directory: Path) -> Path:
    """One for all. Postfix wants the key first."""
    ensure_self_signed(directory, "mx.bench.test")
    file = directory / "self-signed.pem"
    chain, begin, key = file.read_text().partition("-----BEGIN PRIVATE KEY-----")
    file.write_text(begin + key + chain)
    return file


def _ours(directory: Path, certificate: Path, sink: int, workers: int | str) -> Server:
    return Ours(Place(directory, certificate, sink), workers)


def _peer(directory: Path, kind: type[Postfix | Dovecot], certificate: Path, sink: int) -> Server:
    return kind(Place(directory, certificate, sink))


def _peers(service: str, options: argparse.Namespace) -> list[type[Postfix | Dovecot]]:
    kinds = [] if options.alone else list(_PEERS[service])
    for kind in list(kinds):
        if missing := kind.missing():
            _tell(f"{kind.title} is left out: {missing}")
            kinds.remove(kind)
    return kinds


def _begin(options: argparse.Namespace) -> Run:
    if options.resume and options.json and options.json.exists():
        return Run.read(options.json)
    return Run(_about(options), {Ours.name: Ours.title})


def _about(options: argparse.Namespace) -> dict[str, Any]:
    place = options.directory or tempfile.gettempdir()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _said("git", "-C", str(_ROOT), "describe", "--always", "--dirty"),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "kernel": platform.release(),
        "python": f"{platform.python_version()} ({Path(sys.executable).resolve()})",
        "disk": _said("findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(place)),
        "postfix": _said("/usr/sbin/postconf", "-d", "-h", "mail_version"),
        "dovecot": _said("/usr/sbin/dovecot", "--version"),
        "workers": options.workers,
        "rounds": 1 if options.quick else options.rounds,
        "quick": options.quick,
    }


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _tell(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help="only those that begin with NAME; may be given more than once. There are: "
        + ", ".join(scenario.name for scenario in SCENARIOS),
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each scenario (5)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of next to nothing: does it work at all?"
    )
    parser.add_argument("--alone", action="store_true", help="without Postfix and Dovecot")
    parser.add_argument(
        "--workers", type=parse_workers, default="auto", help="of this server: 0, a number, or auto (auto)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the results go, after every scenario"
    )
    parser.add_argument("--resume", action="store_true", help="leave out what FILE has already")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them there (SVG)")
    parser.add_argument("--directory", type=Path, help="where the servers live: on the disk to be measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())

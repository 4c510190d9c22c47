"""The course of a run: every scenario on every server, in turn, round after round.

All servers of a scenario stand at the same time, and each round measures one after the other, beginning
with another one each time: whatever else the machine does meanwhile hits all alike. Scenarios whose figures
are compared with each other are played as one, for the same reason. Each scenario starts its servers anew,
and what they leave behind lies there until the end (:mod:`benchmarks.disk`). A server that fails is told
about and started again for the next round; what it did before counts.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers.server import Server
from benchmarks.results import Result
from benchmarks.scenarios import Scenario, Stage

__all__ = ["Maker", "play"]

Maker = Callable[[Path], Server]
"""Makes a server, not started, below a new directory."""


def play(
    scenarios: Sequence[Scenario],
    makers: Sequence[Maker],
    rounds: int,
    stage: Stage,
    directory: Path,
    tell: Callable[[str], Any],
) -> list[Result]:
    """Play one scenario, or some that are compared with each other; returns the result of each."""
    results = [Result(one.name, one.title, one.unit, one.less_is_better) for one in scenarios]
    with ExitStack() as stack:
        cast = [
            (scenario, _Part(make, directory / scenario.name / str(number), stage), result)
            for scenario, result in zip(scenarios, results, strict=True)
            for number, make in enumerate(makers)
        ]
        for _, part, _ in cast:
            stack.callback(part.end)
        for turn in range(min(rounds, *(scenario.rounds for scenario in scenarios))):
            first = turn % len(cast)
            for scenario, part, result in cast[first:] + cast[:first]:
                part.play(scenario, result, tell)
    return results


class _Part:
    """One server in one scenario."""

    def __init__(self, make: Maker, directory: Path, stage: Stage) -> None:
        self._make = make
        self._directory = directory
        self._stage = stage
        self._lives = 0
        self._server: Server | None = None

    def play(self, scenario: Scenario, result: Result, tell: Callable[[str], Any]) -> None:
        name = ""
        try:
            server = self._ready(scenario)
            name = server.name
            sample = scenario.measure(server, self._stage)
        except Exception as error:  # whatever it was, the others go on
            name = name or (self._server.name if self._server else self._directory.name)
            result.failures[name] = f"{type(error).__name__}: {error}"
            tell(f"  {scenario.name}: {name} failed: {result.failures[name]}")
            self.end()
            return
        result.samples.setdefault(name, []).append(sample)
        cpu = "" if sample.cpu is None else f"  {sample.cpu:8.0f} µs"
        tell(f"  {scenario.name:16} {name:22} {sample.value:10.1f} {scenario.unit:12}{cpu}")

    def _ready(self, scenario: Scenario) -> Server:
        if self._server is None:
            self._lives += 1
            place = self._directory / str(self._lives)
            place.mkdir(parents=True)
            self._server = self._make(place)
            self._server.start()
            scenario.prepare(self._server, self._stage)
        return self._server

    def end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()

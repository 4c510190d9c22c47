"""What a run came to, as values and as JSON."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from benchmarks.scenarios import Sample

__all__ = ["Figure", "Result", "Run", "ratio", "summary"]


@frozen
class Figure:
    """The median of some samples, with the smallest and the largest beside it."""

    median: float
    least: float
    most: float


@define
class Result:
    """What one scenario came to.

    :ivar samples: by the name of the server.
    :ivar failures: the last failure of a server that failed.
    """

    name: str
    title: str
    unit: str
    less_is_better: bool
    samples: dict[str, list[Sample]] = field(factory=dict)
    failures: dict[str, str] = field(factory=dict)

    def figure(self, server: str) -> Figure | None:
        """Its values."""
        return summary([sample.value for sample in self.samples.get(server, ())])

    def cpu(self, server: str) -> Figure | None:
        """Its processor time for one message or session."""
        return summary([sample.cpu for sample in self.samples.get(server, ()) if sample.cpu is not None])

    def times(self, server: str, peer: str) -> float | None:
        """How many times as good the server is as the peer."""
        return ratio(self.figure(server), self.figure(peer), self.less_is_better)


@define
class Run:
    """All that was measured, and on what.

    :ivar about: the machine, the versions, the options.
    :ivar servers: the titles of the servers by their names, in the order of the table.
    """

    about: dict[str, Any]
    servers: dict[str, str]
    results: list[Result] = field(factory=list)

    def result(self, name: str) -> Result | None:
        """The result of a scenario that has been played."""
        return next((result for result in self.results if result.name == name), None)

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read what was written."""
        text = json.loads(path.read_text())
        return cls(text["about"], text["servers"], [_result(one) for one in text["results"]])


def summary(values: list[float]) -> Figure | None:
    """Of some values; none if there are none."""
    return Figure(statistics.median(values), min(values), max(values)) if values else None


def ratio(ours: Figure | None, theirs: Figure | None, less_is_better: bool) -> float | None:
    """How many times as good one figure is as another; none where that cannot be said."""
    if ours is None or theirs is None:
        return None
    good, base = (theirs, ours) if less_is_better else (ours, theirs)
    return good.median / base.median if base.median > 0 else None


def _result(text: Mapping[str, Any]) -> Result:
    samples = {name: [Sample(**one) for one in some] for name, some in text["samples"].items()}
    return Result(**{**text, "samples": samples})

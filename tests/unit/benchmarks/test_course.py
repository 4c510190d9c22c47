"""The course of a run: who is measured when, and what a failure costs."""

from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define

from benchmarks.catalogue import SCENARIOS, TARGETS, select
from benchmarks.course import play
from benchmarks.peers.server import Server
from benchmarks.scenarios import Sample, Scenario, Stage

STAGE = cast(Stage, None)


class Played(Server):
    """A server that only writes down what is done with it."""

    def __init__(self, name: str, story: list[str], directory: Path) -> None:
        assert directory.is_dir()
        self.name = self.title = name
        self.story = story

    def start(self) -> None:
        self.story.append(f"{self.name} starts")

    def stop(self) -> None:
        self.story.append(f"{self.name} stops")

    @property
    def pid(self) -> int:
        raise AssertionError

    def box(self, user: str) -> Path:
        raise AssertionError


@define
class Story(Scenario):
    story: list[str]
    fails: tuple[int, ...] = ()
    turn: int = 0

    def prepare(self, server: Server, stage: Stage) -> None:
        self.story.append(f"{server.name} is warmed up")

    def measure(self, server: Server, stage: Stage) -> Sample:
        self.turn += 1
        self.story.append(server.name)
        if self.turn in self.fails:
            raise TimeoutError("too slow")
        return Sample(float(self.turn), 1.0)

    def shorter(self) -> "Story":
        raise AssertionError


def played(tmp_path: Path, rounds: int, fails: tuple[int, ...] = ()) -> tuple[Any, list[str], list[str]]:
    story: list[str] = []
    told: list[str] = []
    makers = [
        lambda directory: Played("a", story, directory),
        lambda directory: Played("b", story, directory),
    ]
    (result,) = play([Story("story", "a story", story, fails)], makers, rounds, STAGE, tmp_path, told.append)
    return result, story, told


def test_scenarios_that_are_compared_are_played_in_turn(tmp_path: Path) -> None:
    story: list[str] = []
    order: list[str] = []

    class Named(Story):
        def measure(self, server: Server, stage: Stage) -> Sample:
            order.append(self.name)
            return super().measure(server, stage)

    scenarios = [Named(name, name, story) for name in ("short", "long")]
    results = play(
        scenarios, [lambda directory: Played("a", story, directory)], 2, STAGE, tmp_path, story.append
    )
    assert order == ["short", "long", "long", "short"]
    assert [(result.name, len(result.samples["a"])) for result in results] == [("short", 2), ("long", 2)]
    assert story.count("a starts") == story.count("a stops") == 2


def test_servers_are_measured_in_turn_and_each_round_begins_with_another(tmp_path: Path) -> None:
    result, story, told = played(tmp_path, 3)
    assert [word for word in story if word in "ab"] == ["a", "b", "b", "a", "a", "b"]
    assert story.count("a starts") == story.count("a is warmed up") == story.count("a stops") == 1
    assert [sample.value for sample in result.samples["b"]] == [2, 3, 6]
    assert len(told) == 6


def test_one_that_fails_is_started_again_and_what_it_did_before_counts(tmp_path: Path) -> None:
    result, story, _ = played(tmp_path, 3, fails=(3,))
    assert story.count("b starts") == story.count("b is warmed up") == story.count("b stops") == 2
    assert story.count("a starts") == 1
    assert [sample.value for sample in result.samples["b"]] == [2, 6]
    assert result.failures == {"b": "TimeoutError: too slow"}


def test_scenarios_are_selected_by_how_their_names_begin() -> None:
    assert [scenario.name for scenario in SCENARIOS if scenario not in select(())] == ["crowd-10000"]
    assert [scenario.name for scenario in select(("crowd",))] == ["crowd-10000"]
    assert [scenario.name for scenario in select(("relay", "login-10"))] == [
        "relay-4k-20",
        "relay-4k-50",
        "login-10",
    ]
    with pytest.raises(LookupError, match="relay-4k-20"):
        select(("nothing",))


def test_names_are_unique_targets_are_of_scenarios_and_short_forms_keep_the_name() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert TARGETS.keys() <= set(names)
    assert [scenario.shorter().name for scenario in SCENARIOS] == names
    assert [type(scenario.shorter()) for scenario in SCENARIOS] == [type(scenario) for scenario in SCENARIOS]

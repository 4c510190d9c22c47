"""The statistics of a run, and their way through a file."""

from pathlib import Path

import pytest

from benchmarks.results import Figure, Result, Run, ratio, summary
from benchmarks.scenarios import Sample


@pytest.mark.parametrize(
    ("values", "figure"),
    [
        ([], None),
        ([3.0], Figure(3, 3, 3)),
        ([5.0, 1.0, 2.0], Figure(2, 1, 5)),
        ([4.0, 1.0, 2.0, 3.0], Figure(2.5, 1, 4)),
    ],
)
def test_a_figure_is_the_median_with_the_least_and_the_most(
    values: list[float], figure: Figure | None
) -> None:
    assert summary(values) == figure


@pytest.mark.parametrize(
    ("ours", "theirs", "less_is_better", "times"),
    [
        (200, 100, False, 2.0),
        (50, 100, False, 0.5),
        (50, 100, True, 2.0),  # half the memory is twice as good
        (200, 100, True, 0.5),
        (200, 0, False, None),
        (-3, 100, True, None),  # memory that shrank meanwhile tells nothing
    ],
)
def test_a_ratio_says_how_many_times_as_good(
    ours: float, theirs: float, less_is_better: bool, times: float | None
) -> None:
    assert ratio(summary([ours]), summary([theirs]), less_is_better) == times


def test_there_is_no_ratio_to_a_peer_that_was_not_measured() -> None:
    assert ratio(summary([1.0]), None, False) is None
    assert ratio(None, summary([1.0]), False) is None


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = Result("relay", "relay", "messages/s", False)
    result.samples["mailserver"] = [Sample(10.0, 5.0), Sample(12.0)]
    result.failures["postfix"] = "TimeoutError: 3 of 4 messages have arrived"
    run = Run({"cores": 2}, {"mailserver": "this server"}, [result])
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run
    assert list(tmp_path.iterdir()) == [tmp_path / "run.json"]


def test_processor_time_is_summed_up_of_the_samples_that_have_it() -> None:
    result = Result("relay", "relay", "messages/s", False)
    result.samples["mailserver"] = [Sample(10.0, 5.0), Sample(12.0), Sample(11.0, 7.0)]
    assert result.cpu("mailserver") == Figure(6, 5, 7)
    assert result.cpu("postfix") is None


def test_a_run_knows_what_has_been_played() -> None:
    result = Result("relay", "relay", "messages/s", False)
    run = Run({}, {}, [result])
    assert run.result("relay") is result
    assert run.result("drain") is None

"""Results as tables, and their place on the page."""

from typing import Any

import pytest

from benchmarks.page import BEGIN, END, renewed
from benchmarks.results import Result, Run
from benchmarks.scenarios import Sample
from benchmarks.table import cells, growth, number, plain, processor, restructured

ABOUT = {
    "date": "2026-01-01 10:00 UTC",
    "commit": "abc",
    "workers": 0,
    "rounds": 5,
    "cores": 2,
    "memory": "24 GB",
    "kernel": "6.1",
    "disk": "ext4",
    "python": "3.11",
    "postfix": "3.7",
    "dovecot": "",
}


def result(name: str, less_is_better: bool = False, **values: tuple[float, ...]) -> Result:
    made = Result(name, f"title of {name}", "things/s", less_is_better)
    for server, some in values.items():
        made.samples[server.replace("_", "-")] = [Sample(value, 10 * value) for value in some]
    return made


def run(*results: Result, **about: Any) -> Run:
    return Run({**ABOUT, **about}, {"mailserver": "this server"}, list(results))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.8, "1,234,568"), (100, "100"), (99.94, "99.9"), (10, "10.0"), (9.876, "9.88"), (0, "0.00")],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_row_has_both_peers_and_both_ratios_and_what_is_wanted() -> None:
    row = cells(
        run(result("relay-4k-20", mailserver=(300, 100, 200), postfix=(50,), postfix_unthrottled=(100,)))
    )[1]
    assert row == (
        "title of relay-4k-20 (things/s)",
        "200 (100 – 300)",
        "50.0 (50.0 – 50.0)",
        "100 (100 – 100)",
        "4.00 ×",
        "2.00 ×",
        "2.5 ×",
    )


def test_targets_that_differ_and_bounds_are_told_as_such() -> None:
    rows = cells(run(result("login-10", mailserver=(1,)), result("idle-smtp", True, mailserver=(8,))))
    assert [row[-1] for row in rows[1:]] == ["8 × / 1 ×", "≤ 12"]


def test_a_peer_that_is_missing_leaves_a_gap_and_one_that_failed_is_named() -> None:
    failed = result("relay-4k-20", mailserver=(200,))
    failed.failures["postfix"] = "it fell over"
    assert cells(run(failed))[1][2:6] == ("failed", "", "", "")


def test_processor_time_is_told_where_it_was_measured() -> None:
    idle = Result("idle-smtp", "idle", "KB", True, {"mailserver": [Sample(8.0)]})
    assert processor(run(idle, result("drain-10", mailserver=(2,), dovecot=(3,))))[1:] == [
        ("title of drain-10", "20.0 (20.0 – 20.0)", "30.0 (30.0 – 30.0)", "")
    ]


def test_a_long_queue_is_told_as_what_a_message_costs_in_it() -> None:
    short = Result("queue-1000", "", "messages/s", False, {"mailserver": [Sample(300.0, 100.0)]})
    long = Result("queue-100000", "", "messages/s", False, {"mailserver": [Sample(200.0, 110.0)]})
    (sentence,) = growth(run(short, long))
    assert "takes 1.50 × the time and 1.10 × the processor time" in sentence
    assert growth(run(short)) == []
    assert growth(run(short, Result("queue-100000", "", "messages/s", False))) == []


def test_a_plain_table_is_aligned() -> None:
    assert plain([("", "a"), ("long", "100"), ("x", "1")]) == "        a\nlong  100\nx       1\n"


def test_a_table_for_the_documents_is_a_list_table() -> None:
    assert restructured([("", "a"), ("b", "")], (3, 1)) == (
        ".. list-table::\n   :header-rows: 1\n   :widths: 3 1\n\n   * -\n     - a\n   * - b\n     -\n"
    )


def test_the_figures_on_the_page_are_renewed_and_all_else_stays() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    fresh = renewed(page, run(result("relay-4k-20", mailserver=(200,))))
    assert fresh.startswith(f"before\n{BEGIN}\nMeasured 2026-01-01 10:00 UTC at abc")
    assert fresh.endswith(f"\n{END}after\n")
    assert "old" not in fresh
    assert "Postfix 3.7." in fresh
    assert renewed(fresh, run(result("relay-4k-20", mailserver=(200,)))) == fresh


def test_what_failed_is_told_on_the_page() -> None:
    failed = result("relay-4k-20")
    failed.failures["mailserver"] = "it fell over"
    assert "- title of relay-4k-20: this server: it fell over\n" in renewed(f"{BEGIN}{END}", run(failed))


@pytest.mark.parametrize("page", ["", BEGIN, END])
def test_a_page_without_marks_is_not_touched(page: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        renewed(page, run())

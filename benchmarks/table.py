"""Results as tables: plain for the terminal, reStructuredText for the documents."""

from collections.abc import Callable, Sequence

from benchmarks.catalogue import TARGETS, Target
from benchmarks.results import Figure, Result, Run, ratio

__all__ = ["PEERS", "cells", "growth", "number", "plain", "processor", "restructured"]

OURS = "mailserver"
PEERS = (("postfix", "dovecot"), ("postfix-unthrottled", "dovecot-tuned"))
_TITLES = ("", "this server", "peer as shipped", "peer, tuned", "× shipped", "× tuned", "wanted")

Rows = list[tuple[str, ...]]


def cells(run: Run) -> Rows:
    """The table: a row for each scenario, below a row of titles."""
    return [_TITLES, *(_row(result) for result in run.results)]


def processor(run: Run) -> Rows:
    """Processor time for one message or session."""
    rows = [
        (f"{result.title}", *(_range(result.cpu(name)) for name in (OURS, *_peers(result))))
        for result in run.results
        if result.cpu(OURS)
    ]
    return [_TITLES[:4], *rows]


def growth(run: Run) -> list[str]:
    """What a message costs in a long queue, in a sentence, if that was measured."""
    short, long = run.result("queue-1000"), run.result("queue-100000")
    if short is None or long is None:
        return []
    time = ratio(short.figure(OURS), long.figure(OURS), less_is_better=False)
    cpu = ratio(short.cpu(OURS), long.cpu(OURS), less_is_better=True)
    if time is None or cpu is None:
        return []
    return [
        f"Beside 100,000 messages that wait, a message takes {time:.2f} × the time and {cpu:.2f} × the "
        "processor time that it takes beside 1,000; wanted is ≤ 1.2 ×.\n"
    ]


def plain(rows: Rows) -> str:
    """For a terminal: aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(_pad(row, widths)).rstrip() for row in rows) + "\n"


def restructured(rows: Rows, widths: Sequence[int]) -> str:
    """For the documents: a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in rows:
        for column, cell in enumerate(row):
            lines.append(("   * - " if column == 0 else "     - ") + cell)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def number(value: float) -> str:
    """A value with three digits that mean something, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(result: Result) -> tuple[str, ...]:
    peers = _peers(result)
    target = TARGETS.get(result.name, Target())
    return (
        f"{result.title} ({result.unit})",
        *(_range(result.figure(name)) or _failure(result, name) for name in (OURS, *peers)),
        *(_times(result.times(OURS, peer)) for peer in peers),
        _wanted(target),
    )


def _peers(result: Result) -> list[str]:
    known = result.samples.keys() | result.failures.keys()
    return [next((name for name in names if name in known), "") for names in PEERS]


def _failure(result: Result, name: str) -> str:
    return "failed" if name in result.failures else ""


def _range(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{number(figure.median)} ({number(figure.least)} – {number(figure.most)})"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ×"


def _wanted(target: Target) -> str:
    if target.most is not None:
        return f"≤ {target.most:g}"
    if target.shipped is None:
        return ""
    both = [f"{value:g} ×" for value in (target.shipped, target.tuned) if value is not None]
    return both[0] if len(set(both)) == 1 else " / ".join(both)


def _pad(row: tuple[str, ...], widths: list[int]) -> list[str]:
    align: Callable[[str, int], str] = str.rjust
    return [
        row[0].ljust(widths[0]),
        *(align(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)),
    ]

"""Results as a picture: for each scenario, how many times as good as each peer.

Drawn by matplotlib, which is in the extra ``bench``: large, but the best kept of the libraries that draw
bars as SVG, and nothing that runs the server needs it. The same results give the same file.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.results import Run
from benchmarks.table import PEERS, number

__all__ = ["draw"]

_COLOURS = ("#2f6f9f", "#e0a030")
_BAR = 0.38
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def draw(run: Run, path: Path) -> None:
    """Write the picture."""
    results = [result for result in run.results if any(_bars(result))]
    with mpl.rc_context({"svg.hashsalt": "mailserver", "svg.fonttype": "none", "font.family": "sans-serif"}):
        canvas = Canvas(figsize=(10, 1.4 + 0.42 * max(len(results), 1)), layout="constrained")
        axes = canvas.subplots()
        for row, result in enumerate(results):
            for column, value in enumerate(_bars(result)):
                if value:
                    _bar(axes, row + (column - 0.5) * _BAR, value, column)
        axes.set_yticks(range(len(results)), [result.title for result in results])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xticks(_TICKS, [f"{tick:g} ×" for tick in _TICKS])
        axes.minorticks_off()
        axes.set_xlim(*_limits([value for result in results for value in _bars(result) if value]))
        axes.axvline(1, color="black", linewidth=0.8)
        canvas.suptitle("This server beside Postfix (SMTP) and Dovecot (POP3): how many times as good")
        for label, colour in zip(("as shipped", "tuned"), _COLOURS, strict=True):
            axes.barh(0, 0, color=colour, label=label)
        canvas.legend(loc="outside lower right", ncols=2)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def _bars(result: Any) -> list[float | None]:
    peers = [next((name for name in names if name in result.samples), "") for names in PEERS]
    return [result.times("mailserver", peer) for peer in peers]


def _bar(axes: Any, place: float, value: float, column: int) -> None:
    # On a logarithmic axis a bar is as long as the ratio is far from 1.
    axes.barh(place, value - 1, height=_BAR, left=1, color=_COLOURS[column])
    axes.annotate(
        f"{number(value)}",
        (value, place),
        (4 if value >= 1 else -4, 0),
        textcoords="offset points",
        va="center",
        ha="left" if value >= 1 else "right",
        fontsize=8,
    )


def _limits(values: list[float]) -> tuple[float, float]:
    least, most = min([*values, 0.7]), max([*values, 2.0])
    return 0.7 * least, 1.6 * most

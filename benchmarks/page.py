"""Puts the results of a run into ``docs/performance.rst``: ``python -m benchmarks.page build/bench.json``.

The page keeps the results as ``docs/performance.json`` and the picture as ``docs/performance.svg`` beside
it; what stands between its two marks is written anew from them. Without an argument it is written from what
is kept.
"""

import sys
from pathlib import Path

from benchmarks.results import Run
from benchmarks.table import cells, growth, processor, restructured

__all__ = ["BEGIN", "END", "figures", "renewed", "write"]

BEGIN = '.. begin of the figures: written by "python -m benchmarks.page"\n'
END = ".. end of the figures\n"
_PEERS = (("postfix", "Postfix"), ("dovecot", "Dovecot"))
_DOCS = Path(__file__).resolve().parent.parent / "docs"


def figures(run: Run) -> str:
    """The part of the page that is made of results."""
    return "\n".join(
        (
            _about(run),
            restructured(cells(run), (34, 15, 15, 15, 7, 7, 7)),
            *growth(run),
            ".. image:: performance.svg\n   :alt: for each scenario, how many times as good as the peer\n",
            "Processor time of all of a server's processes, in µs for one message or session:\n",
            restructured(processor(run), (40, 20, 20, 20)),
            *_failures(run),
        )
    )


def renewed(page: str, run: Run) -> str:
    """The page with other figures. Raises ``ValueError`` for a page without the marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page lacks the marks between which the figures go")
    return f"{head}{begin}\n{figures(run)}\n{end}{tail}"


def write(run: Run, docs: Path) -> None:
    """Write page, picture and results."""
    from benchmarks.picture import draw

    page = docs / "performance.rst"
    page.write_text(renewed(page.read_text(), run))
    draw(run, docs / "performance.svg")
    run.write(docs / "performance.json")


def _about(run: Run) -> str:
    about = run.about
    peers = [f"{name} {about[key]}" for key, name in _PEERS if about[key]]
    return (
        f"Measured {about['date']} at {about['commit']}, ``workers = {about['workers']}``, rounds: "
        f"{about['rounds']}. {about['cores']} cores, {about['memory']}, Linux {about['kernel']}, "
        f"{about['disk']}, Python {about['python']}; {', '.join(peers) or 'no peers'}. "
        "Median (least – most).\n"
    )


def _failures(run: Run) -> list[str]:
    failed = [
        f"- {result.title}: {run.servers.get(name, name)}: {failure}"
        for result in run.results
        for name, failure in result.failures.items()
    ]
    return ["Not all rounds could be played:\n", "\n".join(failed) + "\n"] if failed else []


def main(words: list[str]) -> int:
    """Run the command; returns the exit status."""
    write(Run.read(Path(words[0]) if words else _DOCS / "performance.json"), _DOCS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Writes the list of rooms in ``docs/architecture.rst`` from the first lines of the modules' docstrings.

``make rooms`` runs it; ``tests/unit/test_docs.py`` fails where the list and the tree differ.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.rst"
CODE = ROOT / "mailserver"

FLOORS = (
    *("model", "wire", "", "domains", "mailboxes", "spool", "net", "access", "config", "smtp", "pop3"),
    *("control", "delivery", "delivery/couriers", "machine", "workers", "rehearsal", "cli"),
)
"""The packages from the lowest floor up; the empty one stands for the modules on their own."""

BEGIN, END = "Rooms\n-----\n", "The laws\n--------"
LEAD = """
The first lines of the modules' own docstrings, written by ``make rooms``; ``tests/unit/test_docs.py`` holds
this list against the tree.
"""


def first_paragraph(file: Path) -> str:
    """What a module says it is, on one line, its roles turned into plain literals."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return re.sub(r":\w+:`~?([^`]*)`", r"``\1``", text.partition("\n\n")[0].replace("\n", " "))


def rooms() -> Iterator[str]:
    """The list, package by package."""
    for package in FLOORS:
        files = sorted(file for file in (CODE / package).glob("*.py") if file.name != "__init__.py")
        title = (
            f"``{package}/``: {first_paragraph(CODE / package / '__init__.py')}"
            if package
            else "On their own:"
        )
        yield "\n" + textwrap.fill(title, 108, break_on_hyphens=False) + "\n"
        for file in files:
            text = f"| ``{file.relative_to(CODE)}`` — {first_paragraph(file)}"
            yield textwrap.fill(
                text, 108, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )


def main() -> None:
    """Put the list in its place."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest[rest.index(END) :]
    PAGE.write_text(before + BEGIN + LEAD + "\n".join(rooms()) + "\n\n" + after)


if __name__ == "__main__":
    main()

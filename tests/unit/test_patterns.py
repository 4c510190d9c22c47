"""What the patterns of all rooms have in common."""

import re
from pathlib import Path

import pytest

_ROOMS = Path(__file__).resolve().parents[2] / "mailserver"
_GROUP_THAT_KEEPS = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>")


@pytest.mark.parametrize("pattern", [r"(?:ab)*+", r"(a|b)++", r"(?:a)?+", r"(a){2,3}+", r"(?>a)"])
def test_what_is_looked_for_is_found(pattern: str) -> None:
    assert _GROUP_THAT_KEEPS.search(pattern)


@pytest.mark.parametrize("pattern", [r"[ab]*+", r"(?:ab)*", r"(a|b)+", r"\w++", r"(a)+b", r"(?:a*+b)*"])
def test_what_is_not_looked_for_is_not_found(pattern: str) -> None:
    assert not _GROUP_THAT_KEEPS.search(pattern)


def test_no_group_is_possessive() -> None:
    # CPython before 3.11.5, that of Debian 12 among them, does not step back to where the last round of such a
    # group began when it fails: "a." was a whole (?:[a-z]++(?:\.[a-z]++)*+) there. Single characters are well.
    found = [
        f"{path.relative_to(_ROOMS)}: {line.strip()}"
        for path in sorted(_ROOMS.rglob("*.py"))
        for line in path.read_text().splitlines()
        if _GROUP_THAT_KEEPS.search(line)
    ]
    assert found == []

"""The documents agree with the code: what they name exists, and what exists they name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = sorted(path for path in (ROOT / "mailserver").rglob("*.py") if path.name != "__init__.py")


def test_every_rfc_in_the_code_has_a_row() -> None:
    cited = {number for path in CODE for number in re.findall(r"RFC (\d+)", path.read_text())}
    rows = set(re.findall(r"^RFC (\d+)\b", (ROOT / "docs" / "standards.rst").read_text(), re.MULTILINE))
    assert cited - rows == set()


def test_every_module_named_as_a_place_of_a_standard_exists() -> None:
    places = re.findall(
        r"``([a-z0-9_]+/[a-z0-9_/]*(?:\.py)?)``", (ROOT / "docs" / "standards.rst").read_text()
    )
    assert [place for place in places if not (ROOT / "mailserver" / place).exists()] == []


def test_the_rooms_of_the_architecture_are_the_modules_of_the_tree() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text()
    named = set(re.findall(r"^\| ``([a-z0-9_/]+\.py)``", text, re.MULTILINE))
    assert named == {str(path.relative_to(ROOT / "mailserver")) for path in CODE}


def test_every_event_of_the_journal_is_explained_to_the_operator() -> None:
    from mailserver import journal

    events = set(re.findall(r'_write\(\s*"(\w+)"', Path(journal.__file__).read_text()))
    for text in ((ROOT / "docs" / "operations.rst").read_text(), journal.__doc__ or ""):
        assert [event for event in sorted(events) if f"``{event}``" not in text] == []

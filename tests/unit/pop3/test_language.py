"""What is said, and in which language."""

import ast
import re
from pathlib import Path

import pytest

from mailserver import pop3
from mailserver.pop3 import language
from mailserver.pop3.language import LANGUAGES, choose, phrase


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("fr-CA", "fr"),
        ("fr-x-private", "fr"),
        ("*", "en"),
        ("de", None),
        ("f", None),
        ("", None),
        ("-", None),
        ("fr-*", "fr"),
        ("*-fr", None),
        ("français", None),
    ],
)
def test_lookup(wanted: str, tag: str | None) -> None:
    assert choose(wanted) == tag


def test_every_text_is_there_in_every_language_with_the_same_facts() -> None:
    for texts in language._TEXTS.values():
        assert set(texts) == set(LANGUAGES)
        facts = [set(re.findall(r"\{(\w+)\}", text)) for text in texts.values()]
        assert all(found == facts[0] for found in facts)
        assert texts["en"].isascii()
        assert all(text.isprintable() and "[" not in text for text in texts.values())


def test_every_key_is_used_and_every_key_used_is_there() -> None:
    """A key is a string that stands in the package's source."""
    used: set[str] = set()
    for path in Path(pop3.__file__).parent.glob("*.py"):
        if path.name != "language.py":
            tree = ast.parse(path.read_text("utf-8"))
            used |= {
                n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    assert set(language._TEXTS) <= used


def test_facts_are_filled_in() -> None:
    assert phrase("fr", "bye-removed", count=3) == "Au revoir, 3 supprimés"

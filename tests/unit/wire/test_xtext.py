"""xtext and its UTF-8 sister."""

import pytest

from mailserver.wire.syntax import BadSyntax
from mailserver.wire.xtext import from_unitext, from_xtext, to_xtext


@pytest.mark.parametrize(
    ("text", "encoded"), [("a+b=c d", "a+2Bb+3Dc+20d"), ("plain@d", "plain@d"), ("~!", "~!")]
)
def test_there_and_back(text: str, encoded: str) -> None:
    assert to_xtext(text) == encoded
    assert from_xtext(encoded) == text


@pytest.mark.parametrize("text", ["", "a b", "a=b", "a+", "a+G0", "a+0D+0A", "a\n", "+80", "a+2B+" * 100_000])
def test_no_xtext(text: str) -> None:
    with pytest.raises(BadSyntax):
        from_xtext(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a=b", "a+b", "\\", "\\x{1}", "\\x{85}", "\\x{2028}", "\\x{110000}"]
)
def test_no_unitext(text: str) -> None:
    with pytest.raises(BadSyntax):
        from_unitext(text)


def test_unitext() -> None:
    assert from_unitext("ü\\x{5C}\\x{2B}@d") == "ü\\+@d"

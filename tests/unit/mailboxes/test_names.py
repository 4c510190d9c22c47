"""The mapping between account names and paths: readable, safe, injective, both ways."""

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mailboxes.names import name_of, path_of

READABLE = {
    "alice@example.lan": "example.lan/alice",
    "a.b+c=d-e_f@example.lan": "example.lan/a.b+c=d-e_f",
    "müller@xn--mller-kva.example": "xn--mller-kva.example/müller",
    "用户@example.lan": "example.lan/用户",
    "Alice@example.lan": "example.lan/%41lice",
    "../x@example.lan": "example.lan/%2E.%2Fx",
    "-rf@example.lan": "example.lan/%2Drf",
    ".@example.lan": "example.lan/%2E",
    "a b@example.lan": "example.lan/a%20b",
    "a@b@example.lan": "example.lan/a%40b",
    "nul\0@example.lan": "example.lan/nul%00",
    "100%@example.lan": "example.lan/100%25",
    "straße@example.lan": "example.lan/stra%C3%9Fe",
    "alice": "%_/alice",
    "alice@": "%=/alice",
    "@example.lan": "example.lan/%=",
    "": "%_/%=",
    "cur@example.lan": "example.lan/cur",
    "postmaster@[192.0.2.1]": "%5B192.0.2.1%5D/postmaster",
}


@pytest.mark.parametrize(("name", "path"), READABLE.items())
def test_an_admin_can_read_it(name: str, path: str) -> None:
    assert str(path_of(name)) == path
    assert name_of(PurePosixPath(path)) == name


def test_a_long_part_goes_on_below() -> None:
    path = path_of("x" * 450 + "@example.lan")
    assert [len(part) for part in path.parts] == [11, 201, 201, 50]
    assert name_of(path) == "x" * 450 + "@example.lan"


@pytest.mark.parametrize(
    "path", ["alice", "example.lan/Alice", "a/b/c", "example.lan/%C3", "example.lan/a%2", "..", "", "a/b%/c%"]
)
def test_paths_that_are_nobodys(path: str) -> None:
    assert name_of(PurePosixPath(path)) is None


anything = st.text(st.characters(codec=None), max_size=300) | st.text(alphabet="aA.@/%-_=\0éé", max_size=12)


@given(anything)
@example("\ud800@x")
@example("é@x")
@example("가@x")
@example("a" * 199 + "é@x")
def test_every_name_has_a_safe_path_and_comes_back(name: str) -> None:
    path = path_of(name)
    assert name_of(path) == name
    assert not path.is_absolute()
    assert len(path.parts) >= 2
    for part in path.parts:
        assert 0 < len(part.encode()) <= 255
        assert part[0] not in ".-"
        assert not any(unicodedata.category(letter).startswith("C") for letter in part)
        assert unicodedata.normalize("NFC", part) == part
        assert "%broken-" not in part


@given(anything, anything)
@example("A@x", "a@x")
@example("é@x", "é@x")
@example("a@", "a")
def test_two_names_never_share_a_path(one: str, other: str) -> None:
    same = str(path_of(one)).casefold() == str(path_of(other)).casefold()
    assert same == (one == other)

"""The call that gives a file another name."""

from pathlib import Path

import pytest

from mailserver.mailboxes.renaming import Rename, find_rename


@pytest.fixture
def rename() -> Rename:
    found = find_rename()
    assert found is not None
    return found


def test_a_name_that_is_free(tmp_path: Path, rename: Rename) -> None:
    (tmp_path / "a").write_text("text")
    rename(f"{tmp_path}/a", f"{tmp_path}/\udcff")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "\udcff").read_text() == "text"


def test_a_name_that_is_taken(tmp_path: Path, rename: Rename) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").write_text("first")
    with pytest.raises(FileExistsError):
        rename(f"{tmp_path}/a", f"{tmp_path}/b")
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").read_text() == "first"


def test_no_file_or_no_directory(tmp_path: Path, rename: Rename) -> None:
    (tmp_path / "a").write_text("text")
    for source, target in (("x", "b"), ("a", "x/b")):
        with pytest.raises(FileNotFoundError):
            rename(f"{tmp_path}/{source}", f"{tmp_path}/{target}")

"""Directories that lie apart, where the file system can do so."""

from pathlib import Path

import pytest

from benchmarks import disk
from benchmarks.disk import spread


def test_what_is_made_there_can_be_used(tmp_path: Path) -> None:
    spread(tmp_path)
    spread(tmp_path)
    (tmp_path / "below").mkdir()


def test_a_file_system_that_cannot_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(disk.fcntl, "ioctl", refuse)
    spread(tmp_path)

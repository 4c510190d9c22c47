"""What the spool asks of the file system."""

import stat
from pathlib import Path

from mailserver.spool.disk import Disk


class RecordingDisk(Disk):
    def __init__(self) -> None:
        self.synced: list[Path] = []

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.synced.append(path)


def test_a_directory_that_was_made_is_durable_with_its_parents(tmp_path: Path) -> None:
    disk = RecordingDisk()
    disk.make_directory(tmp_path / "var" / "spool")
    assert disk.synced == [tmp_path, tmp_path / "var"]


def test_the_name_of_one_that_is_there_is_made_durable_too(tmp_path: Path) -> None:
    # A crash may have come between the making and the sync.
    disk = RecordingDisk()
    (tmp_path / "spool").mkdir(mode=0o755)
    disk.make_directory(tmp_path / "spool")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert disk.synced == [tmp_path]

"""Small files are there whole or not at all, and are the owner's alone."""

import fcntl
import os
import stat

import pytest

from mailserver.files import locked, put_file, sync_directory


def test_a_file_is_put_in_the_place_of_the_old_one(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"old")
    file.chmod(0o644)
    put_file(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_litter_of_a_crash_is_no_hindrance(tmp_path):
    (tmp_path / f".key.{os.getpid()}").write_bytes(b"half")
    put_file(tmp_path / "key", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    file = tmp_path / "key"
    file.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        put_file(file, b"new")
    assert file.read_bytes() == b"old"


def test_only_a_directory_is_synced_as_one(tmp_path):
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_directory(__file__)


def test_who_changes_a_directory_is_alone(tmp_path):
    with locked(tmp_path):
        other = os.open(tmp_path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)
    with locked(tmp_path):
        pass

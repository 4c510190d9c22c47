"""Which kernels' syncfs is relied on, and on which file systems; and the calls themselves."""

import os

import pytest

from mailserver.mailboxes.syncing import SyncsAll, find_syncfs, find_write_back, no_write_back
from tests.support.mounts import MountingMachine


@pytest.mark.parametrize(
    ("release", "relied_on"),
    [("5.8.0", True), ("5.7.19-1", False), ("4.19", False), ("6.1.0-38-amd64", True), ("10.0", True)],
)
def test_releases(release, relied_on):
    assert (find_syncfs(release) is not None) is relied_on


@pytest.mark.parametrize("release", ["", "6", "x.y", "6.x", "²·3"])
def test_strange_releases_are_not_relied_on(release):
    assert find_syncfs(release) is None


@pytest.mark.parametrize(
    ("kind", "does"),
    [
        ("ext4", True),
        ("xfs", True),
        ("btrfs", True),
        ("fuse.sshfs", False),
        ("overlay", False),
        ("nfs4", False),
    ],
)
def test_file_systems(tmp_path, kind, does):
    MountingMachine(tmp_path).mount(f"27 1 0:45 / /mail rw,relatime - {kind} something rw")
    assert SyncsAll(root=tmp_path)(5, os.makedev(0, 45)) is does


def test_where_nothing_can_be_found_out_it_is_not_relied_on(tmp_path):
    assert SyncsAll(root=tmp_path)(5, os.makedev(0, 45)) is False


def test_the_call(tmp_path):
    syncfs = find_syncfs("6.1.0")
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncfs(fd)


def test_write_back(tmp_path):
    write_back = find_write_back()
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x" * 100_000)
    write_back(fd, False)
    write_back(fd, True)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_back(fd, True)
    with pytest.raises(OSError, match="not implemented"):
        no_write_back(fd, True)

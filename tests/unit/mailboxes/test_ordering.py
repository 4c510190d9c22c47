"""Of which file systems it is known that no name reaches the disk before its content."""

import os
from pathlib import Path

import pytest

from mailserver.mailboxes.ordering import KeepsOrder
from tests.support.mounts import MountingMachine

DEVICE = os.makedev(254, 3)
EXT4 = "27 1 254:3 / / rw,relatime - ext4 /dev/vda3 rw,discard"
XFS = "27 1 254:3 / / rw,relatime shared:1 - xfs /dev/vda3 rw,attr2,inode64,noquota"
OPTIONS = "rw\nbarrier\ndata=ordered\ncommit=5\n"


class Machine(MountingMachine):
    """One whose file is asked about."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.now = 1000.0
        self.order = KeepsOrder(lambda: self.now, root)
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "sys/dev/block/254:3").symlink_to("../../devices/virtio1/block/vda/vda3")

    def ext4(self, options: str = OPTIONS, journal: str = "vda3-8") -> None:
        self.mount(EXT4)
        self.put("proc/fs/ext4/vda3/options", options)
        self.put(f"proc/fs/jbd2/{journal}/info", "")

    def asked(self, device: int = DEVICE) -> bool:
        return self.order(5, device)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_ext4_with_its_journal_inside(machine: Machine) -> None:
    machine.ext4()
    assert machine.asked()


@pytest.mark.parametrize(
    ("options", "journal"),
    [
        (OPTIONS.replace("ordered", "writeback"), "vda3-8"),
        (OPTIONS.replace("ordered", "journal"), "vda3-8"),
        ("rw\nbarrier\ncommit=5\n", "vda3-8"),
        (OPTIONS, "sdb1"),
        (OPTIONS, "vda4-8"),
    ],
)
def test_ext4_that_keeps_no_order(machine: Machine, options: str, journal: str) -> None:
    machine.ext4(options, journal)
    assert not machine.asked()


@pytest.mark.parametrize(
    ("options", "counted", "kept"),
    [
        (OPTIONS, "fc stats:\n0 commits\n0 ineligible\n0 numblks\n", True),
        (OPTIONS, "fc stats:\n49 commits\n0 ineligible\n49 numblks\n", False),
        (OPTIONS, "fc stats:\n0 commits\n1 ineligible\n0 numblks\n", False),
        (OPTIONS + "fc_debug_force\n", "", False),
    ],
)
def test_ext4_with_fast_commits(machine: Machine, options: str, counted: str, kept: bool) -> None:
    machine.ext4(options)
    machine.put("proc/fs/ext4/vda3/fc_info", counted)
    assert machine.asked() is kept


def test_xfs_all_on_one_device(machine: Machine) -> None:
    machine.mount(XFS)
    assert machine.asked()


@pytest.mark.parametrize("option", ["logdev=/dev/sdb1", "rtdev=/dev/sdc"])
def test_xfs_on_several_devices(machine: Machine, option: str) -> None:
    machine.mount(f"{XFS},{option}")
    assert not machine.asked()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "btrfs", "overlay", "nfs4", "fuse.ext4", "tmpfs"])
def test_other_file_systems(machine: Machine, kind: str) -> None:
    machine.ext4()
    machine.mount(EXT4.replace("ext4", kind))
    assert not machine.asked()


def test_a_file_that_another_file_system_shows(machine: Machine) -> None:
    machine.mount(XFS.replace("254:3", "0:45"))
    assert not machine.asked()


@pytest.mark.parametrize(
    "line", ["", "27", EXT4.replace(" - ", " ~ "), EXT4.replace("27", "28"), "27 1 254:3 / / rw - xfs"]
)
def test_what_cannot_be_understood_keeps_none(machine: Machine, line: str) -> None:
    machine.ext4()
    machine.mount(line)
    assert not machine.asked()


@pytest.mark.parametrize(
    "path", ["proc/self/fdinfo/5", "proc/self/mountinfo", "proc/fs/ext4/vda3/options", "sys/dev/block/254:3"]
)
def test_what_cannot_be_read_keeps_none(machine: Machine, path: str) -> None:
    machine.ext4()
    (machine.root / path).unlink()
    assert not machine.asked()


def test_strange_facts_of_a_descriptor(machine: Machine) -> None:
    machine.ext4()
    machine.put("proc/self/fdinfo/5", "nothing that is known\n")
    assert not machine.asked()


def test_each_device_is_remembered_for_a_minute(machine: Machine) -> None:
    machine.ext4()
    assert machine.asked()
    machine.mount(EXT4.replace("ext4", "ext2"))
    machine.now += 59
    assert machine.asked()
    assert not machine.asked(os.makedev(254, 4))
    machine.now += 1
    assert not machine.asked()


def test_this_machine_is_asked_without_trouble(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert KeepsOrder()(fd, os.fstat(fd).st_dev) in (True, False)
    os.close(fd)

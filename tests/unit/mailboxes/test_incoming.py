"""Groups and copies: one write, one sync, many links; and what happens when one of them fails."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mailserver.interfaces import MailboxFull, StorageFull, StorageTrouble
from mailserver.mailboxes import maildir
from mailserver.mailboxes.incoming import Copy, Incoming, commit
from mailserver.mailboxes.maildir import THE_DISK, Disk
from mailserver.mailboxes.quota import Limit
from mailserver.mailboxes.renaming import find_rename
from mailserver.mailboxes.ways import GROUP

_NONE = Limit()
TEXT = b"Subject: x\r\n\r\ntext\r\n"


class Yard:
    """Some mailboxes, and a record of what is done to the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[str] = []
        self.disk = evolve(
            THE_DISK,
            fsync=self.note("fsync", os.fsync),
            syncfs=self.note("syncfs", os.fsync),
            keeps_order=lambda fd, device: False,
            rename=None,
        )

    def in_order(self, **changes: Any) -> Disk:
        """A disk whose file system lets no name come before content that was written back."""

        def write_back(fd: int, wait: bool) -> None:
            self.done.append("wait" if wait else "begin")

        calls: dict[str, Any] = {"write_back": write_back, "link": self.note("link", os.link), **changes}
        return evolve(self.disk, keeps_order=lambda fd, device: True, **calls)

    def group(self, disk: Disk, count: int) -> list[Incoming]:
        """Messages for mailboxes that are there already, so that nothing but they are synced."""
        for number in range(count):
            maildir.prepare(self.root / f"u{number}", THE_DISK, lambda what, path: None)
        return [Incoming(self.copies(f"u{number}"), disk, TEXT) for number in range(count)]

    def note(self, name: str, call: Any, trouble: int = 0) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self.done.append(name)
            if trouble:
                raise OSError(trouble, os.strerror(trouble))
            return call(*arguments)

        return noted

    def copies(self, *names: str, limit: Limit = _NONE) -> list[Copy]:
        return [Copy(self.root / name, f"1.{name}", limit) for name in names]

    def commit(self, *incoming: Incoming, disk: Disk | None = None) -> list[list[Exception | None]]:
        def prepare(directory: Path) -> None:
            if directory.name == "cursed":
                raise OSError(errno.EACCES, "no")
            maildir.prepare(directory, THE_DISK, lambda what, path: None)

        return commit(incoming, disk or self.disk, prepare)

    def files(self, part: str = "new") -> dict[str, Path]:
        return {path.parent.parent.name: path for path in self.root.glob(f"*/{part}/*")}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_a_hundred_mailboxes_share_one_file(yard: Yard) -> None:
    names = [f"u{number}" for number in range(100)]
    assert yard.commit(Incoming(yard.copies(*names), yard.disk, TEXT)) == [[None] * 100]
    files = yard.files()
    assert sorted(files) == sorted(names)
    assert len({path.stat().st_ino for path in files.values()}) == 1
    assert not yard.files("tmp")
    assert yard.done == ["fsync", "syncfs"]  # the one file, all the directories


def test_a_group_is_synced_in_one_go_and_a_few_each_by_itself(yard: Yard) -> None:
    few = [Incoming(yard.copies(f"a{number}"), yard.disk, TEXT) for number in range(GROUP - 1)]
    yard.commit(*few)
    assert yard.done == ["fsync"] * 2 * len(few)
    yard.done.clear()
    yard.commit(*(Incoming(yard.copies(f"b{number}"), yard.disk, TEXT) for number in range(GROUP)))
    assert yard.done == ["syncfs", "syncfs"]


def test_a_syncfs_that_fails_is_made_up_for(yard: Yard) -> None:
    disk = evolve(yard.disk, syncfs=yard.note("syncfs", os.fsync, errno.EIO))
    incoming = [Incoming(yard.copies(f"b{number}"), disk, TEXT) for number in range(GROUP)]
    assert yard.commit(*incoming, disk=disk) == [[None]] * GROUP
    assert yard.done == ["syncfs", *["fsync"] * GROUP] * 2


def test_no_syncfs(yard: Yard) -> None:
    disk = evolve(yard.disk, syncfs=None)
    yard.commit(*(Incoming(yard.copies(f"b{number}"), disk, TEXT) for number in range(GROUP)), disk=disk)
    assert yard.done == ["fsync"] * GROUP * 2


def test_what_came_in_pieces_is_synced_by_itself(yard: Yard) -> None:
    for number in range(GROUP):
        yard.commit(Incoming(yard.copies(f"b{number}"), yard.disk, TEXT))
    yard.done.clear()
    pieces = Incoming([Copy(yard.root / "b0", "2.x", Limit())], yard.disk, None)
    pieces.begin(len(TEXT))
    pieces.write(TEXT)
    group = [
        Incoming([Copy(yard.root / f"b{number}", "3.x", Limit())], yard.disk, TEXT) for number in range(4)
    ]
    yard.commit(pieces, *group)
    assert sorted(yard.done) == ["fsync", "syncfs", "syncfs"]


def test_a_message_for_one_mailbox_is_moved_there(yard: Yard) -> None:
    disk = yard.in_order(rename=yard.note("rename", find_rename()))
    yard.commit(*yard.group(disk, 2), disk=disk)
    assert yard.done == ["begin", "begin", "wait", "wait", "rename", "rename", *["fsync"] * 4]
    assert sorted(yard.files()) == ["u0", "u1"]
    assert not yard.files("tmp")
    yard.done.clear()
    yard.commit(
        Incoming([Copy(yard.root / f"u{n}", "2.x", Limit()) for n in range(2)], disk, TEXT), disk=disk
    )
    assert yard.done == ["wait", "link", "link", *["fsync"] * 3]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_where_nothing_can_be_moved_in_one_go_it_is_linked(yard: Yard, code: int) -> None:
    disk = yard.in_order(rename=yard.note("rename", find_rename(), code))
    assert yard.commit(*yard.group(disk, 1), disk=disk) == [[None]]
    assert yard.done == ["wait", "rename", "link", "fsync", "fsync"]
    assert sorted(yard.files()) == ["u0"]
    assert not yard.files("tmp")


def test_what_was_moved_is_taken_back_where_it_cannot_be_made_durable(yard: Yard) -> None:
    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("u1/new"):
            raise OSError(errno.EIO, "broken")

    disk = yard.in_order(fsync=fsync, rename=find_rename())
    ((first,), (second,)) = yard.commit(*yard.group(disk, 2), disk=disk)
    assert first is None
    assert isinstance(second, StorageTrouble)
    assert sorted(yard.files()) == ["u0"]
    assert not yard.files("tmp")


def test_what_is_written_back_needs_one_sync(yard: Yard) -> None:
    disk = yard.in_order()
    yard.commit(*yard.group(disk, GROUP), disk=disk)
    assert yard.done == [*["begin"] * GROUP, *["wait"] * GROUP, *["link"] * GROUP, "syncfs"]
    assert len(yard.files()) == GROUP
    assert not yard.files("tmp")


def test_a_few_that_are_written_back_are_synced_each_behind_the_names(yard: Yard) -> None:
    disk = yard.in_order()
    yard.commit(*yard.group(disk, 2), disk=disk)
    assert yard.done == ["begin", "begin", "wait", "wait", "link", "link", *["fsync"] * 4]
    yard.done.clear()
    yard.commit(Incoming([Copy(yard.root / "u0", "2.x", Limit())], disk, TEXT), disk=disk)
    assert yard.done == ["wait", "link", "fsync", "fsync"]


def test_one_file_for_many_mailboxes_is_written_back(yard: Yard) -> None:
    disk = yard.in_order()
    names = [f"u{number}" for number in range(GROUP)]
    assert yard.commit(Incoming(yard.copies(*names), disk, TEXT), disk=disk) == [[None] * GROUP]
    assert yard.done == ["wait", *["link"] * GROUP, "syncfs"]


def test_a_syncfs_that_fails_behind_the_names_is_made_up_for(yard: Yard) -> None:
    disk = yard.in_order(syncfs=yard.note("syncfs", os.fsync, errno.EIO))
    assert yard.commit(*yard.group(disk, GROUP), disk=disk) == [[None]] * GROUP
    assert yard.done[-2 * GROUP - 1 :] == ["syncfs", *["fsync"] * GROUP * 2]


def test_a_file_that_cannot_be_synced_behind_its_name_is_taken_back(yard: Yard) -> None:
    def fsync(fd: int) -> None:
        if "/u1/tmp/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "broken")

    disk = yard.in_order(fsync=fsync, syncfs=yard.note("syncfs", os.fsync, errno.EIO))
    failures = [one for (one,) in yard.commit(*yard.group(disk, GROUP), disk=disk)]
    assert [type(failure) for failure in failures] == [
        type(None),
        StorageTrouble,
        *[type(None)] * (GROUP - 2),
    ]
    assert "u1" not in yard.files()
    assert not yard.files("tmp")


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, StorageTrouble), (errno.ENOSPC, StorageFull)])
def test_a_file_that_cannot_be_written_back_fails_alone(
    yard: Yard, code: int, kind: type[Exception], wait: bool
) -> None:
    """It is not tried again: the kernel tells this once, and an ``fsync`` would find nothing wrong."""

    def write_back(fd: int, waiting: bool) -> None:
        if waiting is wait and "/u1/tmp/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))

    disk = yard.in_order(write_back=write_back)
    failures = [one for (one,) in yard.commit(*yard.group(disk, GROUP + 1), disk=disk)]
    assert [type(failure) for failure in failures] == [type(None), kind, *[type(None)] * (GROUP - 1)]
    assert yard.done == [*["link"] * GROUP, "syncfs"]
    assert sorted(yard.files()) == ["u0", *(f"u{number}" for number in range(2, GROUP + 1))]
    assert not yard.files("tmp")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
@pytest.mark.parametrize("count", [1, 2, GROUP])
def test_without_the_call_contents_are_synced_before_names(yard: Yard, code: int, count: int) -> None:
    def write_back(fd: int, wait: bool) -> None:
        raise OSError(code, os.strerror(code))

    disk = yard.in_order(write_back=write_back)
    assert yard.commit(*yard.group(disk, count), disk=disk) == [[None]] * count
    names = ["syncfs"] if count >= GROUP else ["fsync"] * count
    assert yard.done == [*["fsync"] * count, *["link"] * count, *names]


def test_no_order_is_relied_on_without_syncfs(yard: Yard) -> None:
    """So old a kernel's write-back may skip what is being written already."""
    disk = yard.in_order(syncfs=None)
    yard.commit(*yard.group(disk, 2), disk=disk)
    assert yard.done == ["fsync", "fsync", "link", "link", "fsync", "fsync"]


def test_what_came_in_pieces_is_synced_before_its_name_all_the_same(yard: Yard) -> None:
    disk = yard.in_order()
    group = yard.group(disk, 2)
    pieces = Incoming([Copy(yard.root / "u0", "2.x", Limit())], disk, None)
    pieces.begin(len(TEXT))
    pieces.write(TEXT)
    yard.commit(pieces, *group, disk=disk)
    assert yard.done.index("fsync") < yard.done.index("link")
    assert sorted(yard.done) == [*["begin"] * 2, *["fsync"] * 5, *["link"] * 3, *["wait"] * 2]


def test_each_file_system_is_seen_to_by_itself(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the one of ``u0`` and ``u1`` keeps the order, and that of the others does not."""
    real = os.fstat

    def fstat(fd: int) -> Any:
        device = (
            1 if os.readlink(f"/proc/self/fd/{fd}").startswith((f"{yard.root}/u0", f"{yard.root}/u1")) else 2
        )
        return os.stat_result((*real(fd)[:2], device, *real(fd)[3:]))

    disk = evolve(yard.in_order(), keeps_order=lambda fd, device: device == 1)
    group = yard.group(disk, GROUP + 2)
    monkeypatch.setattr(os, "fstat", fstat)
    assert yard.commit(*group, disk=disk) == [[None]] * len(group)
    before, after = yard.done[: yard.done.index("link")], yard.done[yard.done.index("link") :]
    assert sorted(before) == ["begin", "begin", "syncfs", "wait", "wait"]
    assert sorted(after) == [*["fsync"] * 4, *["link"] * len(group), "syncfs"]


def test_a_file_that_cannot_even_be_looked_at_fails_alone(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a file system was shut down because of an error."""
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        if "/u1/tmp/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "broken")
        return real(fd)

    group = yard.group(yard.disk, GROUP)
    monkeypatch.setattr(os, "fstat", fstat)
    failures = [one for (one,) in yard.commit(*group)]
    assert [type(failure) for failure in failures] == [
        type(None),
        StorageTrouble,
        *[type(None)] * (GROUP - 2),
    ]
    assert not yard.files("tmp")


def test_one_mailboxs_trouble_is_not_anothers(yard: Yard) -> None:
    copies = [
        *yard.copies("cursed", "alice"),
        *yard.copies("full", limit=Limit(5)),
        *yard.copies("bob"),
    ]
    ((cursed, alice, full, bob),) = yard.commit(Incoming(copies, yard.disk, TEXT))
    assert type(cursed) is StorageTrouble
    assert type(full) is MailboxFull
    assert alice is bob is None
    assert sorted(yard.files()) == ["alice", "bob"]
    assert not yard.files("tmp")


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """Nothing can be created in the ``tmp/`` of this mailbox: another user's, a quota, a file system."""
    real = os.open

    def refused(path: Any, flags: int, *more: Any) -> int:
        if f"/{name}/tmp/" in str(path):
            raise OSError(code, os.strerror(code))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refused)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOENT, errno.EIO])
def test_a_mailbox_that_cannot_have_the_file_leaves_it_to_the_next(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, "ann", code)
    incoming = Incoming(yard.copies("ann", "bob", "carl"), yard.disk, TEXT)
    ((ann, bob, carl),) = yard.commit(incoming)
    assert isinstance(ann, StorageTrouble)
    assert (bob, carl) == (None, None)
    assert {path.read_bytes() for path in yard.files().values()} == {TEXT.replace(b"\r\n", b"\n")}
    assert sorted(yard.files()) == ["bob", "carl"]
    assert not yard.files("tmp")


def test_what_comes_in_pieces_begins_where_it_can(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = yard.copies("ann", "bob")
    for copy in copies:
        maildir.prepare(copy.directory, THE_DISK, lambda what, path: None)
    refuse(monkeypatch, "ann", errno.EACCES)
    incoming = Incoming(copies, yard.disk, None)
    incoming.begin(len(TEXT))
    incoming.write(TEXT)
    ((ann, bob),) = yard.commit(incoming)
    assert isinstance(ann, StorageTrouble)
    assert bob is None
    refuse(monkeypatch, "carl", errno.EACCES)
    nobodys = Incoming(yard.copies("carl"), yard.disk, None)
    with pytest.raises(PermissionError):
        nobodys.begin(len(TEXT))


@pytest.mark.parametrize("steps", [[-1], [5, -1]])
def test_a_disk_that_fills_up_while_it_is_written(yard: Yard, steps: list[int]) -> None:
    left = iter(steps)

    def write(fd: int, data: Any) -> int:
        step = next(left, len(data))
        if step < 0:
            raise OSError(errno.ENOSPC, "full")
        return os.write(fd, data[:step])

    disk = evolve(yard.disk, write=write)
    ((ann, bob),) = yard.commit(Incoming(yard.copies("ann", "bob"), disk, TEXT), disk=disk)
    assert isinstance(ann, StorageFull)
    assert bob is None
    (path,) = yard.files().values()
    assert path.read_bytes() == TEXT.replace(b"\r\n", b"\n")
    assert f",S={len(TEXT) - 3},W={len(TEXT)}" in path.name
    assert not yard.files("tmp")


def test_nobody_left(yard: Yard) -> None:
    copies = [*yard.copies("cursed"), *yard.copies("full", limit=Limit(5))]
    ((cursed, full),) = yard.commit(Incoming(copies, yard.disk, TEXT))
    assert type(cursed) is StorageTrouble
    assert type(full) is MailboxFull
    assert not yard.files("tmp")
    assert not yard.files()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK])
def test_where_nothing_can_be_linked_each_has_its_own(yard: Yard, code: int) -> None:
    disk = evolve(yard.disk, link=yard.note("link", os.link, code))
    for names in (("alice", "bob", "carol"), ("dora",)):
        assert yard.commit(Incoming(yard.copies(*names), disk, TEXT), disk=disk) == [[None] * len(names)]
    files = yard.files()
    assert len({path.stat().st_ino for path in files.values()}) == 4
    assert {path.read_bytes() for path in files.values()} == {TEXT.replace(b"\r\n", b"\n")}
    assert not yard.files("tmp")


def test_a_copy_that_cannot_be_made_fails_alone(yard: Yard) -> None:
    calls = iter([errno.EXDEV, 0])

    def link(source: str, target: str) -> None:
        if code := next(calls):
            raise OSError(code, "no")
        os.link(source, target)

    disk = evolve(yard.disk, link=link)
    yard.commit(Incoming(yard.copies("alice"), yard.disk, b""))
    (yard.root / "alice" / "tmp" / "1.alice.copy").write_bytes(b"in the way")
    copies = yard.copies("bob", "carol")
    copies[0] = Copy(yard.root / "alice", "1.alice", Limit())
    ((alice, carol),) = yard.commit(Incoming(copies, disk, TEXT), disk=disk)
    assert isinstance(alice, StorageTrouble)
    assert carol is None


def test_a_directory_that_cannot_be_synced_takes_its_own_back(yard: Yard) -> None:
    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("bob/new"):
            raise OSError(errno.ENOSPC, "full")

    disk = evolve(yard.disk, fsync=fsync)
    ((alice, bob),) = yard.commit(Incoming(yard.copies("alice", "bob"), disk, TEXT), disk=disk)
    assert alice is None
    assert isinstance(bob, StorageFull)
    assert sorted(yard.files()) == ["alice"]


def test_flags_and_times_of_mail_from_elsewhere(yard: Yard) -> None:
    copy = Copy(yard.root / "alice", "1.x", Limit(), "FS")
    assert yard.commit(Incoming([copy], yard.disk, TEXT, 1_500_000_000.0)) == [[None]]
    path = yard.files("cur")["alice"]
    assert path.name == "1.x,S=17,W=20:2,FS"
    assert path.stat().st_mtime == 1_500_000_000.0

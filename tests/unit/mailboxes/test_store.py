"""Deliveries and logins on a real disk: what is promised, and every fault that can be played."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import defer, reactor
from twisted.internet.threads import deferToThread
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import mailserver.mailboxes.store as store_module
from mailserver import journal
from mailserver.handing import Outlet
from mailserver.interfaces import (
    Account,
    IContent,
    IMailStore,
    MailboxFull,
    MaildropInUse,
    StorageFull,
    StorageTrouble,
)
from mailserver.mailboxes.maildir import THE_DISK, Disk
from mailserver.mailboxes.pace import LEAST
from mailserver.mailboxes.renaming import find_rename
from mailserver.mailboxes.store import MailStore

LINKING = evolve(THE_DISK, rename=None)
ALICE = Account("alice@example.lan")
BOB = Account("bob@example.lan")
HEADER = b"Return-Path: <s@x.example>\r\n"
BODY = b"Subject: hi\r\n\r\n.dot\r\nbye\r\n"


@implementer(IContent)
class Content:
    """Content that is handed over whole, or only piece by piece, with a fault at an offset."""

    def __init__(
        self, data: bytes, streamed: bool = False, fault: Any = None, is_in_pairs: bool = False
    ) -> None:
        self.data, self.streamed, self.fault, self.is_in_pairs = data, streamed, fault, is_in_pairs
        self.size = len(data)
        self.largest = 0

    def whole(self) -> bytes | None:
        return None if self.streamed else self.data

    async def read(self, offset: int, length: int) -> bytes:
        self.largest = max(self.largest, length)
        if self.fault is not None and offset:
            if isinstance(self.fault, defer.Deferred):
                await self.fault
            raise self.fault
        return self.data[offset : offset + length]


def failing(code: int, times: int = 1, after: int = 0) -> Any:
    """A system call that fails with ``code`` some ``times``, after some calls went well."""
    calls = 0

    def call(real: Any) -> Any:
        def play(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if after < calls <= after + times:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        return play

    return call


class StoreCase(TestCase):
    disk: Disk = THE_DISK

    def setUp(self) -> None:
        place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        self.root = Path(place) / "mail"
        self.now = 1_700_000_000.5
        self.store = self.make(self.disk)

    def make(self, disk: Disk, **options: Any) -> MailStore:
        store = self.build(disk, **options)
        store.start()
        return store

    def build(self, disk: Disk = THE_DISK, **options: Any) -> MailStore:
        """A store whose threads do not run yet: what is given to it meanwhile makes one group."""
        call: Any = reactor.callFromThread  # type: ignore[attr-defined]
        store = MailStore(self.root, "mail.example.lan", lambda: self.now, call, disk, **options)
        self.addCleanup(store.stop)
        return store

    def run_(self, waiting: Awaitable[Any]) -> "defer.Deferred[Any]":
        return defer.ensureDeferred(waiting)  # type: ignore[arg-type]

    def box(self, account: Account = ALICE) -> Path:
        local, _, domain = account.name.partition("@")
        return self.root / domain / local

    def files(self, part: str = "new", account: Account = ALICE) -> list[Path]:
        return sorted((self.box(account) / part).iterdir())

    def assert_nothing_remains(self, account: Account = ALICE) -> None:
        for part in ("tmp", "new", "cur"):
            assert not self.files(part, account)


class Deliveries(StoreCase):
    def test_interface(self) -> None:
        assert verifyObject(IMailStore, self.store)

    async def test_a_message(self) -> None:
        os.umask(os.umask(0o022))
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        (file,) = self.files()
        text = (HEADER + BODY).replace(b"\r\n", b"\n")
        assert file.read_bytes() == text
        assert file.name.startswith("1700000000.M500000P")
        assert file.name.endswith(f".mail.example.lan,S={len(text)},W={len(HEADER + BODY)}")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for directory in (self.box(), self.box() / "new", self.box().parent, self.root):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert not self.files("tmp")

    async def test_many_share_their_syncs_and_all_arrive(self) -> None:
        synced: list[str] = []

        def fsync(fd: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.fsync(fd)

        store = self.build(evolve(THE_DISK, fsync=fsync, syncfs=None))
        waiting = [
            self.run_(store.deliver(account, Content(BODY + b"%d\r\n" % n), HEADER))
            for n in range(20)
            for account in (ALICE, BOB)
        ]
        store.start()
        await defer.gatherResults(waiting)
        assert len(self.files()) == len(self.files(account=BOB)) == 20
        assert synced.count(str(self.box() / "new")) == synced.count(str(self.box(BOB) / "new")) == 1
        assert sum("alice/tmp/" in path or "bob/tmp/" in path for path in synced) == 40

    async def test_odd_contents(self) -> None:
        for data, on_disk in {
            b"": b"",
            b"no end": b"no end\n",
            b"\r\n": b"\n",
            b"a\r": b"a\r\n",
            b"a\r\r\nb": b"a\r\nb\n",
            b".\r\n..\r\n": b".\n..\n",
        }.items():
            for streamed in (False, True):
                await self.store.deliver(ALICE, Content(data, streamed), b"")
                (file,) = self.files()
                assert file.read_bytes() == on_disk, (data, streamed)
                drop = await self.store.maildrop(ALICE)
                assert drop.listMessages() == [len(on_disk.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))]
                drop.deleteMessage(0)
                await drop.sync()
                drop.logout()

    async def test_thirty_megabytes_in_pieces(self) -> None:
        # Pieces must not fall on line ends, or a CRLF cut in two would go unnoticed.
        data = b"".join(b"%d %s\r\n" % (n, b"x" * (n % 91)) for n in range(600_000))
        content = Content(data, streamed=True)
        await self.store.deliver(ALICE, content, HEADER)
        (file,) = self.files()
        assert len(data) > 30_000_000
        assert file.read_bytes() == (HEADER + data).replace(b"\r\n", b"\n")
        assert file.name.endswith(f",W={len(HEADER + data)}")
        assert content.largest <= 256 * 1024

    async def test_what_a_crash_left_is_invisible_and_swept_when_it_is_old(self) -> None:
        for name, age in {"old": 40 * 3600, "young": 3600}.items():
            path = self.box() / "tmp" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half a mess")
            self.now = path.stat().st_ctime + age
        self.now = (self.box() / "tmp" / "old").stat().st_ctime + 37 * 3600
        os.utime(self.box() / "tmp" / "young", (self.now, self.now))
        drop = await self.store.maildrop(ALICE)
        assert drop.listMessages() == []
        assert [path.name for path in self.files("tmp")] == ["young"]

    async def test_a_mailbox_that_goes_while_the_server_runs_is_made_anew(self) -> None:
        said: list[Any] = []
        self.patch(self.store, "_say", lambda what, path: said.append(path.name.partition("%")[0]))
        for streamed in (False, True):
            for part in ("", "tmp", "new", "cur"):
                await self.store.deliver(ALICE, Content(BODY, streamed), HEADER)
                shutil.rmtree(self.box() / part)
                await self.store.deliver(ALICE, Content(BODY, streamed), HEADER)
                assert self.files(), (part, streamed)
        for part in ("tmp", "new"):
            shutil.rmtree(self.box() / part)
            (self.box() / part).write_bytes(b"not a directory")
            await self.store.deliver(ALICE, Content(BODY), HEADER)
        assert said == ["tmp", "new"]
        shutil.rmtree(self.box())
        (self.box()).symlink_to("/nowhere/at/all")
        waiting = self.run_(self.store.deliver(ALICE, Content(BODY), HEADER))
        await self.assertFailure(waiting, StorageTrouble)

    async def test_killed_between_tmp_and_new_leaves_litter_only(self) -> None:
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from mailserver.mailboxes.incoming import Copy, Incoming, commit\n"
            "from mailserver.mailboxes.maildir import Disk, prepare\n"
            "from mailserver.mailboxes.quota import Limit\n"
            "disk = Disk(link=lambda source, target: os.kill(os.getpid(), 9))\n"
            "commit([Incoming([Copy(Path(sys.argv[1]), '1.x', Limit())], disk, b'text')], disk,\n"
            "       lambda path: prepare(path, disk, print))\n"
        )
        command = [sys.executable, "-c", script, str(self.box())]
        died = await deferToThread(subprocess.run, command, check=False)
        assert died.returncode == -9
        assert len(self.files("tmp")) == 1
        drop = await self.store.maildrop(ALICE)
        assert drop.listMessages() == []
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        assert len(self.files()) == 1

    async def test_each_step_is_durable_before_the_next(self) -> None:
        steps: list[str] = []

        def fsync(fd: int) -> None:
            steps.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).partition(".")[0])

        def link(source: str, target: str) -> None:
            steps.append("link")
            os.link(source, target)

        def write_back(fd: int, wait: bool) -> None:
            steps.append("write back")

        def syncfs(fd: int) -> None:
            steps.append("sync all")

        disk = evolve(LINKING, fsync=fsync, syncfs=syncfs, link=link, write_back=write_back)
        store = self.make(evolve(disk, keeps_order=lambda fd, device: False))
        await store.deliver(ALICE, Content(BODY), HEADER)
        # The directories that were made (each by its parent), then the file, its name, and that name's durability.
        made = ["sync mail", "sync example", *["sync alice"] * 3]
        assert steps[1:] == [*made, "sync all", "link", "sync all"]
        shutil.rmtree(self.root)
        steps.clear()
        store = self.make(evolve(disk, keeps_order=lambda fd, device: True))
        await store.deliver(ALICE, Content(BODY), HEADER)
        assert steps[1:] == [*made, "write back", "link", "sync all"]
        shutil.rmtree(self.root)
        steps.clear()
        store = self.make(evolve(disk, syncfs=None))
        await store.deliver(ALICE, Content(BODY), HEADER)
        assert steps[1:] == [*made, "sync 1700000000", "link", "sync new"]

    async def test_where_syncfs_does_not_make_all_durable_each_is_synced(self) -> None:
        together: list[int] = []
        synced: list[int] = []
        disk = evolve(THE_DISK, syncfs=together.append, fsync=synced.append)
        store = self.make(evolve(disk, syncs_all=lambda fd, device: False))
        await store.deliver(ALICE, Content(BODY), HEADER)
        # The parents of the six directories that were made; the file; its name.
        assert (len(synced), together) == (6 + 2, [])
        shutil.rmtree(self.root)
        synced.clear()
        store = self.make(evolve(disk, syncs_all=lambda fd, device: True))
        await store.deliver(ALICE, Content(BODY), HEADER)
        assert (len(synced), len(together)) == (6, 2)

    async def test_groups_are_as_large_as_the_disk_wants_them(self) -> None:
        time = 0.0

        def takes(seconds: float, real: Any) -> Any:
            def call(*arguments: Any) -> Any:
                nonlocal time
                time += seconds
                return real(*arguments)

            return call

        def nothing(*arguments: Any) -> None:
            """Nothing fails, and nothing is written."""

        for wait, size in ((0.00001, LEAST), (0.02, 128)):
            waits = takes(wait, nothing)
            for syncfs, order in ((waits, False), (waits, True), (None, False)):
                disk = evolve(
                    THE_DISK,
                    write=takes(0.0001, os.write),
                    fsync=waits,
                    syncfs=syncfs,
                    keeps_order=lambda fd, device, order=order: order,
                    write_back=waits,
                )
                store = self.make(disk, clock=lambda: time)
                assert store._writer.most == 128
                for _ in range(60):
                    await store.deliver(ALICE, Content(BODY), HEADER)
                assert store._writer.most == size, (wait, syncfs, order)

    async def test_a_corrupt_maildir_is_set_aside_and_said(self) -> None:
        said: list[Any] = []
        self.patch(self.store, "_say", lambda what, path: said.append(path.name.partition("%")[0]))
        self.box().mkdir(parents=True)
        (self.box() / "new").write_bytes(b"not a directory")
        (self.box() / "tmp").write_bytes(b"")
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        assert len(self.files()) == 1
        assert sorted(said) == ["new", "tmp"]
        (kept,) = self.box().glob("new%broken-*")
        assert kept.read_bytes() == b"not a directory"

    async def test_a_file_where_the_mailbox_should_be(self) -> None:
        self.box().parent.mkdir(parents=True)
        self.box().write_bytes(b"kept")
        self.patch(self.store, "_say", lambda what, path: None)
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        assert len(self.files()) == 1
        (kept,) = self.box().parent.glob("alice%broken-*")
        assert kept.read_bytes() == b"kept"

    async def test_a_disk_that_is_not_mounted_is_not_delivered_past(self) -> None:
        for link in (self.root, self.box().parent, self.box(), self.box() / "new"):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/nowhere/at/all")
            waiting = self.run_(self.store.deliver(ALICE, Content(BODY), HEADER))
            await self.assertFailure(waiting, StorageTrouble)
            assert link.is_symlink()
            link.unlink()
        await self.store.deliver(ALICE, Content(BODY), HEADER)

    async def test_what_is_set_aside_is_said(self) -> None:
        said: list[Any] = []
        self.patch(journal, "trouble", lambda where, what, **fields: said.append((where, what)))
        self.box().mkdir(parents=True)
        (self.box() / "cur").write_bytes(b"")
        (await self.store.maildrop(ALICE)).logout()
        for _ in range(3):
            await self.store._in_thread(lambda: None)
        assert said == [("mailbox", "set aside: not a directory")]

    async def test_a_name_that_is_too_long_for_any_disk(self) -> None:
        account = Account("x" * 6000 + "@example.lan")
        await self.assertFailure(self.run_(self.store.deliver(account, Content(BODY), b"")), StorageTrouble)


class Faults(StoreCase):
    async def check(self, disk: Disk, error: type[Exception]) -> None:
        for streamed in (False, True):
            store = self.make(disk)
            waiting = self.run_(store.deliver(ALICE, Content(BODY, streamed), HEADER))
            await self.assertFailure(waiting, error)
            self.assert_nothing_remains()

    async def test_disk_full(self) -> None:
        for code in (errno.ENOSPC, errno.EDQUOT):
            await self.check(evolve(THE_DISK, write=failing(code, 2)(os.write)), StorageFull)

    async def test_no_room_for_the_name(self) -> None:
        await self.check(evolve(THE_DISK, rename=failing(errno.ENOSPC, 2)(find_rename())), StorageFull)
        await self.check(evolve(LINKING, link=failing(errno.ENOSPC, 2)(os.link)), StorageFull)

    async def test_sync_fails(self) -> None:
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        self.files()[0].unlink()
        for after in (0, 1):  # the file's, the directory's
            for streamed in (False, True):
                fsync = failing(errno.EIO, 1, after)(os.fsync)
                disk = evolve(THE_DISK, fsync=fsync, syncfs=failing(errno.EIO, 99)(os.fsync))
                store = self.make(disk)
                waiting = self.run_(store.deliver(ALICE, Content(BODY, streamed), HEADER))
                await self.assertFailure(waiting, StorageTrouble)
                self.assert_nothing_remains()

    async def test_write_back_fails(self) -> None:
        for code, error in ((errno.EIO, StorageTrouble), (errno.ENOSPC, StorageFull)):
            await self.store.deliver(ALICE, Content(BODY), HEADER)
            self.files()[0].unlink()
            disk = evolve(
                THE_DISK,
                write_back=failing(code)(lambda fd, wait: None),
                keeps_order=lambda fd, device: True,
            )
            waiting = self.run_(self.make(disk).deliver(ALICE, Content(BODY), HEADER))
            await self.assertFailure(waiting, error)
            self.assert_nothing_remains()

    async def test_short_writes_are_gone_on_with(self) -> None:
        store = self.make(evolve(THE_DISK, write=lambda fd, data: os.write(fd, data[:3])))
        await store.deliver(ALICE, Content(BODY), HEADER)
        assert self.files()[0].read_bytes() == (HEADER + BODY).replace(b"\r\n", b"\n")

    async def test_no_hard_links(self) -> None:
        store = self.make(evolve(LINKING, link=failing(errno.EPERM, 9)(os.link)))
        await store.deliver(ALICE, Content(BODY), HEADER)
        assert len(self.files()) == 1
        assert not self.files("tmp")

    async def test_never_over_a_file_that_is_there(self) -> None:
        def planted(source: str, target: str) -> None:
            Path(target).write_bytes(b"first")
            os.link(source, target)

        def planted_by_move(source: str, target: str) -> None:
            Path(target).write_bytes(b"first")
            rename = find_rename()
            assert rename is not None
            rename(source, target)

        for disk in (evolve(LINKING, link=planted), evolve(THE_DISK, rename=planted_by_move)):
            store = self.make(disk)
            await self.assertFailure(self.run_(store.deliver(ALICE, Content(BODY), HEADER)), StorageTrouble)
            assert self.files()[0].read_bytes() == b"first"
            self.files()[0].unlink()
            assert not self.files("tmp")

    async def test_one_failing_delivery_does_not_touch_the_others(self) -> None:
        def write(fd: int, data: Any) -> int:
            if b"poison" in bytes(data):
                raise OSError(errno.ENOSPC, "full")
            return os.write(fd, data)

        store = self.build(evolve(THE_DISK, write=write))
        bodies = (b"one\r\n", b"poison\r\n", b"two\r\n")
        results = [self.run_(store.deliver(ALICE, Content(body), b"")) for body in bodies]
        store.start()
        outcome = await defer.DeferredList(results, consumeErrors=True)
        assert [good for good, _ in outcome] == [True, False, True]
        assert sorted(file.read_bytes() for file in self.files()) == [b"one\n", b"two\n"]

    async def test_content_that_fails_or_ends_early(self) -> None:
        for content in (Content(BODY, True, StorageTrouble("gone")), Content(BODY, True)):
            if content.fault is None:
                content.size += 1
            waiting = self.run_(self.store.deliver(ALICE, content, HEADER))
            await self.assertFailure(waiting, StorageTrouble)
            await self.settle()
            self.assert_nothing_remains()

    async def test_cancelled_while_the_content_is_awaited(self) -> None:
        content = Content(BODY, True, defer.Deferred())
        waiting = self.run_(self.store.deliver(ALICE, content, HEADER))
        while not (self.box() / "tmp").is_dir() or not self.files("tmp"):
            await self.settle()
        await self.settle()
        waiting.cancel()
        await self.assertFailure(waiting, defer.CancelledError)
        await self.settle()
        self.assert_nothing_remains()

    async def settle(self) -> None:
        """All that the store's threads were given until now is done."""
        for _ in range(8):
            await self.store._in_thread(lambda: None)


class Quotas(StoreCase):
    limited = Account("alice@example.lan", quota=1000)

    async def test_what_does_not_fit_is_refused_before_anything_is_written(self) -> None:
        await self.store.deliver(self.limited, Content(b"x" * 598 + b"\r\n"), b"")
        for streamed in (False, True):
            waiting = self.run_(self.store.deliver(self.limited, Content(b"x" * 500, streamed), b""))
            await self.assertFailure(waiting, MailboxFull)
            assert len(self.files()) == 1
            assert not self.files("tmp")
        await self.store.deliver(self.limited, Content(b"x" * 300), b"")

    async def test_a_limit_that_comes_and_goes_and_comes_back_counts_all(self) -> None:
        for account, fits in ((ALICE, 1), (self.limited, 2), (ALICE, 3), (self.limited, 4)):
            await self.store.deliver(account, Content(b"x" * 198 + b"\r\n"), b"")
            assert len(self.files()) == fits
        lines = (self.box() / "maildirsize").read_bytes().splitlines()
        assert sum(int(line.split()[1]) for line in lines[1:]) == 4

    async def test_so_it_does_where_two_processes_deliver(self) -> None:
        other = self.make(THE_DISK)
        for store, account in ((other, ALICE), (self.store, self.limited), (other, ALICE)):
            for each in (other, self.store):
                each.limits_changed()  # as each process does at a reload
            await store.deliver(account, Content(b"x" * 198 + b"\r\n"), b"")
        lines = (self.box() / "maildirsize").read_bytes().splitlines()
        assert sum(int(line.split()[1]) for line in lines[1:]) == 3

    async def test_the_messages_of_one_group_must_fit_together(self) -> None:
        store = self.build()
        waiting = [
            self.run_(store.deliver(self.limited, Content(b"x" * 298 + b"\r\n"), b"")) for _ in range(9)
        ]
        store.start()
        outcome = await defer.DeferredList(waiting, consumeErrors=True)
        assert [good for good, _ in outcome] == [True] * 3 + [False] * 6
        assert len(self.files()) == 3

    async def test_deleting_makes_room_and_so_does_another_program(self) -> None:
        for _ in range(2):
            await self.store.deliver(self.limited, Content(b"x" * 498 + b"\r\n"), b"")
        drop = await self.store.maildrop(self.limited)
        drop.deleteMessage(0)
        await drop.sync()
        drop.logout()
        await self.store.deliver(self.limited, Content(b"x" * 498 + b"\r\n"), b"")
        self.files()[0].unlink()
        await self.store.deliver(self.limited, Content(b"x" * 498 + b"\r\n"), b"")

    async def test_a_damaged_count_is_counted_anew(self) -> None:
        for damage in (
            b"",
            b"junk",
            b"1000S\n1 x y\nz\n",
            b"1000S\n-5 -1\n",
            b"9S\n1 1\n",
            b"1000S\n5 1" * 999,
        ):
            self.box().mkdir(parents=True, exist_ok=True)
            (self.box() / "maildirsize").write_bytes(damage)
            await self.store.deliver(self.limited, Content(b"x" * 98 + b"\r\n"), b"")
        waiting = self.run_(self.store.deliver(self.limited, Content(b"x" * 500), b""))
        await self.assertFailure(waiting, MailboxFull)
        used = (self.box() / "maildirsize").read_bytes().split()
        assert used[:3] == [b"1000S", b"594", b"6"]

    async def test_mail_delivered_without_a_limit_counts_when_there_is_one(self) -> None:
        await self.store.deliver(self.limited, Content(b"x" * 98 + b"\r\n"), b"")
        for _ in range(5):
            await self.store.deliver(ALICE, Content(b"x" * 198 + b"\r\n"), b"")
        waiting = self.run_(self.store.deliver(self.limited, Content(b"x" * 98 + b"\r\n"), b""))
        await self.assertFailure(waiting, MailboxFull)


class Logins(StoreCase):
    async def test_a_mailbox_that_goes_between_two_logins_is_made_anew(self) -> None:
        said: list[Any] = []
        self.patch(self.store, "_say", lambda what, path: said.append(path.name.partition("%")[0]))
        for part in ("", "tmp", "new", "cur"):
            await self.store.deliver(ALICE, Content(BODY), HEADER)
            (await self.store.maildrop(ALICE)).logout()
            shutil.rmtree(self.box() / part)
            drop = await self.store.maildrop(ALICE)
            assert (len(drop.contents) > 0) is (part in ("tmp", "new")), part
            drop.logout()
            assert all((self.box() / each).is_dir() for each in ("tmp", "new", "cur")), part
        for part in ("tmp", "new", "cur"):
            shutil.rmtree(self.box() / part)
            (self.box() / part).write_bytes(b"not a directory")
            (await self.store.maildrop(ALICE)).logout()
            assert (self.box() / part).is_dir()
        shutil.rmtree(self.box())
        self.box().write_bytes(b"not a directory")
        (await self.store.maildrop(ALICE)).logout()
        assert said == ["tmp", "new", "cur", "alice"]

    async def test_a_mailbox_behind_a_link_that_leads_nowhere_any_more_is_left_alone(self) -> None:
        (await self.store.maildrop(ALICE)).logout()
        shutil.rmtree(self.box())
        self.box().symlink_to("/nowhere/at/all")
        await self.assertFailure(self.run_(self.store.maildrop(ALICE)), StorageTrouble)
        assert self.box().is_symlink()

    async def test_a_polled_mailbox_is_looked_at_once(self) -> None:
        (await self.store.maildrop(ALICE)).logout()
        for part in ("new", "cur"):
            os.utime(self.box() / part, (self.now - 3600, self.now - 3600))
        (await self.store.maildrop(ALICE)).logout()
        looked: list[str] = []
        real = os.stat

        def stat(path: Any, **options: Any) -> os.stat_result:
            looked.append(os.path.basename(path))
            return real(path, **options)

        self.patch(os, "stat", stat)
        drop = await self.store.maildrop(ALICE)
        assert looked == ["tmp", "new", "cur"]
        drop.logout()

    async def test_interface_and_exclusion(self) -> None:
        drop = await self.store.maildrop(ALICE)
        assert verifyObject(IMailboxPOP3, drop)
        await self.assertFailure(self.run_(self.store.maildrop(ALICE)), MaildropInUse)
        (await self.store.maildrop(BOB)).logout()
        drop.logout()
        (await self.store.maildrop(ALICE)).logout()

    async def test_a_login_that_is_cancelled_holds_no_lock(self) -> None:
        for _ in range(20):
            waiting = self.run_(self.store.maildrop(ALICE))
            waiting.cancel()
            await self.assertFailure(waiting, defer.CancelledError)
        # All threads at once: none is at an abandoned login any more.
        together = threading.Barrier(4)
        await defer.gatherResults([self.run_(self.store._in_thread(together.wait, 10)) for _ in range(4)])
        (await self.store.maildrop(ALICE)).logout()

    async def test_a_disk_that_fails(self) -> None:
        self.root.mkdir(parents=True)
        store = self.make(evolve(THE_DISK, fsync=failing(errno.EIO, 99)(os.fsync)))
        await self.assertFailure(self.run_(store.maildrop(ALICE)), StorageTrouble)
        (await self.store.maildrop(ALICE)).logout()


class Room(StoreCase):
    """What a sender is told before a message is taken."""

    limited = Account("alice@example.lan", quota=1000, messages=3)

    async def ask(self, octets: int) -> bool:
        answer = self.store.room(self.limited, octets)
        return answer if isinstance(answer, bool) else await answer

    async def test_no_limit_no_question(self) -> None:
        assert self.store.room(ALICE, 10**15) is True
        assert not self.root.exists()

    async def test_a_mailbox_that_is_not_there_yet_is_empty(self) -> None:
        assert await self.ask(1000) is True
        assert await self.ask(1001) is False
        assert not self.root.exists()

    async def test_known_for_a_second_and_forgotten_with_new_mail(self) -> None:
        assert await self.ask(900) is True
        assert self.store.room(self.limited, 1001) is False
        await self.store.deliver(self.limited, Content(b"x" * 598 + b"\r\n"), b"")
        assert await self.ask(900) is False
        assert await self.ask(300) is True
        self.files()[0].unlink()
        assert self.store.room(self.limited, 900) is False
        self.now += 2
        assert await self.ask(900) is True

    async def test_messages_count(self) -> None:
        for _ in range(3):
            assert await self.ask(0) is True
            await self.store.deliver(self.limited, Content(b""), b"")
        assert await self.ask(0) is False

    async def test_what_cannot_be_found_out_is_taken_for_yes(self) -> None:
        self.box().mkdir(parents=True)
        (self.box() / "new").write_bytes(b"no directory")
        assert await self.ask(1) is True
        await self.store.stop()
        assert await self.ask(1) is True

    async def test_many_mailboxes_do_not_fill_the_memory(self) -> None:
        self.patch(store_module, "_MOST_USES", 2)
        for number in range(5):
            await self.store.room(Account(f"u{number}@example.lan", 10), 1)
        assert len(self.store._uses) <= 2


class Warnings(StoreCase):
    async def test_once_for_each_crossing(self) -> None:
        account = Account("alice@example.lan", quota=1000)
        told: list[tuple[str, int]] = []
        self.store.warn_at = (50, 80)
        self.store.on_filling = lambda account, level: told.append((account.name, level))
        for _ in range(9):
            await self.store.deliver(account, Content(b"x" * 98 + b"\r\n"), b"")
        assert told == [(account.name, 50), (account.name, 80)]
        drop = await self.store.maildrop(account)
        for number in range(6):
            drop.deleteMessage(number)
        await drop.sync()
        drop.logout()
        await self.store.deliver(account, Content(b"x" * 498 + b"\r\n"), b"")
        assert told[2:] == [(account.name, 50)]


class Copies(StoreCase):
    async def test_each_mailbox_has_its_own_outcome(self) -> None:
        full = Account("full@example.lan", quota=5)
        for streamed in (False, True):
            content = Content(BODY, streamed)
            alice, nobody, bob = await self.store.deliver_copies([ALICE, full, BOB], content, HEADER)
            assert alice is bob is None
            assert isinstance(nobody, MailboxFull)
        assert len(self.files()) == len(self.files(account=BOB)) == 2
        assert {path.stat().st_nlink for path in self.files()} == {2}
        assert not self.files(account=full)

    async def test_nobody_can_take_it(self) -> None:
        full = Account("full@example.lan", quota=5)
        for streamed in (False, True):
            failures = await self.store.deliver_copies([full, full], Content(BODY, streamed), HEADER)
            assert [type(failure) for failure in failures] == [MailboxFull] * 2


class Undo(StoreCase):
    async def delete(self) -> None:
        await self.store.deliver(ALICE, Content(BODY), HEADER)
        drop = await self.store.maildrop(ALICE)
        drop.deleteMessage(0)
        await drop.sync()
        drop.logout()
        assert not self.files("cur")

    def kept(self) -> int:
        return len(list(self.box().glob("deleted/*/*")))

    async def test_kept_and_swept_when_its_days_are_over(self) -> None:
        self.store.keep_deleted = 7
        await self.delete()
        assert self.kept() == 1
        self.now += 7 * 86400
        await self.store.tidy()
        assert self.kept() == 1
        self.now += 86400
        await self.store.tidy()
        assert self.kept() == 0

    async def test_off(self) -> None:
        await self.delete()
        assert self.kept() == 0

    async def test_tidying_passes_over_what_is_broken(self) -> None:
        self.store.keep_deleted = 1
        (self.box(Account("aaron@example.lan")) / "cur").mkdir(parents=True)
        await self.delete()
        self.now += 3 * 86400
        await self.store.tidy()
        assert self.kept() == 0

    async def test_tidying_a_store_that_stops(self) -> None:
        await self.store.stop()
        await self.store.tidy()


class HandedOverTests(StoreCase):
    """A store in another process, whose deliveries the store of this one makes."""

    def setUp(self) -> None:
        super().setUp()
        ours, theirs = socket.socketpair()
        self.store.receive(theirs)
        self.outlet = Outlet(reactor, ours)
        self.addCleanup(self.outlet.close)
        call: Any = reactor.callFromThread  # type: ignore[attr-defined]
        self.other = MailStore(
            self.root, "mail.example.lan", lambda: self.now, call, hand_over=self.outlet.hand_over
        )
        self.other.start()
        self.addCleanup(self.other.stop)

    async def test_it_lies_in_all_mailboxes(self) -> None:
        failures = await self.other.deliver_copies([ALICE, BOB], Content(BODY), HEADER)
        assert failures == [None, None]
        (alice,), (bob,) = self.files(), self.files(account=BOB)
        assert alice.read_bytes() == (HEADER + BODY).replace(b"\r\n", b"\n")
        assert alice.stat().st_ino == bob.stat().st_ino

    async def test_what_is_not_known_to_stand_in_pairs_is_looked_through(self) -> None:
        for data in (b"a\rb\r\n", b"a\nb\r\n", b"a\r\r\nb\r", b"\n\r\n"):
            assert await self.other.deliver_copies([ALICE], Content(data), HEADER) == [None]
            (file,) = self.files()
            expected = (HEADER + data).replace(b"\r\n", b"\n")
            assert file.read_bytes() in (expected, expected + b"\n"), data
            file.unlink()

    async def test_what_is_known_to_stand_in_pairs_lies_there_as_all_else_does(self) -> None:
        for body in (BODY, b"Subject: hi\r\n\r\nno end", b""):
            for content in (Content(body), Content(body, is_in_pairs=True)):
                assert await self.other.deliver_copies([ALICE], content, HEADER) == [None]
                assert await self.store.deliver_copies([ALICE], content, HEADER) == [None]
            files = self.files()
            assert len({file.read_bytes() for file in files}) == 1
            assert len({file.name.partition(",")[2] for file in files}) == 1
            for file in files:
                file.unlink()

    async def test_each_mailbox_has_its_own_answer(self) -> None:
        small = evolve(BOB, quota=10)
        alice, bob = await self.other.deliver_copies([ALICE, small], Content(BODY), HEADER)
        assert alice is None
        assert isinstance(bob, MailboxFull)
        assert self.files(account=BOB) == []

    async def test_who_delivers_warns_of_what_fills_up(self) -> None:
        told: list[tuple[str, int]] = []
        warned: defer.Deferred[None] = defer.Deferred()
        self.store.warn_at = (80,)
        self.store.on_filling = lambda account, level: warned.callback(told.append((account.name, level)))
        limited = evolve(ALICE, quota=len(HEADER + BODY))
        assert await self.other.deliver_copies([limited], Content(BODY), HEADER) == [None]
        await warned
        assert told == [(ALICE.name, 80)]

    async def test_room_is_looked_for_anew_after_a_delivery(self) -> None:
        limited = evolve(ALICE, messages=1)
        self.box().mkdir(parents=True)
        assert await self.ask_room(limited)
        assert await self.other.deliver_copies([limited], Content(BODY), HEADER) == [None]
        assert not await self.ask_room(limited)

    async def ask_room(self, account: Account) -> bool:
        room = self.other.room(account, 1)
        return room if isinstance(room, bool) else await room

    async def test_what_is_not_at_hand_is_not_handed_over(self) -> None:
        with pytest.raises(StorageTrouble):
            await self.other.deliver_copies([ALICE], Content(BODY, streamed=True), HEADER)

    async def test_trouble_of_the_whole_group_is_everybodys(self) -> None:
        self.patch(store_module, "commit", lambda *_: 1 // 0)
        failures = await self.other.deliver_copies([ALICE, BOB], Content(BODY), HEADER)
        assert [type(failure) for failure in failures] == [StorageTrouble, StorageTrouble]

    async def test_nobody_is_there_any_more(self) -> None:
        self.outlet.close()
        with pytest.raises(StorageTrouble):
            await self.other.deliver_copies([ALICE], Content(BODY), HEADER)

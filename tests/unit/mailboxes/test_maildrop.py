"""The snapshot of a Maildir that others use too, and the session's hold on it."""

import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, reactor
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes.contents import Contents, Message
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.maildir import THE_DISK
from mailserver.mailboxes.maildrop import Maildrop
from mailserver.mailboxes.message import MessageFile, Reading
from mailserver.mailboxes.snapshot import snapshot
from mailserver.threads import Pool


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for part in ("tmp", "new", "cur"):
        (tmp_path / part).mkdir()
    return tmp_path


def put(box: Path, name: str, text: bytes = b"a\nb\n") -> Path:
    path = box / name
    path.write_bytes(text)
    return path


def quiet(what: str, path: Path) -> None:
    raise AssertionError(f"{what}: {path}")


def shot(box: Path) -> Contents:
    return snapshot(box, quiet)


async def at_once(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except OSError as error:
        raise StorageTrouble(str(error)) from error


def drop_of(box: Path, messages: list[Message] | None = None) -> Maildrop:
    lock = Lock()
    lock.acquire(box)
    contents = Contents(shot(box) if messages is None else messages)
    return Maildrop("alice@example.lan", box, contents, lock, THE_DISK, at_once)


def result(deferred: "defer.Deferred[Any]") -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "not done"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def text_of(file: MessageFile, length: int = 65536) -> bytes:
    async def read() -> bytes:
        pieces = []
        while piece := await file.read(length):
            pieces.append(piece)
        return b"".join(pieces)

    text: bytes = result(defer.ensureDeferred(read()))
    return text


# --- the snapshot ------------------------------------------------------------------------------------


def test_names_that_tell_are_believed_without_a_look(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.a,S=4,W=6")
    put(box, "cur/2.b,S=4,W=7:2,S")
    monkeypatch.setattr(os, "stat", None)
    monkeypatch.setattr(os, "open", None)
    assert list(shot(box)) == [
        Message("cur", "1.a,S=4,W=6:2,", 6, b"1.a"),
        Message("cur", "2.b,S=4,W=7:2,S", 7, b"2.b"),
    ]


def test_ids_and_sizes_survive_moves_marks_and_restarts(box: Path) -> None:
    put(box, "new/5.x")
    put(box, "new/3.y,S=4")
    first = shot(box)
    (box / "cur" / "5.x:2,").rename(box / "cur" / "5.x:2,FS")
    again = shot(box)
    assert [(m.size, m.uid) for m in again] == [(m.size, m.uid) for m in first] == [(6, b"3.y"), (6, b"5.x")]
    assert not list((box / "new").iterdir())


def test_other_programs_files_are_counted_once(box: Path) -> None:
    sizes = {b"": 0, b"a": 3, b"a\n": 3, b"a\r\n": 3, b"\n\n": 4, b"a\r": 4, b"\xff\n" * 99999: 3 * 99999}
    for number, text in enumerate(sizes):
        put(box, f"new/{number}.x", text)
    messages = shot(box)
    assert [message.size for message in messages] == list(sizes.values())
    drop = drop_of(box)
    for number, text in enumerate(sizes):
        sent = text_of(drop.getMessage(number), 1000)
        ended = sent if not sent or sent.endswith(b"\r\n") else sent + b"\r\n"
        assert len(ended) == messages[number].size
        assert ended.replace(b"\r\n", b"\n").rstrip() == text.replace(b"\r\n", b"\n").rstrip()


def test_what_is_planted_is_no_message(box: Path) -> None:
    secret = put(box, "secret", b"root:x\n")
    for part in ("new", "cur"):
        (box / part / "1.link,S=7,W=8").symlink_to(secret)
        (box / part / "2.dir,S=7,W=8").mkdir()
        os.mkfifo(box / part / "3.pipe,S=7,W=8")
        (box / part / "4.pipe").symlink_to("3.pipe,S=7,W=8")
        put(box, f"{part}/.hidden")
    put(box, "new/9.mail")
    assert [message.uid for message in shot(box)] == [b"9.mail"]


def test_swapped_for_a_pipe_or_a_link_after_the_listing(box: Path) -> None:
    secret = put(box, "secret", b"root:x\n")
    put(box, "new/1.a,S=1,W=1")
    put(box, "new/2.b,S=1,W=1")
    drop = drop_of(box)
    for path in (box / "cur").iterdir():
        path.unlink()
    os.mkfifo(box / "cur" / "1.a,S=1,W=1:2,")
    (box / "cur" / "2.b,S=1,W=1:2,").symlink_to(secret)
    for index in (0, 1):
        with pytest.raises(StorageTrouble):
            text_of(drop.getMessage(index))


def test_an_unreadable_file_is_left_out_and_said(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.a")
    put(box, "new/2.b")
    real = os.open

    def refuse(path: Any, *arguments: Any) -> int:
        if "1.a" in str(path):
            raise OSError(errno.EACCES, "no")
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    said: list[Path] = []
    messages = snapshot(box, lambda what, path: said.append(path))
    assert [message.uid for message in messages] == [b"2.b"]
    assert len(said) == 1


def test_unique_ids_are_unique_whatever_lies_there(box: Path) -> None:
    names = ["cur/1.a:2,S", "cur/1.a,S=4:2,", "new/1.a", "new/1.a,W=6", "new/1.a:2,S", "cur/:2,", "cur/,S=4"]
    for name in names:
        put(box, name, name.encode())
    put(box, "new/" + "x" * 200)
    put(box, os.fsdecode(b"new/\xff\xfe"))
    first = shot(box)
    assert len({message.uid for message in first}) == len(first) == 9
    assert [message.uid for message in shot(box)] == [message.uid for message in first]


def test_a_read_only_mailbox_can_be_listed(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.a,S=4,W=6")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "rename", refuse)
    assert list(shot(box)) == [Message("new", "1.a,S=4,W=6", 6, b"1.a")]
    assert text_of(drop_of(box).getMessage(0)) == b"a\r\nb\r\n"


# --- the session's hold on it ------------------------------------------------------------------------


def test_interface_and_indices(box: Path) -> None:
    put(box, "new/1.a")
    drop = drop_of(box)
    assert verifyObject(IMailboxPOP3, drop)
    for index in (-1, 1, 10**12):
        for method in (drop.listMessages, drop.getMessage, drop.getUidl, drop.deleteMessage):
            with pytest.raises(ValueError, match="no such"):
                method(index)


def test_nothing_is_removed_before_sync(box: Path) -> None:
    for number in range(4):
        put(box, f"new/{number}.a")
    drop = drop_of(box)
    drop.deleteMessage(0)
    drop.undeleteMessages()
    drop.deleteMessage(1)
    assert drop.listMessages() == [6, 0, 6, 6]
    assert drop.listMessages(1) == 0
    with pytest.raises(ValueError, match="deleted"):
        drop.getMessage(1)
    drop.logout()
    assert len(shot(box)) == 4
    drop = drop_of(box)
    drop.deleteMessage(1)
    result(drop.sync())
    assert [message.uid for message in shot(box)] == [b"0.a", b"2.a", b"3.a"]
    drop.undeleteMessages()
    assert drop.listMessages() == [6, 0, 6, 6]
    result(drop.sync())


def test_a_message_that_another_program_marked_is_found_again(box: Path) -> None:
    put(box, "new/1.a,S=4,W=6")
    put(box, "new/2.b,S=4,W=6")
    drop = drop_of(box)
    (box / "cur/1.a,S=4,W=6:2,").rename(box / "cur/1.a,S=4,W=6:2,RS")
    (box / "cur/2.b,S=4,W=6:2,").unlink()
    assert text_of(drop.getMessage(0)) == b"a\r\nb\r\n"
    with pytest.raises(StorageTrouble):
        text_of(drop.getMessage(1))
    drop.deleteMessage(0)
    drop.deleteMessage(1)
    result(drop.sync())
    assert not shot(box)


def test_what_would_not_go_is_reported_and_stays(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        put(box, f"new/{number}.a")
    drop = drop_of(box)
    for number in range(3):
        drop.deleteMessage(number)
    real = os.unlink

    def refuse(path: Any) -> None:
        if "1.a" in str(path):
            raise OSError(errno.EACCES, "no")
        real(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StorageTrouble, match="1 of 3"):
        result(drop.sync())
    monkeypatch.undo()
    assert [message.uid for message in shot(box)] == [b"1.a"]
    result(drop.sync())
    assert not shot(box)


def test_removals_are_made_durable_once(box: Path) -> None:
    for number in range(10):
        put(box, f"cur/{number}.a")
    synced: list[int] = []
    lock = Lock()
    lock.acquire(box)
    disk = type(THE_DISK)(fsync=synced.append)
    drop = Maildrop("alice@example.lan", box, Contents(shot(box)), lock, disk, at_once)
    for number in range(10):
        drop.deleteMessage(number)
    result(drop.sync())
    assert len(synced) == 2  # new/ and cur/


def test_reading_in_pieces_closes_the_file(box: Path) -> None:
    put(box, "new/1.a", b"x\n" * 5000 + b"end")
    drop = drop_of(box)
    before = len(os.listdir("/proc/self/fd"))
    assert text_of(drop.getMessage(0), 7) == b"x\r\n" * 5000 + b"end"
    half = drop.getMessage(0)
    assert result(defer.ensureDeferred(half.read(10)))
    half.close()
    half.close()
    assert result(defer.ensureDeferred(half.read(10))) == b""
    assert len(os.listdir("/proc/self/fd")) == before


class Threads(TestCase):
    async def test_closed_while_a_thread_reads(self) -> None:
        """The reactor does not wait for the disk, and the descriptor is not lost."""
        box = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, box, ignore_errors=True)
        for part in ("new", "cur"):
            (box / part).mkdir()
        put(box, "cur/1.a", b"x" * 100)
        pool = Pool("test", 1, reactor.callFromThread)  # type: ignore[attr-defined]
        pool.start()
        self.addCleanup(pool.stop)
        reading, go_on = threading.Event(), threading.Event()
        real = os.read

        def slow(fd: int, length: int) -> bytes:
            if threading.current_thread() is not threading.main_thread():
                reading.set()
                go_on.wait(10)
            return real(fd, length)

        self.patch(os, "read", slow)
        file = Reading(box, Contents([Message("cur", "1.a", 100, b"1.a")]), pool.run).open(0)
        piece = defer.ensureDeferred(file.read(10))
        reading.wait(10)
        file.close()
        go_on.set()
        assert await piece == b"x" * 10
        assert not [fd for fd in os.listdir("/proc/self/fd") if target_of(fd).endswith("1.a")]


def target_of(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""

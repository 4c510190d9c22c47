"""Reading messages: read ahead when they are fetched in a row, and never otherwise."""

from pathlib import Path
from typing import Any

import pytest

from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes.maildir import PARTS
from mailserver.mailboxes.message import Reading
from mailserver.mailboxes.snapshot import snapshot
from tests.support.postoffice import at_once

PIECE = 65536


class Counting:
    """Threads without threads, counted."""

    def __init__(self) -> None:
        self.jobs = 0

    async def __call__(self, function: Any, *arguments: Any) -> Any:
        self.jobs += 1
        return await at_once(function, *arguments)


def run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def reading_of(box: Path, texts: list[bytes], names: str = ",S=1,W={wire}") -> tuple[Reading, Counting]:
    for part in PARTS:
        (box / part).mkdir(exist_ok=True)
    for number, text in enumerate(texts, 1):
        wire = len(text) + text.count(b"\n")
        (box / "cur" / (f"{number}.x" + names.format(wire=wire) + ":2,")).write_bytes(text)
    threads = Counting()
    return Reading(box, snapshot(box, lambda what, path: None), threads), threads


def fetch(reading: Reading, index: int, length: int = PIECE) -> bytes:
    message, text = reading.open(index), b""
    while data := run(message.read(length)):
        text += data
    assert run(message.read(length)) == b""
    message.close()
    return text


def test_in_a_row_a_thread_is_asked_for_many(tmp_path: Path) -> None:
    texts = [b"message %d\n" % number for number in range(40)]
    reading, threads = reading_of(tmp_path, texts)
    for index, text in enumerate(texts):
        assert fetch(reading, index) == text.replace(b"\n", b"\r\n")
    assert threads.jobs == 1 + 2  # the first by itself, then 32 at once, and the rest


def test_what_was_read_ahead_is_there_at_once_and_once(tmp_path: Path) -> None:
    reading, threads = reading_of(tmp_path, [b"message %d\n" % number for number in range(6)])
    assert reading.ready(0) is None
    fetch(reading, 0)
    assert reading.ready(1) is None
    fetch(reading, 1)
    assert [reading.ready(index) for index in (2, 3, 3)] == [b"message 2\r\n", b"message 3\r\n", None]
    assert fetch(reading, 4) == b"message 4\r\n"
    assert threads.jobs == 2


def test_here_and_there_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    reading, threads = reading_of(tmp_path, [b"%d\n" % number for number in range(10)])
    for index in (5, 3, 1, 9, 0):
        assert fetch(reading, index) == b"%d\r\n" % index
    assert threads.jobs == 5
    assert not reading._ahead


def test_what_is_read_ahead_is_bounded(tmp_path: Path) -> None:
    texts = [b"a\n", b"b\n", b"x" * 60_000 + b"\n", b"y" * 60_000 + b"\n", b"z" * 60_000 + b"\n", b"c\n"]
    reading, threads = reading_of(tmp_path, texts)
    for index in (0, 1):
        fetch(reading, index)
    assert sum(map(len, reading._ahead.values())) < 2 * PIECE
    for index in (2, 3, 4, 5):
        assert fetch(reading, index) == texts[index].replace(b"\n", b"\r\n")
    assert threads.jobs == 1 + 1 + 1
    assert not reading._ahead


def test_an_excerpt_in_small_pieces_reads_ahead_only_what_fits_one(tmp_path: Path) -> None:
    reading, _ = reading_of(tmp_path, [b"a\n", b"b\n", b"x" * 100_000 + b"\n", b"c\n"])
    fetch(reading, 0, 100)
    fetch(reading, 1, 100)
    assert not reading._ahead
    message = reading.open(2)
    assert len(run(message.read(100))) == 100
    message.close()


def test_what_has_gone_is_told_in_its_turn(tmp_path: Path) -> None:
    reading, _ = reading_of(tmp_path, [b"%d\n" % number for number in range(6)])
    fetch(reading, 0)
    (tmp_path / "cur" / reading.contents[3].name).unlink()
    for index in (1, 2):
        fetch(reading, index)
    with pytest.raises(StorageTrouble):
        fetch(reading, 3)
    assert fetch(reading, 4) == b"4\r\n"


def test_a_name_that_lies_about_the_size(tmp_path: Path) -> None:
    reading, _ = reading_of(tmp_path, [b"a\n", b"b\n", b"much longer than it says\n" * 10], ",S=1,W=4")
    fetch(reading, 0)
    fetch(reading, 1)
    assert 2 not in reading._ahead
    assert fetch(reading, 2) == b"much longer than it says\r\n" * 10


def test_a_file_that_cannot_be_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, _ = reading_of(tmp_path, [b"a\n", b"b\n", b"c\n"])
    fetch(reading, 0)

    def broken(fd: int, length: int) -> bytes:
        raise OSError("I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("os.read", broken)
        with pytest.raises(StorageTrouble):
            fetch(reading, 1)
    assert fetch(reading, 2) == b"c\r\n"

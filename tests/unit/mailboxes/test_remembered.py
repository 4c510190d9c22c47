"""Snapshots that are used again: exactly as long as nothing has changed."""

import os
from pathlib import Path

import pytest

from mailserver.mailboxes import remembered
from mailserver.mailboxes.contents import Contents
from mailserver.mailboxes.maildir import PARTS
from mailserver.mailboxes.remembered import Remembered
from mailserver.mailboxes.snapshot import snapshot

LONG_AGO = 1_700_000_000_123_456_789
HOUR = 3_600_000_000_000


def say(what: str, path: Path) -> None:
    raise AssertionError(what)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for part in PARTS:
        (tmp_path / part).mkdir()
    for number in range(3):
        put(tmp_path, f"cur/{number}.x,S=1,W=2:2,")
    settle(tmp_path)
    return tmp_path


def put(box: Path, name: str, text: bytes = b"x") -> None:
    (box / name).write_bytes(text)


def settle(box: Path, when: int = LONG_AGO) -> None:
    for part in ("new", "cur"):
        os.utime(box / part, ns=(when, when))


class Counted(Remembered):
    """With a clock that stands, and a count of the snapshots taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: int = LONG_AGO + HOUR, **options: int) -> None:
        super().__init__(lambda: now, **options)
        self.taken: list[str] = []
        real = remembered.snapshot

        def counting(directory: Path, *rest: object) -> Contents:
            self.taken.append(directory.name)
            return real(directory, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(remembered, "snapshot", counting)


def test_unchanged_is_not_listed_again(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Counted(monkeypatch)
    first = kept.look(box, say)
    assert len(first) == 3
    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", None)
        assert kept.look(box, say) is first
    assert len(kept.taken) == 1


@pytest.mark.parametrize("change", ["deliver", "remove", "mark", "replace"])
def test_every_change_is_seen(box: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    kept = Counted(monkeypatch)
    kept.look(box, say)
    if change == "deliver":
        put(box, "new/9.y,S=1,W=2")
    elif change == "remove":
        (box / "cur/0.x,S=1,W=2:2,").unlink()
    elif change == "mark":
        (box / "cur/0.x,S=1,W=2:2,").rename(box / "cur/0.x,S=1,W=2:2,S")
    else:
        (box / "cur").rename(box / "old")
        (box / "cur").mkdir()
        settle(box)
    names = [message.name for message in kept.look(box, say)]
    assert (
        names
        == {
            "deliver": [f"{n}.x,S=1,W=2:2," for n in range(3)] + ["9.y,S=1,W=2:2,"],
            "remove": ["1.x,S=1,W=2:2,", "2.x,S=1,W=2:2,"],
            "mark": ["0.x,S=1,W=2:2,S", "1.x,S=1,W=2:2,", "2.x,S=1,W=2:2,"],
            "replace": [],
        }[change]
    )


@pytest.mark.parametrize(
    ("mtime", "age", "trusted"),
    [
        (LONG_AGO, 60_000_000, True),
        (LONG_AGO, 40_000_000, False),
        (LONG_AGO, 0, False),
        (LONG_AGO, -HOUR, False),
        (1_700_000_000_000_000_000, 60_000_000, False),
        (1_700_000_000_000_000_000, 2_100_000_000, True),
    ],
)
def test_a_young_mtime_is_not_trusted(
    box: Path, monkeypatch: pytest.MonkeyPatch, mtime: int, age: int, trusted: bool
) -> None:
    """A second change in the same tick of the file system's clock would not show."""
    settle(box, mtime)
    kept = Counted(monkeypatch, mtime + age)
    kept.look(box, say)
    put(box, "new/9.y,S=1,W=2")
    settle(box, mtime)  # the tick is still the same
    assert (len(kept.look(box, say)) == 3) is trusted


def test_a_change_while_it_was_taken(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Remembered(lambda: LONG_AGO + HOUR)
    real = remembered.snapshot

    def slow(directory: Path, *rest: object) -> Contents:
        contents = real(directory, *rest)  # type: ignore[arg-type]
        put(box, "new/9.y,S=1,W=2")
        monkeypatch.setattr(remembered, "snapshot", real)
        return contents

    monkeypatch.setattr(remembered, "snapshot", slow)
    assert len(kept.look(box, say)) == 3
    assert len(kept.look(box, say)) == 4


def test_what_was_measured_is_not_read_again(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "cur/5.foreign:2,", b"a\nb\n")
    kept = Counted(monkeypatch)
    assert kept.look(box, say).sizes == (2, 2, 2, 6)
    put(box, "cur/6.foreign:2,", b"a\n")
    (box / "cur/5.foreign:2,").rename(box / "cur/5.foreign:2,S")
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        "os.open", lambda path, *rest: opened.append(os.path.basename(path)) or real(path, *rest)
    )
    assert kept.look(box, say).sizes == (2, 2, 2, 6, 3)
    assert opened == ["6.foreign:2,"]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []
    for letter in "abcd":
        for part in PARTS:
            (tmp_path / letter / part).mkdir(parents=True)
        settle(tmp_path / letter)
        boxes.append(tmp_path / letter)
    kept = Counted(monkeypatch, most=16)  # three empty ones
    for which in (0, 1, 2, 0, 3, 0, 1):
        kept.look(boxes[which], say)
    assert kept.taken == ["a", "b", "c", "d", "b"]


def test_a_maildir_that_is_gone(box: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Remembered(lambda: 0).look(box / "nowhere", say)


@pytest.mark.parametrize(
    ("removed", "added"),
    [
        ([], ["cur/9.y,S=1,W=2:2,"]),
        ([], ["new/9.y"]),
        ([0, 2], []),
        ([1], ["cur/9.y,S=1,W=2:2,", "cur/8.y:2,"]),
        ([], ["cur/0.earlier,S=1,W=2:2,"]),
        ([1], ["cur/1.x,S=1,W=2:2,S"]),
        ([], ["cur/1.x,S=1,W=2:2,S"]),
        ([0, 1, 2], ["cur/5.y,S=1,W=2:2,"]),
    ],
)
def test_what_is_known_gives_the_same_as_looking_anew(
    box: Path, removed: list[int], added: list[str]
) -> None:
    """Twice: the second time with what the first has left, copies made by hand included."""
    old = snapshot(box, say)
    for number in removed:
        (box / f"cur/{number}.x,S=1,W=2:2,").unlink()
    for name in added:
        put(box, name)
    for _ in range(2):
        new = snapshot(box, say, old)
        assert list(new) == list(snapshot(box, say))
        old = new
        for path in list((box / "cur").glob("1.x*"))[:1]:
            path.unlink()

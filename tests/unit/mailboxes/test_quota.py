"""How full a mailbox is, and who may know it: the count, its repair, its levels."""

import fcntl
import os
import threading

import pytest

from mailserver.interfaces import Account, MailboxFull
from mailserver.mailboxes import quota
from mailserver.mailboxes.quota import Limit, Use, check, count, crossed, locked, note, noted, recount


@pytest.fixture
def box(tmp_path):
    for part in ("tmp", "new", "cur"):
        (tmp_path / part).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "use", "allowed", "percent"),
    [
        (Limit(), Use(10**15, 10**9), True, 0.0),
        (Limit(1000), Use(1000, 10**6), True, 100.0),
        (Limit(1000), Use(1001, 1), False, 100.1),
        (Limit(0, 3), Use(10**12, 3), True, 100.0),
        (Limit(0, 3), Use(0, 4), False, 400 / 3),
        (Limit(1000, 10), Use(500, 9), True, 90.0),
        (Limit(1000, 10), Use(950, 1), True, 95.0),
    ],
)
def test_limits(limit, use, allowed, percent):
    assert limit.allows(use) is allowed
    assert limit.percent(use) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("limit", "spelled"),
    [(Limit(1000), b"1000S"), (Limit(1000, 5), b"1000S,5C"), (Limit(0, 5), b"5C")],
)
def test_the_first_line(box, limit, spelled):
    recount(box, limit)
    assert (box / "maildirsize").read_bytes() == spelled + b"\n0 0\n"
    assert noted(box, limit) == Use()
    assert noted(box, Limit(7)) is None
    assert bool(limit)
    assert not Limit.of(Account("a@b"))


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [(0, 79, 0), (79, 80, 80), (80, 94, 0), (94, 95, 95), (10, 100, 95), (95, 96, 0), (96, 50, 0)],
)
def test_levels_are_crossed_once(before, after, level):
    limit = Limit(100)
    assert crossed((80, 95), limit, Use(before), Use(after)) == level
    assert crossed((), limit, Use(before), Use(after)) == 0


def test_messages_count_too(box):
    limit = Limit(messages=1)
    check(box, limit, 10**9)
    (box / "new" / "1.a,S=5").write_bytes(b"12345")
    note(box, 5, 1)
    with pytest.raises(MailboxFull):
        check(box, limit, 0)
    assert count(box) == Use(5, 1)


def test_what_other_programs_wrote_without_telling(box):
    (box / "cur" / "foreign:2,S").write_bytes(b"123")
    (box / "cur" / ".hidden").write_bytes(b"123")
    (box / "cur" / "link").symlink_to("/etc/passwd")
    (box / "deleted").mkdir()
    (box / "deleted" / "1.a").write_bytes(b"123")
    assert count(box) == Use(3, 1)


def test_note_is_nothing_where_no_count_is_kept(box):
    note(box, 5, 1)
    assert not (box / "maildirsize").exists()
    recount(box, Limit(1000))
    note(box, 5, 1)
    assert noted(box, Limit(1000)) == Use(5, 1)


def test_the_lock_excludes_and_is_not_taken_where_nothing_is_counted(box):
    other = os.open(box, os.O_RDONLY)
    with locked(box, limited=False):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
    with locked(box), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_counts_made_while_mail_comes_lose_nothing(box):
    limit = Limit(10**9)

    def deliver(start):
        for number in range(start, start + 100):
            with locked(box):
                quota.look(box, limit)
                (box / "new" / f"{number}.x,S=10").write_bytes(b"x" * 10)
                note(box, 10, 1)

    def count_anew():
        for _ in range(50):
            with locked(box):
                recount(box, limit)

    threads = [threading.Thread(target=deliver, args=(start,)) for start in (0, 1000)]
    threads.append(threading.Thread(target=count_anew))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted(box, limit) == count(box) == Use(2000, 200)

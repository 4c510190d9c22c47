"""Deleted mail: kept apart, swept in time, brought back as new."""

from datetime import date, timedelta

import pytest

from mailserver.mailboxes import undo
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.maildir import THE_DISK
from mailserver.mailboxes.quota import Limit, Use, noted, recount

TODAY = date(2026, 11, 23)
NAMES = UniqueNames("mail.example.lan", lambda: 1_700_000_000.0)


@pytest.fixture
def box(tmp_path):
    for part in ("tmp", "new", "cur"):
        (tmp_path / part).mkdir()
    return tmp_path


def deleted(box, name, day=TODAY, content=b"12345"):
    path = box / "cur" / name
    path.write_bytes(content)
    undo.keeper(box, day)(str(path))


def test_kept_in_order_under_their_names(box):
    deleted(box, "2.M1P1Q2.x,S=5,W=5:2,S")
    deleted(box, "1.M1P1Q1.x:2,")
    deleted(box, "3.M1P1Q3.x:2,", TODAY - timedelta(1))
    assert [(one.day, one.path.name) for one in undo.kept(box)] == [
        (TODAY - timedelta(1), "3.M1P1Q3.x:2,"),
        (TODAY, "1.M1P1Q1.x:2,"),
        (TODAY, "2.M1P1Q2.x,S=5,W=5:2,S"),
    ]
    assert len(undo.kept(box, TODAY)) == 2
    assert not list((box / "cur").iterdir())
    assert (box / "deleted").stat().st_mode & 0o777 == 0o700


def test_what_is_gone_is_said(box):
    with pytest.raises(FileNotFoundError):
        undo.keeper(box, TODAY)(f"{box}/cur/gone")


def test_swept_after_its_days_and_not_before(box):
    for age in range(10):
        deleted(box, f"{age}.x", TODAY - timedelta(age))
    (box / "deleted" / "not a day").mkdir()
    undo.sweep(box, TODAY, 7)
    assert sorted((TODAY - one.day).days for one in undo.kept(box)) == list(range(8))
    undo.sweep(box, TODAY, 0)
    assert [one.day for one in undo.kept(box)] == [TODAY]
    assert (box / "deleted" / "not a day").exists()


def test_no_mailbox_no_trouble(tmp_path):
    undo.sweep(tmp_path / "nobody", TODAY, 7)
    assert undo.kept(tmp_path / "nobody") == []


def test_restored_as_new_mail_and_counted(box):
    deleted(box, "1.M1P1Q1.x,S=5,W=6:2,FS")
    deleted(box, "foreign")
    recount(box, Limit(3))
    found = undo.kept(box)
    assert undo.restore(box, found, NAMES, THE_DISK) == 2
    names = sorted(path.name for path in (box / "new").iterdir())
    assert all(name.startswith("1700000000.M") for name in names)
    assert any(name.endswith(",S=5,W=6") for name in names)
    assert noted(box, Limit(3)) == Use(10, 2)
    assert undo.restore(box, found, NAMES, THE_DISK) == 0
    assert undo.kept(box) == []

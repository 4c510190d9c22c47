"""One maildrop, one session: in this process, in another, and after a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailserver.interfaces import MaildropInUse
from mailserver.mailboxes.lock import LOCK_FILE, Lock

HOLD = """
import sys
from pathlib import Path
from mailserver.mailboxes.lock import Lock
Lock.acquire(lock := Lock(), Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_two_sessions_of_one_process(tmp_path: Path) -> None:
    first, second = Lock(), Lock()
    first.acquire(tmp_path)
    with pytest.raises(MaildropInUse):
        second.acquire(tmp_path)
    first.release()
    first.release()
    Lock().acquire(tmp_path)
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_two_processes_and_a_crash(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(MaildropInUse):
            Lock().acquire(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        Lock().acquire(tmp_path)
    finally:
        other.kill()
        other.communicate()


def test_released_before_it_was_acquired(tmp_path: Path) -> None:
    lock = Lock()
    lock.release()
    with pytest.raises(MaildropInUse):
        lock.acquire(tmp_path)


def test_let_go_only_when_the_last_user_is_done(tmp_path: Path) -> None:
    lock = Lock()
    lock.acquire(tmp_path)
    with lock.use():
        lock.release()
        with pytest.raises(MaildropInUse):
            Lock().acquire(tmp_path)
        with pytest.raises(MaildropInUse), lock.use():
            pass
    Lock().acquire(tmp_path)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / LOCK_FILE).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        Lock().acquire(tmp_path)
    assert not target.exists()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    holder = Lock()
    holder.acquire(tmp_path)
    for _ in range(10):
        with pytest.raises(MaildropInUse):
            Lock().acquire(tmp_path)
    holder.release()
    assert len(os.listdir("/proc/self/fd")) == before

"""The state directory is one server's at a time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.state import Listener, StateDirectory, StateInUse, await_orphans, running_pid, user_of


def test_a_second_server_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    first, second = StateDirectory(tmp_path), StateDirectory(tmp_path)
    first.acquire()
    with pytest.raises(StateInUse, match=rf"in use by another server \(pid {os.getpid()}\)"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_killed_server_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from mailserver.state import StateDirectory\n"
        "state = StateDirectory(pathlib.Path(sys.argv[1])); state.acquire(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert running_pid(tmp_path) is None
    StateDirectory(tmp_path).acquire()


def test_its_path_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}"))))
    StateDirectory(tmp_path / "srv" / "var").acquire()
    assert synced == [tmp_path, tmp_path / "srv", tmp_path / "srv" / "var"]


def test_listeners_are_announced_while_the_server_runs(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    assert state.listeners() == ()
    state.acquire()
    state.announce([Listener("smtp", "127.0.0.1", 2525)])
    file = tmp_path / "run" / "listeners.json"
    assert json.loads(file.read_text()) == [{"service": "smtp", "host": "127.0.0.1", "port": 2525}]
    assert state.listeners() == (Listener("smtp", "127.0.0.1", 2525),)
    state.release()
    state.release()
    assert not file.exists()


def test_what_a_crash_left_is_not_announced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "listeners.json").write_text("[]")
    state = StateDirectory(tmp_path)
    state.acquire()
    assert not (tmp_path / "run" / "listeners.json").exists()
    state.release()


def test_the_running_server_is_found_by_its_lock(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    assert user_of(tmp_path) is None
    state = StateDirectory(tmp_path)
    state.acquire()
    assert running_pid(tmp_path) == os.getpid()
    assert str(user_of(tmp_path)).endswith(f"in use by another server (pid {os.getpid()})")
    state.release()
    assert running_pid(tmp_path) is None
    assert user_of(tmp_path) is None


def test_a_secret_stays_the_same_and_is_the_owners_alone(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    first = state.secret("decoys")
    assert len(first) == 32
    assert StateDirectory(tmp_path).secret("decoys") == first
    assert state.secret("other") != first
    file = tmp_path / "secret" / "decoys"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_secret_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "decoys.new").write_bytes(b"half")
    assert len(StateDirectory(tmp_path).secret("decoys")) == 32


# The worker of a server that was killed: its parent has written its pid and is dead, the lock is held.
ORPHAN = """
import fcntl, os, pathlib, sys
state = pathlib.Path(sys.argv[1])
(state / "run").mkdir(parents=True)
lock = os.open(state / "run" / "lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
parent = os.fork()
if not parent:
    os._exit(0)
os.waitpid(parent, 0)
os.write(lock, f"{parent}\\n".encode())
print(parent, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", ORPHAN, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        yield process
        process.kill()


def test_the_workers_of_a_dead_server_are_waited_for(
    tmp_path: Path, orphan: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            orphan.communicate()  # it ends, and is there no more

    monkeypatch.setattr("mailserver.state.time.sleep", wait)
    assert running_pid(tmp_path) is None  # a worker is no server
    StateDirectory(tmp_path).acquire()
    assert len(waits) == 3


def test_those_that_do_not_end_are_told_of(
    tmp_path: Path, orphan: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.state._ORPHANS_END", 0.1)
    with pytest.raises(StateInUse, match=r"in use by workers of a server that was killed \(pid \d+\)"):
        StateDirectory(tmp_path).acquire()
    assert "workers of a server that was killed" in str(user_of(tmp_path))


def test_nobody_waits_for_a_server_that_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(seconds: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr("mailserver.state.time.sleep", wait)
    await_orphans(tmp_path)  # nobody has ever been there
    state = StateDirectory(tmp_path)
    state.acquire()
    await_orphans(tmp_path)
    (tmp_path / "run" / "lock").write_text("")  # it has locked, and not said yet who it is
    await_orphans(tmp_path)
    state.release()
    await_orphans(tmp_path)

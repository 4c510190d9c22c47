"""What systemd hears."""

import os
import socket
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mailserver.supervisor import Supervisor


@pytest.fixture
def systemd(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(listening: socket.socket) -> list[bytes]:
    said = []
    while True:
        try:
            said.append(listening.recv(1000))
        except BlockingIOError:
            return said


def test_a_life(systemd: socket.socket) -> None:
    supervisor = Supervisor(Clock(), {"NOTIFY_SOCKET": systemd.getsockname()})
    supervisor.ready()
    supervisor.reloading()
    supervisor.ready()
    supervisor.stopping()
    ready, reloading, again, stopping = heard(systemd)
    assert (ready, again, stopping) == (b"READY=1", b"READY=1", b"STOPPING=1")
    assert reloading.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert reloading.rpartition(b"=")[2].isdigit()


def test_the_watchdog_is_fed_twice_in_its_time_until_the_stop(systemd: socket.socket) -> None:
    clock = Clock()
    environment = {
        "NOTIFY_SOCKET": systemd.getsockname(),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    supervisor = Supervisor(clock, environment)
    clock.advance(100)
    assert heard(systemd) == []
    supervisor.ready()
    supervisor.ready()  # after a reload
    clock.pump([15.0, 15.0])
    assert heard(systemd).count(b"WATCHDOG=1") == 3
    supervisor.stopping()
    clock.advance(100)
    assert heard(systemd) == [b"STOPPING=1"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
    ],
)
def test_no_watchdog(systemd: socket.socket, more: dict[str, str]) -> None:
    clock = Clock()
    supervisor = Supervisor(clock, {"NOTIFY_SOCKET": systemd.getsockname(), **more})
    supervisor.ready()
    clock.advance(100)
    assert heard(systemd) == [b"READY=1"]


def test_a_name_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0mailserver-test-{os.getpid()}")
        Supervisor(Clock(), {"NOTIFY_SOCKET": f"@mailserver-test-{os.getpid()}"}).ready()
        assert listening.recv(100) == b"READY=1"


def test_nobody_asked_or_nobody_is_there(tmp_path: Path) -> None:
    Supervisor(Clock(), {"WATCHDOG_USEC": "1000000"}).ready()
    Supervisor(Clock(), {"NOTIFY_SOCKET": str(tmp_path / "absent")}).ready()

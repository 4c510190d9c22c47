"""What functional tests stand on: a real server, a made-up Internet, blocking clients in a thread.

A functional test is a ``twisted.trial`` test case, because the made-up Internet lives in the reactor; its story
blocks, as clients do, and is played in a thread with :meth:`ServerTestCase.play`.
"""

import json
import os
import poplib
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.control.client import ask
from mailserver.rehearsal.server import ServerProcess, Site

__all__ = [
    "PASSWORD",
    "ServerTestCase",
    "cpu",
    "fetch_all",
    "mailctl",
    "needs",
    "processes",
    "run",
    "until",
    "workers",
]

PASSWORD = "secret"
USERS = {"example.lan": f"alice:{{PLAIN}}{PASSWORD}\nbob:{{PLAIN}}{PASSWORD}\n"}
PATIENCE = 60.0
WORKERS = json.loads(os.environ.get("MAILSERVER_TEST_WORKERS", "0"))
"""A second pass of the whole suite is played with some: ``MAILSERVER_TEST_WORKERS=2 make check``."""

T = TypeVar("T")


class ServerTestCase(TestCase):
    """A test case with servers that end with the test.

    :cvar workers: how many processes accept, where the test does not say it.
    """

    timeout = 300
    workers: int | str = WORKERS

    def server(self, **site: Any) -> ServerProcess:
        """A server, not started, in a directory of its own."""
        directory = Path(tempfile.mkdtemp(prefix="mailserver-test-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        server = ServerProcess(directory, Site(**{"users": USERS, "workers": self.workers, **site}))
        self.addCleanup(server.kill)
        return server

    def play(self, story: Callable[..., T], *arguments: Any) -> "Deferred[T]":
        """Play a blocking story in a thread."""
        return deferToThread(story, *arguments)


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where a client is not installed; ``.ci/run`` installs them."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(
    *command: str, patience: float = PATIENCE, status: int = 0, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a client to its end; what it printed is in the failure when it does not end with ``status``."""
    done = subprocess.run(command, capture_output=True, timeout=patience, check=False, **options)
    assert done.returncode == status, f"{command} → {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done


def mailctl(server: ServerProcess, *arguments: str, **options: Any) -> str:
    """What ``mailctl`` prints, as a program of its own; ``options`` as :func:`run` takes them."""
    command = (sys.executable, "-m", "mailserver.cli.main", "--config", str(server.config), *arguments)
    return run(*command, **options).stdout.decode()


def workers(server: ServerProcess) -> list[dict[str, int]]:
    """What the server says of its workers; nothing where it has none."""
    told = ask(server.state / "run" / "control", "workers.list", {})
    assert isinstance(told, list)
    return told


def until(happened: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait for something to be true and return it."""
    deadline = time.monotonic() + patience
    while not (result := happened()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return result


def processes(server: ServerProcess) -> list[int]:
    """The server, and the workers that it has started."""
    return [server.pid, *map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())]


def cpu(server: ServerProcess) -> float:
    """Seconds of work that all its processes have done: what others do meanwhile does not count."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes(server)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def smtp(server: ServerProcess, client: str = "127.0.0.1", service: str = "smtp") -> smtplib.SMTP:
    """A session from the given client address."""
    host, port = server.address(service)
    return smtplib.SMTP(host, port, "client.example.lan", timeout=PATIENCE, source_address=(client, 0))


def pop3(server: ServerProcess, login: str = "alice@example.lan") -> poplib.POP3:
    """A session that is logged in."""
    host, port = server.address("pop3")
    session = poplib.POP3(host, port, timeout=PATIENCE)
    session.user(login)
    session.pass_(PASSWORD)
    return session


def count(server: ServerProcess, login: str = "alice@example.lan") -> int:
    """How many messages lie in a maildrop."""
    with closing(pop3(server, login)) as session:
        number, _ = session.stat()
        session.quit()
    return number


def fetch_all(server: ServerProcess, login: str = "alice@example.lan", delete: bool = False) -> list[bytes]:
    """All messages of a maildrop, in wire form."""
    with closing(pop3(server, login)) as session:
        number, _ = session.stat()
        messages = [b"".join(line + b"\r\n" for line in session.retr(n)[1]) for n in range(1, number + 1)]
        for n in range(1, number + 1) if delete else ():
            session.dele(n)
        session.quit()
    return messages


def body_of(message: bytes) -> bytes:
    """What follows the header section."""
    return message.partition(b"\r\n\r\n")[2]


def converse(address: tuple[str, int], segments: Iterable[bytes], source: str = "127.0.0.1") -> bytes:
    """Send segments as they are, half-close, and return all that is said until the server closes."""
    with socket.create_connection(address, PATIENCE, (source, 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for segment in segments:
            connection.sendall(segment)
        connection.shutdown(socket.SHUT_WR)
        said = bytearray()
        while data := connection.recv(65536):
            said += data
    return bytes(said)

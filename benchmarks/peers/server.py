"""What is asked of every server that is measured."""

import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path

from attrs import frozen

__all__ = ["CROWD", "HERE", "PASSWORD", "QUEUE", "SINK", "USERS", "Place", "Server", "free_port", "wait_for"]

HERE, SINK, QUEUE = "bench.test", "sink.test", "queue.test"
CROWD = tuple(f"u{number:02}" for number in range(10_000))
USERS = CROWD[:100]
PASSWORD = "pass"


@frozen
class Place:
    """Where one server lives, and what all of them are given.

    :ivar directory: of its own, empty, on a real disk, open to other users on the way there.
    :ivar certificate: a PEM file with a key and a certificate.
    :ivar sink: the port of the sink.
    """

    directory: Path
    certificate: Path
    sink: int


class Server(ABC):
    """One server, in one setting, on a configuration of its own below its place.

    :cvar name: as in the JSON.
    :cvar title: as in tables.
    """

    name: str
    title: str
    smtp_port: int = 0
    pop3_port: int = 0

    @abstractmethod
    def start(self) -> None:
        """Start it; returns when it listens."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, with all of its processes. Harmless when it does not run."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process from which all its others stem."""

    @abstractmethod
    def box(self, user: str) -> Path:
        """The user's Maildir; it need not be there yet."""

    @property
    def owner(self) -> tuple[int, int] | None:
        """The user and group that must own what lies in the Maildirs; none: whoever measures."""
        return None


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def wait_for(port: int, patience: float = 30.0) -> None:
    """Wait until somebody listens. Raises ``TimeoutError``."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), patience).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens on port {port}") from None
            time.sleep(0.05)

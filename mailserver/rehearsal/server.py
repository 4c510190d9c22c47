"""A real server in a process of its own, on a configuration written for the occasion.

For ``mailctl selftest`` and the functional tests: the program that is started is the one an admin starts,
``twistd -n mailserver``, and it is talked to only over sockets, files and signals. Everything here blocks
and belongs in a thread, not in a reactor.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

__all__ = ["ServerProcess", "Site", "StartFailed"]


class StartFailed(Exception):
    """The server did not come up; the text is what it said."""


@frozen
class Site:
    """A configuration in a few words; all that is not said is the server's default.

    :ivar users: the ``users`` file of each hosted domain.
    :ivar aliases: the ``aliases`` file of a hosted domain that has one.
    :ivar dns: ``host:port`` of the DNS server.
    :ivar tables: more text for ``mailserver.toml``, by table: ``{"delivery": 'retry = ["1s"]'}``.
    :ivar services: the services to listen with, each on a free port.
    :ivar workers: how many processes accept, or ``auto``.
    """

    users: Mapping[str, str]
    aliases: Mapping[str, str] = field(factory=dict)
    hostname: str = "mail.example.lan"
    networks: tuple[str, ...] = ("127.0.0.1/32",)
    dns: str = ""
    tables: Mapping[str, str] = field(factory=dict)
    services: tuple[str, ...] = ("smtp", "pop3")
    interface: str = "127.0.0.1"
    workers: int | str = 0

    def write(self, directory: Path) -> Path:
        """Write the configuration below ``directory``; returns the path of ``mailserver.toml``."""
        etc = directory / "etc"
        for domain, users in self.users.items():
            home = etc / "domains" / domain
            home.mkdir(parents=True, exist_ok=True)
            (home / "users").write_text(users)
            if domain in self.aliases:
                (home / "aliases").write_text(self.aliases[domain])
        path = etc / "mailserver.toml"
        path.write_text(self.text())
        return path

    def text(self) -> str:
        """``mailserver.toml``."""
        lines = [f'hostname = "{self.hostname}"', 'state = "../var"', 'domains = "domains"']
        lines += [f"workers = {json.dumps(self.workers)}"] if self.workers else []
        for service in self.services:
            lines += [
                "[[listen]]",
                f'service = "{service}"',
                f'endpoint = "tcp:0:interface={self.interface}"',
            ]
        lines += ["[relay]", f"networks = {json.dumps(self.networks)}"]
        lines += ["[dns]", f"servers = {json.dumps([self.dns] if self.dns else [])}"]
        lines += [self.tables.get("dns", "")]
        for name, text in self.tables.items():
            if name != "dns":
                lines += [f"[{name}]", text]
        return "\n".join(lines) + "\n"


class ServerProcess:
    """``twistd -n mailserver`` below a directory of its own.

    :ivar log: the file with everything the server said, over all its starts.
    """

    def __init__(self, directory: Path, site: Site) -> None:
        self.directory = directory
        self.config = site.write(directory)
        self.state = directory / "var"
        self.log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, patience: float = 60.0, environment: Mapping[str, str] | None = None) -> None:
        """Start it and return when it listens. Raises :class:`StartFailed`."""
        # What an earlier life left behind must not be mistaken for this one's.
        self._listeners.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [*_TWISTD, "-n", "--pidfile=", "mailserver", "--config", str(self.config)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        deadline = time.monotonic() + patience
        while not self._listeners.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StartFailed(self.log.read_text(errors="replace")[-4000:])
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def address(self, service: str) -> tuple[str, int]:
        """Host and port on which the service listens."""
        for entry in json.loads(self._listeners.read_text()):
            if entry["service"] == service:
                return entry["host"], entry["port"]
        raise LookupError(service)

    def stop(self, patience: float = 30.0) -> int:
        """Ask it to stop, as an admin does; returns 0 if it stopped in order, else its exit status.

        twistd, when it has stopped in order, ends by the signal that asked for it.
        """
        status = self._end(signal.SIGTERM, patience)
        in_order = status == -signal.SIGTERM and not self._listeners.exists()
        return 0 if in_order else status

    def kill(self) -> int:
        """End it as a power cut would, buffers of the kernel aside."""
        return self._end(signal.SIGKILL, 30.0)

    def reload(self) -> None:
        """Have it read its configuration again; returns at once."""
        os.kill(self.pid, signal.SIGHUP)

    def _end(self, how: signal.Signals, patience: float) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    @property
    def _listeners(self) -> Path:
        return self.state / "run" / "listeners.json"


# twistd as the interpreter's own, so that it is this environment's and not another's on the PATH.
_TWISTD = (
    sys.executable,
    "-c",
    "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()",
)

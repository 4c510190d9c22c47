"""This server, as it ships: log to a file, history and restorable mail kept, all defaults but those below."""

from pathlib import Path

from benchmarks.peers.server import CROWD, HERE, PASSWORD, QUEUE, Place, Server
from mailserver.control.client import ask
from mailserver.rehearsal.server import ServerProcess, Site

__all__ = ["Ours", "parse_workers"]


def parse_workers(text: str) -> int | str:
    """What a command line says of ``workers``. Raises ``ValueError``."""
    return text if text == "auto" else int(text)


class Ours(Server):
    """The server of this tree.

    :param workers: as in its configuration.
    """

    name = "mailserver"
    title = "this server"

    def __init__(self, place: Place, workers: int | str) -> None:
        tables = {
            "tls": f'certificate = "{place.certificate}"\nkey = "{place.certificate}"',
            "delivery": f'smarthost = ["127.0.0.1:{place.sink}"]\nloopback = true',
            # As many as are held idle, and some more.
            "limits": "connections = 12000",
        }
        users = "".join(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in CROWD)
        self._server = ServerProcess(
            place.directory, Site({HERE: users}, hostname="mx.bench.test", tables=tables, workers=workers)
        )

    def start(self) -> None:
        self._server.start()
        self.smtp_port = self._server.address("smtp")[1]
        self.pop3_port = self._server.address("pop3")[1]
        ask(self._server.state / "run" / "control", "queue.pause", {"domain": QUEUE})

    def stop(self) -> None:
        self._server.stop()

    @property
    def pid(self) -> int:
        return self._server.pid

    def box(self, user: str) -> Path:
        return self._server.state / "mail" / HERE / user

"""A made-up Internet on loopback with a real server in the middle of it.

The LAN machine is 127.0.0.1, which the server lists in ``[relay] networks``; the stranger is 127.0.0.2,
which it does not. Two domains lie outside:

- ``outside.example`` has three mail hosts: of preference 10 (refuses connections), 30 (answers 421) and
  50 (takes mail), so that mail for it arrives only where MX fallback works.
- ``refusing.example`` has one mail host, which refuses every recipient for good.

No packet leaves the machine: DNS is an authority of our own that knows these names and no other.
"""

from pathlib import Path
from typing import Any

from mailserver.rehearsal.hosts import Behaviour, MailHost, Stage, common_port
from mailserver.rehearsal.nameserver import Nameserver
from mailserver.rehearsal.server import ServerProcess, Site

__all__ = ["LAN", "PASSWORD", "STRANGER", "World"]

LAN = "127.0.0.1"
STRANGER = "127.0.0.2"
PASSWORD = "rehearsal"  # noqa: S105 - of users that live as long as the rehearsal

_DEAD, _BUSY, _WILLING, _REFUSING = "127.0.0.10", "127.0.0.30", "127.0.0.50", "127.0.0.66"


class World:
    """The stage.

    :param directory: an empty one, for the server's files.
    :ivar willing: the host of preference 50.
    :ivar busy: the host of preference 30.
    """

    def __init__(self, reactor: Any, directory: Path) -> None:
        port = common_port([_DEAD, _BUSY, _WILLING, _REFUSING])
        self.dead = f"{_DEAD}:{port}"
        self.busy = MailHost(
            reactor,
            _BUSY,
            port,
            Behaviour(answers={Stage.GREETING: "421 4.3.2 too busy"}),
            name="mx30.outside.example",
        )
        self.willing = MailHost(reactor, _WILLING, port, name="mx50.outside.example")
        self.refusing = MailHost(
            reactor,
            _REFUSING,
            port,
            Behaviour(answers={Stage.RCPT: "550 5.1.1 nobody of that name here"}),
            name="mx.refusing.example",
        )
        self.nameserver = Nameserver(reactor, _ZONE)
        self._directory = directory
        self._port = port

    async def start(self) -> ServerProcess:
        """Start all but the server, which is returned ready to be started in a thread."""
        for host in (self.busy, self.willing, self.refusing):
            host.start()
        address, port = await self.nameserver.start()
        users = "".join(f"{name}:{{PLAIN}}{PASSWORD}\n" for name in ("alice", "bob"))
        site = Site(
            users={"example.lan": users},
            networks=(f"{LAN}/32",),
            dns=f"{address}:{port}",
            tables={
                "delivery": "\n".join(
                    (
                        f"port = {self._port}",
                        "loopback = true",
                        'retry = ["1s", "2s"]',
                        'connect_timeout = "5s"',
                    )
                )
            },
        )
        return ServerProcess(self._directory, site)

    async def stop(self) -> None:
        """End all but the server."""
        for host in (self.busy, self.willing, self.refusing):
            await host.stop()
        await self.nameserver.stop()


_ZONE = f"""
outside.example.       MX 10 mx10.outside.example.
outside.example.       MX 30 mx30.outside.example.
outside.example.       MX 50 mx50.outside.example.
mx10.outside.example.  A  {_DEAD}
mx30.outside.example.  A  {_BUSY}
mx50.outside.example.  A  {_WILLING}
refusing.example.      MX 10 mx.refusing.example.
mx.refusing.example.   A  {_REFUSING}
"""

"""The whole server with a long queue: start to first delivery, the queue tools, memory.

A spool is filled through the spool's own writer: most of it waits for another hour, for domains that are
dead; some of it is due. Then the real program is started on it, with a mail host on loopback that takes all::

    python benchmarks/queue_hundred_thousand.py [WAITING [DUE]]

Exit status 1 where a bar is missed: first delivery in 5 s, each of the queue tools in 1 s with the start of
its interpreter, 200 MB at most. On a machine that others use, look at the processor's time beside it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.rehearsal.hosts import MailHost
from mailserver.rehearsal.server import ServerProcess, Site
from mailserver.spool import opening
from mailserver.spool.body import Sealed
from mailserver.spool.claims import Claims
from mailserver.spool.disk import Disk
from mailserver.spool.writer import Store, Writer

ALICE = Address("alice", "example.lan")
DEAD = 2000
CONTENT = b"From: <alice@example.lan>\r\nMessage-ID: <%d@example.lan>\r\n\r\n" + b"x" * 2000 + b"\r\n"
GROUP = 1000
LATER = 3600.0

FIRST_DELIVERY = 5.0
TOOL = 1.0
MEMORY = 200.0


def fill(directory: Path, waiting: int, due: int) -> None:
    """A spool with so many messages that wait for another hour, and so many that are due."""
    now = time.time()
    opening.prepare(directory, Disk(), "", print)
    connection = opening.open_writer(directory)
    writer = Writer(connection, Disk(), directory / opening.CONTENT, Claims(), lambda changes: None, print)
    for first in range(0, waiting + due, GROUP):
        numbers = range(first, min(first + GROUP, waiting + due))
        results = writer.perform([message(number, number >= waiting, now) for number in numbers])
        assert not any(results), results
    connection.close()


def message(number: int, is_due: bool, now: float) -> Store:
    """One message; its number is in all of it."""
    domain = "living.example" if is_due else f"dead{number % DEAD}.example"
    content = CONTENT % number
    recipient = Recipient(Address(f"bob{number}", domain))
    id_ = QueueID(f"Q{number:016d}")
    envelope = Envelope(id_, ALICE, (recipient,), Origin("192.0.2.7"), now - 60, len(content))
    return Store(envelope, Sealed(len(content), (content,)), now if is_due else now + LATER)


class Bars:
    """What was measured, and whether it is good enough."""

    def __init__(self) -> None:
        self.missed = 0

    def tell(self, what: str, figure: float, unit: str, most: float, cpu: float | None = None) -> None:
        """Print one figure beside its bar."""
        self.missed += figure > most
        verdict = "MISSED" if figure > most else "ok"
        beside = "" if cpu is None else f"; {cpu:.3f} s of CPU"
        print(f"{what:<34} {figure:9.3f} {unit:<3} at most {most:g} {unit}: {verdict}{beside}", flush=True)


def memory(pid: int) -> float:
    """The most that a process has had in memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu(pid: int) -> float:
    """The seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children() -> float:
    """The seconds of CPU that the processes had that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def main(waiting: int, due: int) -> None:
    bars = Bars()
    host = MailHost(reactor, "127.0.0.1", 0, name="mx.living.example")
    host.start()
    with tempfile.TemporaryDirectory() as name:
        # 127.0.0.1:9 answers nothing: whoever should be asked about in DNS is not.
        site = Site(
            {"example.lan": ""},
            dns="127.0.0.1:9",
            tables={"delivery": f'smarthost = ["127.0.0.1:{host.port}"]\n'},
            services=("smtp",),
        )
        server = ServerProcess(Path(name), site)
        begun = time.monotonic()
        (server.state / "spool").mkdir(parents=True)
        fill(server.state / "spool", waiting, due)
        print(
            f"{waiting} messages wait, {due} are due; filled in {time.monotonic() - begun:.1f} s", flush=True
        )
        try:
            await measure(bars, server, host, due)
        finally:
            server.stop()
    await host.stop()
    raise SystemExit(1 if bars.missed else 0)


async def measure(bars: Bars, server: ServerProcess, host: MailHost, due: int) -> None:
    begun = time.monotonic()
    starting = deferToThread(server.start)
    while not host.messages:
        await turn()
    bars.tell("start to first delivery", time.monotonic() - begun, "s", FIRST_DELIVERY, cpu(server.pid))
    await starting
    bars.tell("memory after the first delivery", memory(server.pid), "MB", MEMORY)
    while len(host.messages) < due:
        await turn()
    print(f"all that was due delivered {time.monotonic() - begun:.1f} s after the start", flush=True)
    for words in (("list",), ("summary",), ("show", f"Q{0:016d}")):
        begun, used = time.monotonic(), cpu_of_children()
        await deferToThread(run_mailctl, server, *words)
        used = cpu_of_children() - used
        bars.tell(f"mailctl queue {words[0]}", time.monotonic() - begun, "s", TOOL, used)
    bars.tell("memory at most", memory(server.pid), "MB", MEMORY)


def run_mailctl(server: ServerProcess, *words: str) -> None:
    """One command of the queue tools, as the administrator gives it."""
    command = [
        str(Path(sys.executable).with_name("mailctl")),
        "--config",
        str(server.config),
        "queue",
        *words,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def turn() -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.005, waiting.callback, None)
    await waiting


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]] or [100_000]
    react(lambda _: Deferred.fromCoroutine(main(numbers[0], numbers[1] if numbers[1:] else 5_000)))

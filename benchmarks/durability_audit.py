"""Whether every 250 follows the sync that covers it: the server under strace, its system calls in order.

Starts the real server with strace attached to every thread, sends messages for mailboxes here and for
elsewhere over many sessions, and reads the trace: a message's octets must have been written to its file,
that file have been synced (``fsync``, ``fdatasync``, or a ``syncfs`` of its file system) after the last
of them, its name been linked after that and its directory been synced after the name, all of it ended
before the 250 that names its queue ID is begun to be sent. Mail that is queued: the spool's log been
synced after the write that has the ID::

    python benchmarks/durability_audit.py [MESSAGES] [SESSIONS] [WORKERS]

Needs ``strace`` and the right to attach it. Ends with status 1 when a 250 came too early.
"""

import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from attrs import define, field

from mailserver.control.client import ask
from mailserver.rehearsal.server import ServerProcess, Site

CALLS = "openat,write,pwrite64,writev,fsync,fdatasync,syncfs,link,linkat,rename,sendto,sendmsg"
_CALL = re.compile(r"(\d+)\s+([\d.]+) (?:<\.\.\. )?(\w+)(?: resumed>)?(.*)", re.DOTALL)
_FILE = re.compile(r"\((\d+)<([^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_REPLY = re.compile(r"250 2\.0\.0 Ok: queued as (\w+)")
_ID = re.compile(r"\bid (\w{17})\b")


@define
class Audit:
    """What the trace has told so far. Moments are numbers of its lines.

    :ivar written: of each file with mail, by the path it was written at, when it was last written.
    :ivar ids: the file of each queue ID.
    :ivar synced: of each file or directory, when a sync of it began that has ended; ``*``: of everything.
    :ivar links: where a file was linked to, when, and whether its content was durable by then.
    :ivar log: the writes to the spool's log, and when they ended.
    :ivar begun: the calls under way, by thread.
    :ivar early: the IDs of 250s that came too early.
    """

    written: dict[str, int] = field(factory=dict)
    ids: dict[str, str] = field(factory=dict)
    synced: dict[str, int] = field(factory=dict)
    links: dict[str, list[tuple[str, int, bool]]] = field(factory=dict)
    log: list[tuple[int, str]] = field(factory=list)
    begun: dict[tuple[str, str], tuple[int, str]] = field(factory=dict)
    direct: int = 0
    spooled: int = 0
    early: list[str] = field(factory=list)

    def line(self, number: int, text: str) -> None:
        """One line of the trace: a whole call, the beginning of one, or the end of one that was begun."""
        found = _CALL.match(text)
        if found is None:
            return
        thread, _, call, rest = found.groups()
        if rest.endswith("<unfinished ...>\n"):
            self.begun[thread, call] = (number, rest)
            if call.startswith("send"):
                self.said(rest)
            return
        began, start = self.begun.pop((thread, call), (number, ""))
        if call.startswith("send"):
            if not start:
                self.said(rest)
        elif not rest.rstrip().endswith("= -1") and " = -1 " not in rest:
            self.done(call, start + rest, began, number)

    def done(self, call: str, rest: str, began: int, ended: int) -> None:
        """A call has succeeded."""
        file = _FILE.match(rest)
        path = file[2] if file else ""
        if call in ("fsync", "fdatasync", "syncfs"):
            # Another process', as of who shortens the log, may have begun before and end after.
            covered = "*" if call == "syncfs" else path
            self.synced[covered] = max(began, self.synced.get(covered, -1))
        elif "write" in call:
            if "/tmp/" in path and "/mail/" in path:
                self.written[path] = ended
                for id in _ID.findall(rest):
                    self.ids[id] = path
            elif path.endswith("spool.db-wal"):
                self.written[path] = ended
                self.log.append((ended, rest))
        elif call in ("link", "linkat", "rename"):
            source, target = _QUOTED.findall(rest)[:2]
            durable = self.written.get(source, sys.maxsize) < self.since(source)
            self.links.setdefault(source, []).append((target, began, durable))

    def said(self, rest: str) -> None:
        """Something begins to be sent to a client."""
        for id in _REPLY.findall(rest):
            path = self.ids.get(id)
            if path is not None and self.links.get(path):
                self.direct += 1
                if not self.is_delivered(path):
                    self.early.append(id)
            else:
                self.spooled += 1
                wal = next((name for name in self.written if name.endswith("spool.db-wal")), "")
                logged = next((ended for ended, octets in self.log if id in octets), sys.maxsize)
                if not logged < self.since(wal):
                    self.early.append(id)

    def is_delivered(self, path: str) -> bool:
        """Whether its content was durable before its names were made, and these are."""
        return all(
            durable and linked < self.since(target.rpartition("/")[0])
            for target, linked, durable in self.links[path]
        )

    def since(self, path: str) -> int:
        """When the latest sync that covers a path began."""
        return max(self.synced.get(path, -1), self.synced.get("*", -1))


def send(address: tuple[str, int], messages: int, number: int) -> None:
    """One session: every fourth message is for elsewhere, so that it is queued."""
    with smtplib.SMTP(*address, "client.example.lan") as session:
        for each in range(messages):
            to = "away@elsewhere.example" if each % 4 == 3 else f"u{(number + each) % 20:02}@example.lan"
            session.sendmail("s@example.lan", [to], b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n")


def accepting(server: ServerProcess, workers: int) -> list[int]:
    """The workers, once all of them are there."""
    while True:
        there = [
            it["pid"] for it in ask(server.state / "run" / "control", "workers.list", {}) if it["accepts"]
        ]
        if len(there) == workers:
            return there
        time.sleep(0.1)


def main() -> int:
    """Play it, and tell."""
    given = [int(word) for word in sys.argv[1:]]
    messages, sessions, workers = (*given, *(400, 20, 0)[len(given) :])
    directory = Path(tempfile.mkdtemp(prefix="audit-"))
    users = "".join(f"u{number:02}:{{PLAIN}}x\n" for number in range(20))
    server = ServerProcess(directory, Site({"example.lan": users}, services=("smtp",), workers=workers))
    trace = directory / "trace"
    server.start()
    try:
        watcher = subprocess.Popen(
            [
                "strace",
                "-f",
                "-y",
                "-ttt",
                "-s",
                "6000",
                "-e",
                f"trace={CALLS}",
                "-o",
                trace,
                *(f"--attach={pid}" for pid in (server.pid, *accepting(server, workers))),
            ],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1)
        address = server.address("smtp")
        threads = [
            threading.Thread(target=send, args=(address, messages // sessions, n)) for n in range(sessions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        watcher.terminate()
        watcher.wait()
        audit = Audit()
        with trace.open(errors="replace") as lines:
            for number, text in enumerate(lines):
                audit.line(number, text)
    finally:
        server.kill()
        if not sys.flags.dev_mode:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"{audit.direct} delivered, {audit.spooled} queued before their 250; {len(audit.early)} too early")
    return 1 if audit.early or audit.direct + audit.spooled < messages // sessions * sessions else 0


if __name__ == "__main__":
    sys.exit(main())

"""POP3 polling, beside Dovecot on the same files in one run: ``.venv/bin/python benchmarks/pop3_poll.py``.

One maildrop of 20,000 messages whose names carry sizes, as this server and Dovecot write them. Each round is
a session of LOGIN, STAT, UIDL, LIST, QUIT: first on a maildrop that has just changed (one message more), then
again and again on one that has not. Then 100 messages of 4 KB are fetched one by one, and pipelined. Medians
in milliseconds; needs root and Debian's dovecot-pop3d for the comparison, and leaves nothing running.
"""

import argparse
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mailserver.rehearsal.server import ServerProcess, Site
from tests.support.dovecot import dovecot

USER, PASSWORD = "alice@example.lan", "secret"
TEXT = b"From: bob@example.lan\nSubject: benchmark\n\n" + (b"x" * 70 + b"\n") * 57


class Session:
    """A client that does next to nothing by itself."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._line()
        self.say("USER " + USER)
        self.say("PASS " + PASSWORD)

    def say(self, *commands: str, multiline: bool = False) -> int:
        """Send commands in one write and read all the replies; gives their octets."""
        self._socket.sendall("".join(command + "\r\n" for command in commands).encode())
        octets = 0
        for _ in commands:
            status = self._line()
            assert status.startswith(b"+OK"), status
            octets += self._dot() if multiline else len(status)
        return octets

    def quit(self) -> None:
        self.say("QUIT")
        self._socket.close()

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _dot(self) -> int:
        text, self._buffer = bytearray(b"\r\n" + self._buffer), b""
        start = 0
        while (end := text.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(text) - 4)
            text += self._socket.recv(1 << 20)
        self._buffer = bytes(text[end + 5 :])
        return end

    def _receive(self) -> None:
        data = self._socket.recv(1 << 20)
        assert data, "the server has closed"
        self._buffer += data


def poll(port: int) -> None:
    session = Session(port)
    session.say("STAT")
    session.say("UIDL", multiline=True)
    session.say("LIST", multiline=True)
    session.quit()


def fetch(port: int, at_once: int) -> None:
    session = Session(port)
    for start in range(1, 101, at_once):
        session.say(*(f"RETR {n}" for n in range(start, start + at_once)), multiline=True)
    session.quit()


def measure(action: Callable[[], object], rounds: int) -> float:
    times: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def put(box: Path, number: int) -> None:
    name = f"{1_700_000_000 + number}.M{number:06}P1Q{number}R0.mail,S={len(TEXT)},W={len(TEXT) + 60}:2,"
    (box / "cur" / name).write_bytes(TEXT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="pop3-poll-"))
    server = ServerProcess(directory, Site({"example.lan": f"alice:{{PLAIN}}{PASSWORD}\n"}))
    server.start()
    try:
        box = server.state / "mail" / "example.lan" / "alice"
        for part in ("tmp", "new", "cur"):
            (box / part).mkdir(parents=True)
        for number in range(options.messages):
            put(box, number)
        ours = server.address("pop3")[1]
        if shutil.which("dovecot") and os.geteuid() == 0:
            with dovecot(box, USER, PASSWORD) as theirs:
                time.sleep(1)
                compare(box, {"mailserver": ours, "dovecot": theirs}, options)
        else:
            compare(box, {"mailserver": ours}, options)
    finally:
        server.kill()
        shutil.rmtree(directory)


def compare(box: Path, ports: dict[str, int], options: argparse.Namespace) -> None:
    number = options.messages

    def changed(port: int) -> None:
        nonlocal number
        number += 1
        put(box, number)
        poll(port)

    for port in ports.values():
        poll(port)
    print(f"{'':28}" + "".join(f"{name:>12}" for name in ports))
    for title, action, rounds in (
        ("first poll after a change", changed, 5),
        ("poll, nothing changed", poll, options.rounds),
        ("fetch 100 one by one", partial(fetch, at_once=1), options.rounds),
        ("fetch 100, 20 pipelined", partial(fetch, at_once=20), options.rounds),
    ):
        figures = [measure(partial(action, port), rounds) for port in ports.values()]
        print(f"{title:28}" + "".join(f"{figure:12.1f}" for figure in figures))


if __name__ == "__main__":
    main()

"""Listeners of the real server: behind a proxy, from systemd, with thousands of clients, without memory to spare."""

import contextlib
import json
import os
import resource
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.functional.test_tls import careless
from tests.support.rehearsal import ServerTestCase, cpu, processes, smtp, until

V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"


def listening_also(server: ServerProcess, service: str, endpoint: str) -> None:
    with server.config.open("a") as file:
        file.write(f'[[listen]]\nservice = "{service}"\nendpoint = "{endpoint}"\n')


class ProxyTests(ServerTestCase):
    """The client is whom a listed proxy names; nobody else may name anybody."""

    def test_behind_a_proxy(self) -> object:
        return self.play(self._proxy)

    def _proxy(self) -> None:
        server = self.server(services=("pop3",), tables={"proxy": 'networks = ["127.0.0.2/32"]'})
        listening_also(server, "smtp", "haproxy:tcp:0:interface=127.0.0.1")
        listening_also(server, "submissions", "haproxy:tcp:0:interface=127.0.0.1")
        server.start()
        address = server.address("smtp")
        with socket.create_connection(address, 30, ("127.0.0.3", 0)) as stranger:
            assert stranger.recv(100) == b""
        for header, code in [
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 25\r\n", b"250"),
            (b"PROXY TCP4 192.0.2.77 127.0.0.1 4660 25\r\n", b"55"),
            (b"PROXY UNKNOWN\r\n", b"55"),
            (V2 + bytes([127, 0, 0, 1, 127, 0, 0, 1]) + b"\x12\x34\x00\x19", b"250"),
            (V2 + bytes([192, 0, 2, 78, 127, 0, 0, 1]) + b"\x12\x34\x00\x19", b"55"),
        ]:
            with (
                socket.create_connection(address, 30, ("127.0.0.2", 0)) as proxy,
                proxy.makefile("rb") as said,
            ):
                proxy.sendall(header)
                assert said.readline().startswith(b"220 ")
                proxy.sendall(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nQUIT\r\n")
                replies = said.read().split(b"\r\n")
                assert replies[2].startswith(code), (header, replies)
        until(lambda: b"client=192.0.2.77" in server.log.read_bytes(), "the client in the log")
        self._inside_tls(server.address("submissions"))

    def _inside_tls(self, address: tuple[str, int]) -> None:
        with socket.create_connection(address, 30, ("127.0.0.2", 0)) as proxy:
            proxy.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 465\r\n")
            with careless().wrap_socket(proxy) as connection:
                assert connection.recv(4) == b"220 "

    def test_a_client_behind_a_proxy_begins_tls(self) -> object:
        return self.play(self._starttls)

    def _starttls(self) -> None:
        server = self.server(services=("pop3",), tables={"proxy": 'networks = ["127.0.0.1/32"]'})
        listening_also(server, "smtp", "haproxy:tcp:0:interface=127.0.0.1")
        server.start()
        session = smtplib.SMTP(timeout=30)
        session.sock = socket.create_connection(server.address("smtp"), 30)
        session.sock.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 25\r\n")
        assert session.getreply()[0] == 220
        session._host = "mail.example.lan"  # type: ignore[attr-defined]
        session.starttls(context=careless())
        assert session.sendmail("bob@example.lan", ["alice@example.lan"], "Subject: x\r\n\r\nx\r\n") == {}
        session.quit()


# What systemd does between fork and exec: the sockets from descriptor 3 on, and who they are for.
LAUNCHER = """
import fcntl, os, sys
numbers, names, *arguments = sys.argv[1:]
numbers = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers.split(",")]
for place, number in enumerate(numbers, 3):
    os.dup2(number, place)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=names)
sys.argv = ["twistd", *arguments]
from twisted.scripts.twistd import run
run()
"""


class SystemdTests(ServerTestCase):
    """Sockets that somebody else has bound, and somebody who wants to know how we are."""

    def test_sockets_and_notices(self) -> object:
        return self.play(self._systemd)

    def _systemd(self) -> None:
        server = self.server(services=())
        listening_also(server, "smtp", "systemd:domain=INET:name=mail-smtp")
        listening_also(server, "pop3", "systemd:domain=INET:name=mail-pop3")
        with ExitStack() as stack:
            notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            notices.bind(str(server.directory / "notify"))
            notices.settimeout(30)
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            process = self._launch(server, sockets, notices.getsockname())
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert notices.recv(100) == b"READY=1", server.log.read_text()
            entries = json.loads((server.state / "run" / "listeners.json").read_text())
            assert [(it["service"], it["port"]) for it in entries] == [
                ("smtp", sockets[0].getsockname()[1]),
                ("pop3", sockets[1].getsockname()[1]),
            ]
            with smtp(server) as session:
                assert session.ehlo()[0] == 250
            process.send_signal(signal.SIGHUP)
            assert notices.recv(100).startswith(b"RELOADING=1\n")
            assert notices.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert notices.recv(100) == b"STOPPING=1"
            assert process.wait(30) == -signal.SIGTERM

    def _launch(
        self, server: ServerProcess, sockets: list[socket.socket], notify: str
    ) -> "subprocess.Popen[bytes]":
        numbers = [it.fileno() for it in sockets]
        arguments = ["-n", "--pidfile=", "mailserver", "--config", str(server.config)]
        with server.log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    LAUNCHER,
                    ",".join(map(str, numbers)),
                    "mail-smtp:mail-pop3",
                    *arguments,
                ],
                cwd=server.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": notify},
                pass_fds=numbers,
            )


def resident(pid: int) -> int:
    """The process's memory, in octets."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def many_files(number: int) -> Iterator[None]:
    """Let this process have so many files open, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class CrowdTests(ServerTestCase):
    def test_five_thousand_idle_connections_are_held_while_new_ones_are_served(self) -> object:
        return self.play(self._crowd)

    def _crowd(self) -> None:
        server = self.server()
        with many_files(6000), ExitStack() as stack:
            server.start()
            address = server.address("smtp")
            idle = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(5000)]
            for connection in idle:
                assert connection.recv(4, socket.MSG_WAITALL) == b"220 "
            before = cpu(server)
            with smtp(server) as session:
                session.sendmail("bob@example.lan", ["alice@example.lan"], "Subject: x\r\n\r\nx\r\n")
            assert cpu(server) - before < 1
            before = cpu(server)
            time.sleep(1)
            assert cpu(server) - before < 0.3
            for connection in (idle[0], idle[-1]):
                connection.sendall(b"NOOP\r\nQUIT\r\n")
                with connection.makefile("rb") as said:
                    assert [line[:3] for line in said][1:] == [b"250", b"221"]

    def test_more_connections_than_files_are_dropped_and_nothing_spins(self) -> object:
        return self.play(self._too_many)

    def _too_many(self) -> None:
        server = self.server()
        server.start()
        address = server.address("smtp")
        accepting = processes(server)[1:] or [server.pid]
        for pid in accepting:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, 100))
        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(200)]
            greeted = 0
            for connection in crowd:
                with contextlib.suppress(ConnectionError):
                    greeted += connection.recv(4, socket.MSG_WAITALL) == b"220 "
            assert 20 < greeted < 100 * len(accepting)
            before = cpu(server)
            time.sleep(1)
            assert cpu(server) - before < 0.3
        until(lambda: self._greets(address), "a greeting for somebody new")

    @staticmethod
    def _greets(address: tuple[str, int]) -> bool:
        with contextlib.suppress(ConnectionError), socket.create_connection(address, 30) as connection:
            return connection.recv(4, socket.MSG_WAITALL) == b"220 "
        return False


class MemoryTests(ServerTestCase):
    """What a client sends, or does not read, is not kept: one MB is enough for anybody."""

    def test_endless_lines_and_replies_that_nobody_reads(self) -> object:
        return self.play(self._memory)

    def _memory(self) -> None:
        server = self.server()
        server.start()
        address = server.address("smtp")
        for attack in (self._endless_line, self._endless_text_line, self._deaf):
            attack(address, 30)  # what is made once is made now
            # Other work of the server may fall into one round; what is kept for the client is kept in each.
            grown = min(self._growth(server, attack, address) for _ in range(3))
            assert grown <= 2**20, (attack.__name__, grown)
        with smtp(server) as session:
            assert session.noop()[0] == 250

    @staticmethod
    def _growth(
        server: ServerProcess, attack: Callable[[tuple[str, int], int], None], address: tuple[str, int]
    ) -> int:
        before = sum(map(resident, processes(server)))
        attack(address, 100)
        return sum(map(resident, processes(server))) - before

    @staticmethod
    def _endless_line(address: tuple[str, int], megabytes: int) -> None:
        sent = 0
        while sent < megabytes:
            # The server hangs up early; whoever insists comes back.
            with socket.create_connection(address, 30) as connection, contextlib.suppress(ConnectionError):
                for _ in range(megabytes):
                    sent += 1
                    connection.sendall(b"x" * 2**20)

    @staticmethod
    def _endless_text_line(address: tuple[str, int], megabytes: int) -> None:
        with socket.create_connection(address, 30) as connection, connection.makefile("rb") as said:
            connection.sendall(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.lan>\r\nDATA\r\n")
            while not said.readline().startswith(b"354"):
                pass
            with contextlib.suppress(ConnectionError):
                for _ in range(megabytes):
                    connection.sendall(b"x" * 2**20)
                connection.sendall(b"\r\n.\r\nQUIT\r\n")
                assert said.readline()[:1] in (b"5", b"4")

    @staticmethod
    def _deaf(address: tuple[str, int], megabytes: int) -> None:
        with socket.create_connection(address, 30) as connection:
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(megabytes):
                    connection.sendall(b"NOOP\r\n" * (2**20 // 6))

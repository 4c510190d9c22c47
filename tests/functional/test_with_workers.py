"""What is played on one process elsewhere, once more where two others accept for it; and the doors that lead there.

The whole suite can be played so: ``MAILSERVER_TEST_WORKERS=2 make check``.
"""

import contextlib
import os
import poplib
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import trustme

from mailserver.rehearsal.server import ServerProcess
from tests.functional import test_kills, test_listening, test_networks, test_tls
from tests.functional.test_tls import ALL, careless
from tests.functional.test_workers import MANY, at_once, log_in, mailctl, pids
from tests.support.certificates import issued
from tests.support.rehearsal import PASSWORD, ServerTestCase, smtp, until, workers

GUESSES = int(os.environ.get("GUESSES", "1000"))
CA = trustme.CA()


class WithWorkers(ServerTestCase):
    """Two processes accept."""

    workers = 2

    def house(self, **site: object) -> ServerProcess:
        server = self.server(**site)
        server.start()
        until(lambda: len(pids(server)) == 2, "both workers")
        return server


class ProxyTests(WithWorkers, test_listening.ProxyTests):
    """Behind a proxy."""


class SystemdTests(WithWorkers, test_listening.SystemdTests):
    """Sockets that somebody else has bound, and handed to the parent where workers look for their own."""


class ServiceTests(WithWorkers, test_tls.ServiceTests):
    """Mail goes in by each service and out by each."""


class CertificateTests(WithWorkers, test_tls.CertificateTests):
    """By name, and renewed."""


class NetworkTests(WithWorkers, test_networks.NetworkTests):
    """Who may what, from where; how many connections; who has used the relay."""


class KillTests(WithWorkers, test_kills.KillTests):
    """kill -9 of the parent: what its workers were doing, and what they do until they notice, is safe as well."""


def both_have(server: ServerProcess, open_one: Callable[[], object], stack: ExitStack) -> None:
    """Open sessions until both workers have some."""
    for number in count():
        assert number < 200, workers(server)
        stack.enter_context(open_one())  # type: ignore[arg-type]
        if number >= 3 and min(it["sessions"] for it in workers(server)) > 0:
            return


class DoorTests(WithWorkers):
    """Whichever door a client comes by, and whichever worker opens."""

    def test_every_door_leads_to_both(self) -> object:
        return self.play(self._doors)

    def _doors(self) -> None:
        server = self.house(services=ALL)
        for service in ALL:
            until(lambda: not sum(it["sessions"] for it in workers(server)), "nobody to be there")
            with ExitStack() as stack:
                both_have(server, lambda service=service: self._session(server, service), stack)

    def _session(self, server: ServerProcess, service: str) -> ExitStack:
        """A session that has said something inside TLS; it is still there."""
        address = server.address(service)
        stack = ExitStack()
        if service.startswith("pop3"):
            pop3 = poplib.POP3(*address, 30) if service == "pop3" else None
            if pop3 is None:
                pop3 = poplib.POP3_SSL(*address, timeout=30, context=careless())
            else:
                pop3.stls(careless())
            stack.callback(pop3.close)
            pop3.user("alice@example.lan")
            return stack
        if service == "submissions":
            session: smtplib.SMTP = smtplib.SMTP_SSL(*address, timeout=30, context=careless())
        else:
            session = smtplib.SMTP(*address, timeout=30)
            session.starttls(context=careless())
        stack.callback(session.close)
        session.login("bob@example.lan", PASSWORD)
        return stack

    def test_a_socket_in_the_file_system(self) -> object:
        return self.play(self._unix)

    def _unix(self) -> None:
        server = self.server()
        place = server.directory / "smtp.socket"
        with server.config.open("a") as file:
            file.write(f'[[listen]]\nservice = "smtp"\nendpoint = "unix:{place}:mode=600"\n')
        server.start()
        until(lambda: len(pids(server)) == 2, "both workers")
        assert self._converse(place).count(b"250 ") == 2
        # The name is the parent's: workers that come and go leave it alone.
        before = pids(server)
        for pid in before:
            os.kill(pid, 9)
        until(lambda: len(pids(server) - before) == 2, "two others")
        assert place.stat().st_mode & 0o777 == 0o600
        results = at_once(lambda _: self._converse(place).count(b"250 "), MANY)
        assert results == [2] * MANY
        assert server.stop() == 0
        assert not place.exists()

    @staticmethod
    def _converse(place: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(place))
            with connection.makefile("rb") as said:
                assert said.readline().startswith(b"220 ")
                connection.sendall(b"HELO x\r\nNOOP\r\nQUIT\r\n")
                return said.read()

    def test_a_renewed_certificate_is_shown_by_both_and_open_sessions_go_on(self) -> object:
        return self.play(self._renewed)

    def _renewed(self) -> None:
        server = self.server(services=ALL)
        certs = server.config.parent / "certs" / "mail.example.lan"
        issued(CA, certs, "mail.example.lan")
        server.start()
        until(lambda: len(pids(server)) == 2, "both workers")

        def seen() -> tuple[socket.socket, bytes]:
            raw = socket.create_connection(server.address("submissions"), 30)
            context = ssl.create_default_context()
            CA.configure_trust(context)
            connection = context.wrap_socket(raw, server_hostname="mail.example.lan")
            assert connection.recv(4) == b"220 "
            return connection, connection.getpeercert(True) or b""

        with ExitStack() as stack:
            there = []
            for expected in ("first", "second"):
                shown = []

                def open_one(shown: list[bytes] = shown) -> socket.socket:
                    connection, certificate = seen()
                    shown.append(certificate)
                    there.append(connection)
                    return connection

                with ExitStack() as sessions:
                    both_have(server, open_one, sessions)
                    stack.push(sessions.pop_all())
                for _ in range(MANY):
                    stack.enter_context(open_one())
                assert len(set(shown)) == 1, expected
                if expected == "first":
                    before = shown[0]
                    issued(CA, certs, "mail.example.lan")
                    server.reload()
                    until(lambda: "reloaded" in server.log.read_text(), "the reload")
            assert shown[0] != before
            for connection in there:
                connection.sendall(b"NOOP\r\n")
                said = b""
                while b"250 " not in said:
                    said += connection.recv(1000)

    def test_mailctl_shows_them(self) -> object:
        return self.play(self._shown)

    def _shown(self) -> None:
        server = self.house()
        with smtp(server) as session:
            session.noop()
            lines = mailctl(server, "workers").splitlines()
        assert len(lines) == 2
        assert {line.split()[2] for line in lines} == {str(pid) for pid in pids(server)}
        assert sum("1 sessions" in line for line in lines) == 1, lines


class GuessTests(WithWorkers):
    """Somebody tries all passwords, over many connections (``GUESSES=10000`` as often as anybody would)."""

    def test_guesses_without_number(self) -> object:
        return self.play(self._guessed)

    def _guessed(self) -> None:
        server = self.house(tables={"login": "failures = 2"})
        log_in(server).quit()  # what is made once is made now
        self._guess(server, 100, 0)
        before = {pid: test_listening.resident(pid) for pid in (server.pid, *pids(server))}
        self._guess(server, GUESSES, 100)
        text = server.log.read_text()
        looked_at = text.count('reason="wrong password"') + text.count('reason="no such user"')
        # Six of one address, whatever the accounts, and what the eight threads had under way.
        assert 6 <= looked_at <= 6 + 8, looked_at
        for _ in range(MANY):
            log_in(server, client="127.0.0.8").quit()  # or the next would find the maildrop in use
        grown = {pid: test_listening.resident(pid) - octets for pid, octets in before.items()}
        assert max(grown.values()) <= 4 * 2**20, grown

    @staticmethod
    def _guess(server: ServerProcess, number: int, first: int) -> None:
        def guess(thread: int) -> None:
            for n in range(first + thread, first + number, 8):
                with (
                    contextlib.suppress(ConnectionError),
                    socket.create_connection(server.address("pop3"), 30, ("127.0.0.7", 0)) as connection,
                    connection.makefile("rb") as said,
                ):
                    said.readline()
                    connection.sendall(b"USER user%d@example.lan\r\nPASS guess %d\r\nQUIT\r\n" % (n % 50, n))
                    assert b"+OK Logged in" not in said.read()

        results = at_once(guess, 8)
        assert results == [None] * 8, results

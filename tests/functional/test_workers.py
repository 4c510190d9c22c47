"""Several processes are one server: what one knows all know, and one that dies takes nothing with it."""

import contextlib
import os
import poplib
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.functional.test_faults import Load
from tests.support.rehearsal import (
    PASSWORD,
    ServerTestCase,
    body_of,
    count,
    fetch_all,
    mailctl,
    smtp,
    until,
    workers,
)

CORES = len(os.sched_getaffinity(0))
MANY = 12
"""Connections of which some come to each of two workers: the chance that none does is 1 in 2,000 if all is even."""


def pids(server: ServerProcess) -> set[int]:
    """Those that accept."""
    return {worker["pid"] for worker in workers(server) if worker["accepts"]}


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended may still wait for somebody to ask how."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


class POP3From(poplib.POP3):
    """A session from a client address of one's choice."""

    def __init__(self, address: tuple[str, int], client: str) -> None:
        self._client = client
        super().__init__(*address, timeout=30)

    def _create_socket(self, timeout: float) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout, (self._client, 0))


def log_in(server: ServerProcess, password: str = PASSWORD, client: str = "127.0.0.1") -> poplib.POP3:
    """A POP3 session that is logged in. Raises ``poplib.error_proto``."""
    session = POP3From(server.address("pop3"), client)
    try:
        session.user("alice@example.lan")
        session.pass_(password)
    except poplib.error_proto:
        session.close()
        raise
    return session


def at_once(story: Callable[[int], object], number: int) -> list[object]:
    """Play a story so many times at once; what each came to, an exception included."""
    results: list[object] = [None] * number

    def play(n: int) -> None:
        try:
            results[n] = story(n)
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=play, args=(n,), daemon=True) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


class WorkerTests(ServerTestCase):
    """Two workers."""

    def house(self, **site: object) -> ServerProcess:
        server = self.server(workers=2, **site)
        server.start()
        until(lambda: len(pids(server)) == 2, "both workers")
        return server

    # --- life and death

    def test_a_worker_killed_under_load(self) -> object:
        return self.play(self._killed)

    def _killed(self) -> None:
        server = self.house()
        acknowledged: set[bytes] = set()
        for _ in range(3):
            before = pids(server)
            # As many as have both get some.
            load = Load(server, "alice@example.lan", sessions=MANY)
            until(lambda load=load: len(load.acknowledged) > 20, "mail under way")
            os.kill(min(before), signal.SIGKILL)
            # The other goes on.
            after = len(load.acknowledged)
            with smtp(server) as session:
                session.noop()
            until(lambda load=load, after=after: len(load.acknowledged) > after, "the other to go on")
            until(lambda before=before: len(pids(server) - before) == 1, "another in its place")
            load.stop()
            acknowledged |= load.acknowledged

        def is_all_there() -> bool:
            return acknowledged <= {body_of(message) for message in fetch_all(server)}

        # What was taken and not acknowledged may be there too: their number says nothing.
        until(is_all_there, f"all of {len(acknowledged)} acknowledged messages")
        assert server.log.read_text().count("was ended by SIGKILL; replaced in") == 3
        assert server.stop() == 0

    def test_the_server_killed(self) -> object:
        return self.play(self._server_killed)

    def _server_killed(self) -> None:
        server = self.house()
        acknowledged: set[bytes] = set()
        for _ in range(3):
            there = pids(server)
            load = Load(server, "alice@example.lan")
            until(lambda load=load: len(load.acknowledged) > 10, "mail under way")
            server.kill()
            load.stop()
            acknowledged |= load.acknowledged
            # At once: it waits for those who are left, and nothing that they accepted is swept.
            server.start()
            until(lambda: len(pids(server)) == 2, "both workers")
            assert not any(map(is_alive, there)), (
                "the next server began before the last of the old ones ended"
            )
        before = -1
        while before != (now := count(server)):
            before = now
            time.sleep(2)
        missing = acknowledged - {body_of(message) for message in fetch_all(server)}
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged messages are lost"

    def test_a_worker_asked_to_end_takes_leave_and_is_replaced(self) -> object:
        return self.play(self._asked)

    def _asked(self) -> None:
        server = self.house()
        before = pids(server)
        with ExitStack() as stack:
            sessions = [stack.enter_context(closing(smtp(server))) for _ in range(MANY)]
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            for session in sessions:
                with contextlib.suppress(smtplib.SMTPServerDisconnected):
                    code, text = session.getreply()
                    assert code == 421, text
            until(lambda: len(pids(server) - before) == 2, "two others")
        assert count(server) == 0
        assert "trouble" not in server.log.read_text()
        assert server.stop() == 0

    def test_what_lies_about_is_no_module_of_a_worker(self) -> object:
        return self.play(self._lying_about)

    def _lying_about(self) -> None:
        server = self.house()
        before = pids(server)
        # Whoever starts the server may stand in a directory where others can write.
        (server.directory / "attrs.py").write_text("raise SystemExit(1)\n")
        os.kill(min(before), signal.SIGTERM)
        until(lambda: len(pids(server) - before) == 1, "another in its place", patience=10.0)
        assert server.stop() == 0

    def test_a_stop_reaches_all(self) -> object:
        return self.play(self._stopped)

    def _stopped(self) -> None:
        server = self.house()
        there = pids(server)
        with ExitStack() as stack:
            sessions = [stack.enter_context(closing(smtp(server))) for _ in range(MANY)]
            assert server.stop() == 0
            for session in sessions:
                assert session.getreply()[0] == 421
        assert not any(map(is_alive, there))

    def test_at_a_stop_workers_tell_what_waited_to_be_told(self) -> object:
        return self.play(self._told_at_the_end)

    def _told_at_the_end(self) -> None:
        server = self.house()
        with smtp(server) as session:
            session.sendmail("x@example.lan", ["alice@example.lan"], b"Subject: x\r\n\r\nlast words\r\n")
        # At once: clients of the relay are told of a second later, lines of the log some milliseconds.
        assert server.stop() == 0
        assert "messages: 1  recipients: 1" in mailctl(server, "devices")
        lines = server.log.read_text()
        assert all(event in lines for event in ("accepted ", "delivered ", "removed "))
        assert "alice@example.lan" in mailctl(server, "trace", "x@example.lan")

    # --- one configuration

    def test_a_reload_reaches_all_and_those_that_come_later(self) -> object:
        return self.play(self._reloaded)

    def _reloaded(self) -> None:
        server = self.house()
        users = server.directory / "etc" / "domains" / "example.lan" / "users"
        with closing(log_in(server)) as session:
            users.write_text("alice:{PLAIN}new\ncarol:{PLAIN}new\n")
            server.reload()
            until(lambda: "reloaded" in server.log.read_text(), "the reload")
            session.quit()  # in order: another worker may have the next, and finds the maildrop free

        def check() -> None:
            for _ in range(MANY):
                log_in(server, "new").quit()
                with smtp(server) as session:
                    session.ehlo()
                    session.mail("x@example.org")
                    assert session.rcpt("carol@example.lan")[0] == 250
                    assert session.rcpt("bob@example.lan")[0] == 550

        check()
        # What is broken on disk is no hindrance to a worker that takes the place of another.
        users.write_text("alice\n")
        before = pids(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(pids(server) - before) == 2, "two others")
        check()
        assert server.stop() == 0

    # --- one memory

    def test_guesses_are_counted_together(self) -> object:
        return self.play(self._guessed)

    def _guessed(self) -> None:
        server = self.house(tables={"login": "failures = 5"})
        heard = at_once(lambda n: log_in(server, f"guess {n}", "127.0.0.7"), 40)
        assert all(isinstance(each, poplib.error_proto) for each in heard), heard
        looked_at = server.log.read_text().count('reason="wrong password"')
        # As many as in one process, and those that were on their way in the other.
        assert 5 <= looked_at <= 5 + 4, looked_at
        for _ in range(MANY):
            with pytest.raises(poplib.error_proto):
                log_in(server, PASSWORD, "127.0.0.7")
        with closing(log_in(server)):
            pass  # from another address
        assert server.log.read_text().count("locked client=127.0.0.7 account=alice@example.lan") == 1
        # The lock outlives the workers, and is lifted for all.
        before = pids(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(pids(server) - before) == 2, "two others")
        for _ in range(MANY):
            with pytest.raises(poplib.error_proto):
                log_in(server, PASSWORD, "127.0.0.7")
        mailctl(server, "access", "lift", "127.0.0.7")
        for _ in range(MANY):
            log_in(server, PASSWORD, "127.0.0.7").quit()

    def test_connections_are_counted_together(self) -> object:
        return self.play(self._counted)

    def _counted(self) -> None:
        server = self.house(networks=(), tables={"limits": "connections_per_address = 10"})

        def connect() -> Iterator[socket.socket]:
            for _ in range(10):
                connection = socket.create_connection(server.address("smtp"), 30)
                assert connection.recv(3) == b"220"
                yield connection

        def is_refused() -> bool:
            # What one worker has learnt may still be on its way to the other.
            with closing(socket.create_connection(server.address("smtp"), 30)) as one_more:
                return one_more.recv(3) == b"421"

        for how in ("ended", "killed"):
            there = list(connect())
            until(lambda: sum(worker["sessions"] for worker in workers(server)) == 10, f"all ({how})")
            until(is_refused, "one more to be one too many")
            if how == "killed":
                before = pids(server)
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                until(lambda before=before: len(pids(server) - before) == 2, "two others")
            for connection in there:
                connection.close()
            until(lambda: not sum(it["sessions"] for it in workers(server)), "all of them to be gone")
        for connection in list(connect()):
            connection.close()

    def test_rates_are_counted_together(self) -> object:
        return self.play(self._rated)

    def _rated(self) -> None:
        server = self.house(networks=(), tables={"rates": "address_messages = 10"})
        codes = []
        for _ in range(20):
            with smtp(server) as session:
                session.ehlo()
                session.mail("x@example.org")
                codes.append(session.rcpt("alice@example.lan")[0])
        # What one has taken may still be on its way to the other.
        assert 10 <= codes.count(250) <= 12, codes
        assert codes[12:] == [450] * 8

    def test_one_session_has_the_maildrop(self) -> object:
        return self.play(self._in_use)

    def _in_use(self) -> None:
        server = self.house()
        with closing(log_in(server)) as first:
            for _ in range(MANY):
                with pytest.raises(poplib.error_proto, match="IN-USE"):
                    log_in(server)
            first.quit()
        log_in(server).quit()

    # --- one log

    def test_what_workers_see_is_told_as_one_story(self) -> object:
        return self.play(self._traced)

    def _traced(self) -> None:
        server = self.house()
        with smtp(server) as session:
            session.sendmail("bob@example.lan", ["alice@example.lan"], b"Subject: x\r\n\r\nx\r\n")
            session.mail("bob@example.lan")
            assert session.rcpt("nobody@example.lan")[0] == 550
        until(lambda: count(server) == 1, "the mail")

        until(
            lambda: "delivered" in mailctl(server, "trace", "alice@example.lan"), "the delivery to be known"
        )
        until(lambda: "refused" in mailctl(server, "trace", "nobody@example.lan"), "the refusal to be known")
        log = server.log.read_text()
        assert log.count("accepted id=") == log.count("delivered id=") == 1
        assert "nobody@example.lan" in log

    # --- shared out

    @pytest.mark.skipif(CORES < 2, reason="with one core there are no workers by themselves")
    def test_by_themselves_one_less_takes_mail_and_helps_when_others_do_not(self) -> object:
        return self.play(self._helped)

    def _helped(self) -> None:
        server = self.server(workers="auto")
        server.start()
        until(lambda: len(pids(server)) == CORES, "all workers")
        # A machine that is busy with other things may keep them so long that help comes.
        until(lambda: self._rush(server)[-1] == 0, "a rush that the last one has no part in")
        others = [worker["pid"] for worker in workers(server)][:-1]
        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            with smtplib.SMTP(*server.address("smtp"), timeout=30) as session:
                assert session.noop()[0] == 250
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def test_a_rush_is_shared_out(self) -> object:
        return self.play(self._rushed)

    def _rushed(self) -> None:
        server = self.house()
        # A machine that is busy with other things may let one of the two sleep meanwhile.
        until(lambda: min(self._rush(server)) >= 20, "an even rush")

    def _rush(self, server: ServerProcess) -> list[int]:
        with ExitStack() as stack:
            rush = [stack.enter_context(closing(socket.socket())) for _ in range(60)]
            for connection in rush:
                connection.settimeout(30)
                connection.connect(server.address("smtp"))
            for connection in rush:
                assert connection.recv(3) == b"220"
            until(lambda: sum(it["sessions"] for it in workers(server)) == 60, "all to be counted")
            shares = [worker["sessions"] for worker in workers(server)]
        until(lambda: not sum(it["sessions"] for it in workers(server)), "the end of the rush")
        return shares

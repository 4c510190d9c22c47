"""Submission with independent clients: who may log in, by what, and as whom mail is sent."""

import base64
import hashlib
import re
import smtplib
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from mailserver.domains.passwords import hash_password
from mailserver.rehearsal.server import ServerProcess
from mailserver.wire.scram import make_verifier
from tests.support.rehearsal import (
    PASSWORD,
    PATIENCE,
    ServerTestCase,
    count,
    fetch_all,
    mailctl,
    needs,
    run,
    until,
)
from tests.support.scram import login

ALICE, BOB = "alice@example.lan", "bob@example.lan"
SERVICES = ("smtp", "submission", "submissions", "pop3")
MESSAGE = f"From: Alice <{ALICE}>\r\nTo: {BOB}\r\nSubject: submitted\r\n\r\nbody\r\n"


def _line(name: str, options: str = "") -> str:
    verifier = make_verifier(PASSWORD.encode(), b"0123456789abcdef", 4096)
    return f"{name}:{hash_password(PASSWORD)}:scram={verifier}{options}\n"


class SubmissionTests(ServerTestCase):
    """One server, the stories one after the other: 587 and 465, by what each client can do."""

    def start(self, failures: int = 10) -> ServerProcess:
        users = _line("alice", ":senders=alice@other.example") + _line("bob")
        # Nobody is in a relay network, and one client may say a password in clear.
        server = self.server(
            users={"example.lan": users},
            aliases={"example.lan": "sales: alice\nboth: alice, bob\n"},
            networks=("192.0.2.1/32",),
            services=SERVICES,
            tables={"login": f'plaintext_networks = ["127.0.0.1/32"]\nfailures = {failures}'},
        )
        server.start()
        return server

    @needs("swaks")
    def test_swaks(self) -> object:
        return self.play(self._swaks)

    def _swaks(self) -> None:
        server = self.start()
        for number, (service, way, mechanism) in enumerate(
            (service, way, mechanism)
            for service, way in (("submission", "--tls"), ("submissions", "--tls-on-connect"))
            for mechanism in ("PLAIN", "LOGIN")
        ):
            said = self._swaks_once(server, service, way, "--auth", mechanism, *_account())
            assert "235 2.7.0" in said, said
            until(lambda n=number: count(server, BOB) == n + 1, "the message")
        received = fetch_all(server, BOB)[0]
        assert b"with ESMTPSA" in received
        assert b"Bcc" not in received
        self._swaks_refusals(server)

    def _swaks_refusals(self, server: ServerProcess) -> None:
        plain, tls = ("submission", "--helo=client"), ("submission", "--tls")
        wrong = (*_account(), "--auth-password", "wrong")
        for status, code, arguments in (
            (28, "535 5.7.8", (*tls, "--auth", "PLAIN", *wrong)),
            (28, "535 5.7.8", (*tls, "--auth", "LOGIN", *wrong)),
            (23, "530 5.7.0", plain),
            (23, "530 5.7.0", tls),
            (23, "553 5.7.1", (*tls, "--auth", "PLAIN", *_account(), "--from", BOB)),
            (23, "553 5.7.1", (*tls, "--auth", "PLAIN", *_account(), "--from", "boss@bank.example")),
            (26, "550 5.7.1", (*tls, "--auth", "PLAIN", *_account(), "--header", f"From: {BOB}")),
        ):
            said = self._swaks_once(server, *arguments, status=status)
            assert re.search(rf"<[-~*]\* {code}", said), said
        for own in (
            "alice+lists@example.lan",
            "sales@example.lan",
            "both@example.lan",
            "alice@other.example",
        ):
            said = self._swaks_once(server, *tls, "--auth", "PLAIN", *_account(), "--from", own)
            assert "250 2.0.0" in said, said

    def _swaks_once(self, server: ServerProcess, service: str, *arguments: str, status: int = 0) -> str:
        host, port = server.address(service)
        options = ("--server", f"{host}:{port}", "--from", ALICE, "--to", BOB, "--timeout", "30s")
        done = run("swaks", *options, *arguments, status=status)
        return done.stdout.decode(errors="replace")

    @needs("msmtp")
    def test_msmtp(self) -> object:
        return self.play(self._msmtp)

    def _msmtp(self) -> None:
        server = self.start()
        mechanisms = ("plain", "login", "scram-sha-256")
        for number, mechanism in enumerate(mechanisms):
            starttls = ("submission", "--tls-starttls=on")
            service, way = starttls if number % 2 == 0 else ("submissions", "--tls-starttls=off")
            self._msmtp_once(server, service, way, mechanism, ALICE, PASSWORD)
            until(lambda n=number: count(server, BOB) == n + 1, f"the message by {mechanism}")
        for mechanism in mechanisms:
            self._msmtp_once(server, "submission", "--tls-starttls=on", mechanism, BOB, "wrong", status=77)

    def _msmtp_once(
        self,
        server: ServerProcess,
        service: str,
        way: str,
        mechanism: str,
        user: str,
        word: str,
        status: int = 0,
    ) -> None:
        host, port = server.address(service)
        run(
            *("msmtp", "--file=/dev/null", f"--host={host}", f"--port={port}", "--tls=on", way),
            *("--tls-certcheck=off", f"--auth={mechanism}", f"--user={user}", f"--passwordeval=echo {word}"),
            *(f"--from={user}", "--timeout=30", BOB),
            input=MESSAGE.encode(),
            status=status,
        )

    def test_in_clear(self) -> object:
        return self.play(self._in_clear)

    def _in_clear(self) -> None:
        server = self.start()
        with _session(server, "submission", "127.0.0.2") as session:
            session.ehlo()
            assert "auth" not in session.esmtp_features
            for argument in ("PLAIN", "PLAIN AGFsaWNlAHNlY3JldA==", "LOGIN", "SCRAM-SHA-256", "NONSENSE"):
                assert session.docmd("AUTH", argument)[0] == 538
            assert session.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 530
        with _session(server, "submission") as session:
            session.login(ALICE, PASSWORD)
            assert session.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 250
        until(lambda: b"no TLS" in server.log.read_bytes(), "the reason in the log")

    def test_scram(self) -> object:
        return self.play(self._scram)

    def _scram(self) -> None:
        server = self.start()
        with _session(server, "submission") as session:
            session.starttls(context=_context())
            session.ehlo()
            assert session.esmtp_features["auth"].split() == [
                "SCRAM-SHA-256-PLUS",
                "SCRAM-SHA-256",
                "PLAIN",
                "LOGIN",
            ]
            assert login(session, ALICE, "wrong")[0] == 535
            assert login(session, "nobody@example.lan", PASSWORD)[0] == 535
            # Bound to a channel that is another's, as where somebody stands between.
            assert login(session, ALICE, PASSWORD, b"x" * 32)[0] == 535
        with _session(server, "submission") as session:
            session.starttls(context=_context())
            session.ehlo()
            shown = hashlib.sha256(session.sock.getpeercert(True)).digest()
            assert login(session, ALICE, PASSWORD, shown)[0] == 235
            assert session.sendmail(ALICE, BOB, MESSAGE) == {}

    def test_lock_out(self) -> object:
        return self.play(self._lock_out)

    def _lock_out(self) -> None:
        server = self.start(failures=2)
        codes = [_try(server, "127.0.0.1", f"wrong {n}") for n in range(4)]
        assert codes == [535, 535, 421, 421], codes
        assert _try(server, "127.0.0.1", PASSWORD) == 421
        # Its owner, elsewhere, and others from there are not kept out.
        assert _try(server, "127.0.0.3", PASSWORD) == 235
        assert _try(server, "127.0.0.1", PASSWORD, BOB) == 235
        listed = mailctl(server, "access", "list")
        assert re.fullmatch(r"127\.0\.0\.1 +alice@example\.lan +[0-9]+ s left\n", listed), listed
        assert mailctl(server, "access", "lift", "127.0.0.1") == "lifted 1 lock of 127.0.0.1\n"
        assert _try(server, "127.0.0.1", PASSWORD) == 235
        assert mailctl(server, "access", "list") == "nobody is locked out\n"


def _account() -> tuple[str, ...]:
    return ("--auth-user", ALICE, "--auth-password", PASSWORD)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _session(server: ServerProcess, service: str, client: str = "127.0.0.1") -> Iterator[smtplib.SMTP]:
    host, port = server.address(service)
    connection = smtplib.SMTP(host, port, "client", timeout=PATIENCE, source_address=(client, 0))
    with closing(connection):
        yield connection


def _try(server: ServerProcess, client: str, password: str, user: str = ALICE) -> int:
    """The code that a login in a session of its own gets."""
    with _session(server, "submission", client) as session:
        session.starttls(context=_context())
        session.ehlo()
        begun = time.monotonic()
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        code, _ = session.docmd("AUTH", f"PLAIN {response}")
        assert code != 421 or time.monotonic() - begun < 1.0
        return code

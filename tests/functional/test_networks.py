"""Networks with profiles, told apart by where a client comes from: the real server, and clients on loopback."""

import smtplib
import socket
import ssl
import warnings
from contextlib import closing

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import (
    PASSWORD,
    PATIENCE,
    ServerTestCase,
    fetch_all,
    mailctl,
    smtp,
    until,
    workers,
)

STRANGER = "127.0.0.5"

COPIER = "127.0.0.3"
SCANNER = "127.0.0.4"
NETWORKS = f"""
name = "copiers"
cidrs = ["{COPIER}"]
owner = "room 12"
relay = "local"
sloppy = true
tls_minimum = "1.0"

[[network]]
name = "scanners"
cidrs = ["{SCANNER}"]
relay = "listed"
senders = ["@example.lan"]
domains = ["elsewhere.example"]
message_size = "2KB"
messages_per_hour = 2
over = "hold"
"""
LIMITS = "unknown_recipients = 3\nconnections_per_address = 4"


def refusal(session: smtplib.SMTP, recipient: str) -> int:
    session.rset()
    session.mail("x@example.lan")
    return session.rcpt(recipient)[0]


class NetworkTests(ServerTestCase):
    def test_profiles(self) -> object:
        tables = {"[network]": NETWORKS, "limits": LIMITS}
        server = self.server(networks=(), dns="127.0.0.1:9", tables=tables)
        return self.play(self._story, server)

    def _story(self, server: ServerProcess) -> None:
        server.start()
        self._a_sloppy_copier(server)
        self._old_tls(server)
        self._a_listed_scanner(server)
        self._strangers(server)
        self._too_many_connections(server)
        self._devices(server)
        server.stop()
        assert COPIER in mailctl(server, "devices", "--network", "copiers")

    def _a_sloppy_copier(self, server: ServerProcess) -> None:
        address = server.address("smtp")
        with closing(socket.create_connection(address, PATIENCE, (COPIER, 0))) as copier:
            said = copier.makefile("rb")
            assert said.readline().startswith(b"220 ")
            for line, code in (
                (b"HELO Copier in room 12\r\n", b"250"),
                (b"MAIL FROM:<copier@example.lan>\r\n", b"250"),
                (b"RCPT TO:<friend@elsewhere.example>\r\n", b"550"),
                (b"RCPT TO:<bob@example.lan>\r\n", b"250"),
                (b"DATA\r\n", b"354"),
                (b"Subject: Scan\nFrom: copier@example.lan\n\nbare\n.\nlines\r\n.\r\n", b"250"),
                (b"QUIT\r\n", b"221"),
            ):
                copier.sendall(line)
                assert said.readline().startswith(code), line
        (scan,) = until(lambda: fetch_all(server, "bob@example.lan"), "the scan")
        assert b"\r\nDate: " in scan
        assert b"\r\nMessage-ID: " in scan
        assert scan.endswith(b"\r\n\r\nbare\r\n.\r\nlines\r\n")

    def _old_tls(self, server: ServerProcess) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
        with smtp(server, COPIER) as copier:
            copier.starttls(context=old)
            assert copier.sock.version() == "TLSv1"
        scanner = smtp(server, SCANNER)
        with closing(scanner), pytest.raises((ssl.SSLError, OSError)):
            scanner.starttls(context=old)

    def _a_listed_scanner(self, server: ServerProcess) -> None:
        with smtp(server, SCANNER) as session:
            session.ehlo()
            assert session.esmtp_features["size"] == "2048"
            assert refusal(session, "friend@elsewhere.example") == 250
            assert refusal(session, "friend@sub.elsewhere.example") == 550
            session.rset()
            for subject in ("one", "two", "three"):
                text = f"Subject: {subject}\r\n\r\n"
                session.sendmail("scanner@example.lan", ["friend@elsewhere.example"], text)
        (letter,) = until(lambda: fetch_all(server), "the letter to postmaster")
        assert b"Subject: Mail is held: 127.0.0.4\r\n" in letter
        assert b"network scanners: over 2 messages an hour" in letter
        assert b"rule: mailserver.toml:" in letter
        assert "held" in mailctl(server, "queue", "list")

    def _strangers(self, server: ServerProcess) -> None:
        with smtp(server, STRANGER) as session:
            session.ehlo()
            assert refusal(session, "friend@elsewhere.example") == 550
            assert refusal(session, "friend%elsewhere.example@example.lan") == 550
            assert refusal(session, "nobody@example.lan") == 550
            session.rset()
            session.mail("x@example.lan")
            # smtplib takes the first reply and finds the farewell with its next command.
            assert session.rcpt("nobody2@example.lan")[0] == 550
            assert session.noop()[0] == 421

    def _too_many_connections(self, server: ServerProcess) -> None:
        # That those before have gone may still be on its way from one worker to the other.
        until(lambda: not any(worker["sessions"] for worker in workers(server)), "the end of all sessions")
        with smtp(server, STRANGER), smtp(server, STRANGER), smtp(server, STRANGER), smtp(server, STRANGER):
            self._turned_away(server.address("smtp"), b"421 4.7.0 ")
            self._turned_away(server.address("pop3"), b"-ERR [SYS/TEMP] ")
            sessions = [smtp(server, COPIER) for _ in range(6)]
            for session in sessions:
                session.quit()

    def _turned_away(self, address: tuple[str, int], words: bytes) -> None:
        # With workers, what one has counted may still be on its way to the other.
        for _ in range(20 if self.workers else 1):
            with closing(socket.create_connection(address, PATIENCE, (STRANGER, 0))) as fifth:
                said = fifth.recv(100)
                if said.startswith(words):
                    assert fifth.recv(100) == b""
                    return
        raise AssertionError(said)

    def _devices(self, server: ServerProcess) -> None:
        shown = until(lambda: mailctl(server, "devices"), "the devices")
        assert f"{COPIER}  copiers (room 12)  HELO Copier-in-room-12\n" in shown
        assert f"{SCANNER}  scanners  HELO client.example.lan\n" in shown
        assert "messages: 3  recipients: 3" in shown
        assert "RCPT <friend@elsewhere.example>: copiers may only send to those who live here" in shown
        assert STRANGER not in shown


class FirstTimeTests(ServerTestCase):
    def test_a_stolen_password(self) -> object:
        tables = {"rates": "first_time_recipients = 3", "login": 'plaintext_networks = ["127.0.0.1"]'}
        server = self.server(services=("submission", "pop3"), dns="127.0.0.1:9", tables=tables)
        return self.play(self._story, server)

    def _story(self, server: ServerProcess) -> None:
        server.start()
        self._send(server, "a@x.example", "b@x.example", "c@x.example")
        assert "held" not in mailctl(server, "queue", "list")
        server.kill()
        server.start()
        self._send(server, "a@x.example")
        self._send(server, "d@x.example")
        (letter,) = until(lambda: fetch_all(server), "the letter to postmaster")
        assert b"bob@example.lan: over 3 first-time recipients a day" in letter
        held = [line for line in mailctl(server, "queue", "list").split("\n") if "held" in line]
        assert len(held) == 1

    def _send(self, server: ServerProcess, *recipients: str) -> None:
        with smtp(server, service="submission") as session:
            session.login("bob@example.lan", PASSWORD)
            session.sendmail("bob@example.lan", recipients, "From: bob@example.lan\r\n\r\n")

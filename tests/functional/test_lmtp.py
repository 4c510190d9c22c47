"""Mail whose mailboxes are Dovecot's: the real program hands it to a real Dovecot, by LMTP."""

import os
import shutil
from pathlib import Path

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.support.dovecot import dovecot_lmtp
from tests.support.rehearsal import PASSWORD, ServerTestCase, count, fetch_all, mailctl, smtp, until

LMTP_SERVER = Path("/usr/lib/dovecot/lmtp")
MESSAGE = b"From: alice@example.lan\r\nSubject: to Dovecot\r\n\r\nhello\r\n.leading dot\r\n"
USERS = {
    "example.lan": f"alice:{{PLAIN}}{PASSWORD}\n",
    "imap.example": "".join(f"{name}:{{PLAIN}}{PASSWORD}\n" for name in ("ann", "ben", "full")),
}
BOXES = {"ann@imap.example": "", "full@imap.example": "1B"}  # ben is known here only

pytestmark = [
    pytest.mark.skipif(not LMTP_SERVER.exists(), reason="dovecot-lmtpd is not installed"),
    pytest.mark.skipif(shutil.which("dovecot") is None, reason="dovecot is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot needs root"),
]


class LMTPTests(ServerTestCase):
    def site(self, where: str) -> ServerProcess:
        route = f'retry = ["1s"]\n[[route]]\ndomains = ["imap.example"]\nto = "lmtp"\nlmtp = "{where}"'
        return self.server(
            users=USERS, aliases={"imap.example": "all: ann, alice@example.lan\n"}, tables={"delivery": route}
        )

    def boxed(self, place: Path, user: str) -> list[bytes]:
        return [file.read_bytes() for file in place.glob(f"mail/{user}@imap.example/new/*")]

    def test_over_a_socket(self) -> object:
        def story() -> None:
            with dovecot_lmtp(BOXES) as (place, _):
                server = self.site(f"unix:{place}/lmtp")
                server.start()
                with smtp(server) as session:
                    names = ("ann", "ben", "full")
                    to = [f"{name}@imap.example" for name in names]
                    assert session.sendmail("alice@example.lan", to, MESSAGE) == {}
                    assert session.rcpt("nobody@imap.example")[0] in (503, 550)
                self.check_outcomes(server, place)
                assert not list(server.state.glob("mail/imap.example/**/new/*")), "a mailbox of ours"

        return self.play(story)

    def check_outcomes(self, server: ServerProcess, place: Path) -> None:
        until(lambda: self.boxed(place, "ann"), "the mail in Dovecot's box")
        (message,) = self.boxed(place, "ann")
        assert message.endswith(b"\nhello\n.leading dot\n")
        assert b"Return-Path: <alice@example.lan>" in message
        # One that Dovecot refuses at RCPT, and one whose share it refuses behind the dot.
        until(lambda: count(server) and b"ben@imap.example" in b"".join(fetch_all(server)), "the report")
        reports = b"".join(fetch_all(server))
        assert b"5.1.1" in reports
        log = until(
            lambda: [
                line
                for line in server.log.read_text().splitlines()
                if "full@imap.example" in line and "host=localhost" in line
            ],
            "the outcome of the full one",
        )
        assert any("Quota" in line or "quota" in line for line in log), log
        assert len(self.boxed(place, "ann")) == 1
        until(lambda: "to=lmtp rule=mailserver.toml:" in server.log.read_text(), "the route's line")

    def test_a_gateway_for_a_domain_that_is_not_hosted(self) -> object:
        """Strangers may write to those who are listed; of the rest Dovecot is not asked."""

        def story() -> None:
            with dovecot_lmtp({"ann@inside.example": "", "eve@inside.example": ""}) as (place, _):
                route = (
                    '[[route]]\ndomains = ["inside.example"]\nto = "lmtp"\naccept = true\n'
                    f'lmtp = "unix:{place}/lmtp"\nrecipients = ["ann"]'
                )
                server = self.server(tables={"delivery": f'retry = ["1s"]\n{route}'})
                server.start()
                with smtp(server, client="127.0.0.2") as session:
                    to = ["ann@inside.example", "eve@inside.example", "x@elsewhere.example"]
                    refused = session.sendmail("x@stranger.example", to, MESSAGE)
                assert {name: code for name, (code, _) in refused.items()} == dict.fromkeys(to[1:], 550)
                until(lambda: list(place.glob("mail/ann@inside.example/new/*")), "the mail")
                assert not list(place.glob("mail/eve@inside.example/new/*"))

        return self.play(story)

    def test_what_is_rerouted_to_a_socket(self) -> object:
        """The administrator names another socket than the route's, where nobody listens."""

        def story() -> None:
            with dovecot_lmtp(BOXES) as (place, _):
                server = self.site(f"unix:{place}/gone")
                server.start()
                with smtp(server, client="127.0.0.2") as session:
                    assert session.sendmail("x@stranger.example", ["ann@imap.example"], MESSAGE) == {}
                until(lambda: " delayed " in server.log.read_text(), "a delay")
                mailctl(server, "queue", "reroute", "--all", "--via", f"unix:{place}/lmtp")
                (message,) = until(lambda: self.boxed(place, "ann"), "the mail in Dovecot's box")
                assert b"Return-Path: <x@stranger.example>" in message, "no SRS on the way to a mailbox"

        return self.play(story)

    def test_over_tcp_through_an_alias_and_while_it_is_away(self) -> object:
        def story() -> None:
            with dovecot_lmtp(BOXES) as (place, port):
                server = self.site(f"127.0.0.1:{port}")
                server.start()
                with smtp(server, client="127.0.0.2") as session:
                    assert session.sendmail("x@stranger.example", ["all@imap.example"], MESSAGE) == {}
                    refused = session.docmd("MAIL FROM:<>")[0], session.rcpt("nobody@imap.example")[0]
                    assert refused == (250, 550)
                (message,) = until(lambda: self.boxed(place, "ann"), "the mail")
                assert b"Return-Path: <x@stranger.example>" in message, "no SRS on the way to a mailbox"
                assert len(until(lambda: fetch_all(server), "the other target's copy")) == 1
            with smtp(server) as session:
                session.sendmail("alice@example.lan", ["ann@imap.example"], MESSAGE)
            until(
                lambda: " delayed " in server.log.read_text() and "4.4.1" in server.log.read_text(), "a delay"
            )

        return self.play(story)

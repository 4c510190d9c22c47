"""Mailboxes of a running server: quotas, undo, mail from elsewhere, other programs, many domains."""

import contextlib
import mailbox
import os
import poplib
import pty
import smtplib
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import (
    PASSWORD,
    ServerTestCase,
    body_of,
    count,
    cpu,
    fetch_all,
    mailctl,
    needs,
    pop3,
    run,
    smtp,
    until,
)

LINE = b"x" * 98 + b"\r\n"


def box(server: ServerProcess, name: str = "alice") -> Path:
    return server.state / "mail" / "example.lan" / name


def send(session: smtplib.SMTP, octets: int, *to: str) -> tuple[int, bytes]:
    """Send so much without announcing it; the last answer."""
    session.docmd("MAIL", "FROM:<s@x.example>")
    for one in to or ("alice@example.lan",):
        answer = session.docmd("RCPT", f"TO:<{one}>")
    if answer[0] != 250:
        session.rset()
        return answer
    return session.data(b"Subject: much\r\n\r\n" + LINE * (octets // 100))


def in_terminal(*command: str) -> None:
    """Run a program that wants a terminal to its end."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, {**os.environ, "TERM": "vt100", "LC_ALL": "C.UTF-8"})
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while os.read(terminal, 65536):
            pass
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert status == 0


class QuotaTests(ServerTestCase):
    """A quota of 1 MB: what does not fit is refused, and nothing of it stays."""

    def test_one_megabyte(self) -> object:
        return self.play(self._fill)

    def _fill(self) -> None:
        users = f"alice:{{PLAIN}}{PASSWORD}:quota=1MB\nbob:{{PLAIN}}{PASSWORD}\n"
        server = self.server(users={"example.lan": users})
        server.start()
        with smtp(server) as session:
            session.ehlo()
            # Too big by its own word.
            session.docmd("MAIL", "FROM:<s@x.example> SIZE=1200000")
            assert session.docmd("RCPT", "TO:<alice@example.lan>")[0] == 452
            assert session.docmd("RCPT", "TO:<bob@example.lan>")[0] == 250
            session.rset()
            # Too big by its content.
            code, text = send(session, 1_200_000)
            assert (code, text[:5]) == (452, b"4.2.2")
            assert not list(server.state.glob("mail/*/*/*/*"))
            # With company it is taken, for the other one.
            assert send(session, 1_200_000, "alice@example.lan", "bob@example.lan")[0] == 250
            until(lambda: count(server, "bob@example.lan"), "bob's mail")
            assert count(server) == 0
            # What fits is taken, and the user is told at 80 %.
            assert send(session, 900_000)[0] == 250
            until(lambda: count(server) == 2, "the message and the warning")
            (warning,) = [text for text in fetch_all(server) if b"Auto-Submitted" in text]
            assert b"Subject: Your mailbox is 80 % full" in warning
            time.sleep(1.1)
            assert send(session, 200_000)[0] == 452
            session.docmd("MAIL", "FROM:<s@x.example> SIZE=200000")
            assert session.docmd("RCPT", "TO:<alice@example.lan>")[0] == 452
            session.rset()
            assert "(8" in mailctl(server, "user", "list")
            fetch_all(server, delete=True)
            time.sleep(1.1)
            assert send(session, 200_000)[0] == 250
        until(lambda: "over quota" in server.log.read_text(), "the reason in the log")


class DisabledTests(ServerTestCase):
    """A disabled user takes no mail and no login, until enabled again."""

    def test_disable_and_enable(self) -> object:
        return self.play(self._disable)

    def _disable(self) -> None:
        server = self.server()
        server.start()
        mailctl(server, "user", "disable", "alice@example.lan")
        mailctl(server, "reload")
        until(lambda: "reloaded" in server.log.read_text(), "the reload")
        with smtp(server) as session:
            session.ehlo()
            assert send(session, 100)[0] == 550
        with closing(poplib.POP3(*server.address("pop3"), timeout=60)) as session:
            session.user("alice@example.lan")
            with pytest.raises(poplib.error_proto):
                session.pass_(PASSWORD)
        mailctl(server, "user", "enable", "alice@example.lan")
        mailctl(server, "reload")
        until(lambda: server.log.read_text().count("reloaded") == 2, "the reload")
        with smtp(server) as session:
            session.ehlo()
            assert send(session, 100)[0] == 250
        until(lambda: count(server), "the mail")


class UndoTests(ServerTestCase):
    """Deleted mail is gone, and comes back as new."""

    def test_restore(self) -> object:
        return self.play(self._restore)

    def _restore(self) -> None:
        server = self.server()
        server.start()
        with smtp(server) as session:
            session.sendmail("s@x.example", ["alice@example.lan"], b"Subject: precious\r\n\r\ngold\r\n")
        until(lambda: count(server), "the mail")
        with closing(pop3(server)) as session:
            (before,) = session.uidl()[1]
        fetch_all(server, delete=True)
        assert count(server) == 0
        assert "precious" in mailctl(server, "restore", "alice@example.lan", "--since", "yesterday", "--list")
        assert "restored 1" in mailctl(server, "restore", "alice@example.lan", "--since", "yesterday")
        (again,) = fetch_all(server)
        assert body_of(again) == b"gold\r\n"
        with closing(pop3(server)) as session:
            assert session.uidl()[1] != [before]


class ElsewhereTests(ServerTestCase):
    """Mail comes from and goes to Maildir and mbox, beside a running server that takes mail."""

    def test_round_trip(self) -> object:
        return self.play(self._round_trip)

    def _round_trip(self) -> None:
        server = self.server()
        server.start()
        source = server.directory / "old.mbox"
        with closing(mailbox.mbox(source)) as old:
            for number in range(150):
                message = mailbox.mboxMessage(f"Subject: {number}\n\nFrom the start\n{number}\n")
                message.set_flags("RO" if number % 2 else "")
                old.add(message)
        with smtp(server) as session:
            session.sendmail("s@x.example", ["alice@example.lan"], b"Subject: meanwhile\r\n\r\nx\r\n")
            assert "imported 150" in mailctl(server, "import", "alice@example.lan", str(source))
        until(lambda: count(server) == 151, "all of it")
        bodies = {body_of(text) for text in fetch_all(server)}
        assert b"From the start\r\n149\r\n" in bodies
        assert len(list(box(server).glob("cur/*:2,S"))) == 75
        for kind in ("--mbox", ""):
            target = server.directory / f"out{kind}"
            mailctl(server, "mailbox", "export", "alice@example.lan", str(target), *filter(None, [kind]))
            mailctl(server, "import", "bob@example.lan", str(target))
        assert count(server, "bob@example.lan") == 302
        assert {body_of(text) for text in fetch_all(server, "bob@example.lan")} == bodies
        assert "no faults" in mailctl(server, "mailbox", "check", "--thoroughly")


class NeighbourTests(ServerTestCase):
    """Another program marks, moves and removes files during a session, and nobody is harmed."""

    def test_renames_during_a_session(self) -> object:
        return self.play(self._rename)

    def _rename(self) -> None:
        server = self.server()
        server.start()
        with smtp(server) as session:
            for number in range(4):
                text = b"Subject: x\r\n\r\n%d\r\n" % number
                session.sendmail("s@x.example", ["alice@example.lan"], text)
        until(lambda: count(server) == 4, "the mail")
        with closing(pop3(server)) as session:
            files = sorted(box(server).glob("cur/*"))
            files[0].rename(f"{files[0]}S")
            files[1].rename(files[1].with_name(files[1].name.replace(":2,", ":2,FRS")))
            files[2].unlink()
            assert session.retr(1)[1][-1] == b"0"
            assert session.retr(2)[1][-1] == b"1"
            session.dele(1)
            session.quit()
        left = sorted(path.name.partition(":2,")[2] for path in box(server).glob("cur/*"))
        assert left == ["", "FRS"]
        (kept,) = box(server).glob("deleted/*/*")
        assert kept.name.endswith(":2,S")
        assert count(server) == 2

    @needs("mutt")
    @needs("rsync")
    def test_mutt_and_rsync_during_a_session(self) -> object:
        return self.play(self._mutt)

    def _mutt(self) -> None:
        server = self.server()
        server.start()
        with smtp(server) as session:
            for number in range(3):
                session.sendmail("s@x.example", ["alice@example.lan"], b"Subject: x\r\n\r\n%d\r\n" % number)
        until(lambda: count(server) == 3, "the mail")
        keys = "<tag-pattern>~A<enter><tag-prefix><flag-message><sync-mailbox><quit>"
        settings = server.directory / "muttrc"
        settings.write_text(f'set quit=yes\nset folder={server.directory}\npush "{keys}"\n')
        with closing(pop3(server)) as session:
            in_terminal("mutt", "-n", "-F", str(settings), "-f", str(box(server)))
            copy = server.directory / "copy"
            run("rsync", "-a", f"{box(server)}/", f"{copy}/")
            assert [session.retr(number)[1][-1] for number in (1, 2, 3)] == [b"0", b"1", b"2"]
            session.dele(1)
            session.quit()
        flags = [path.name.partition(":2,")[2] for path in box(server).glob("cur/*")]
        assert len(flags) == 2
        assert all("F" in flag for flag in flags), flags
        assert len(list(copy.glob("cur/*"))) == 3
        assert count(server) == 2


class ManyTests(ServerTestCase):
    """Ten thousand users in a thousand domains: started and reloaded in seconds."""

    def test_start_and_reload(self) -> object:
        return self.play(self._many)

    def _many(self) -> None:
        hashed = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$" + "A" * 43
        lines = "".join(f"user{number}:{hashed}:quota=50MB:messages=5000\n" for number in range(10))
        users = {f"domain{number}.example": lines for number in range(1000)}
        server = self.server(users={**users, "example.lan": f"alice:{{PLAIN}}{PASSWORD}\n"})
        server.start(60)
        assert cpu(server) < 20
        with smtp(server) as session:
            session.ehlo()
            session.docmd("MAIL", "FROM:<s@x.example>")
            before = cpu(server)
            for number in range(100):
                assert session.docmd("RCPT", f"TO:<user5@domain{number * 10}.example>")[0] == 250
            assert cpu(server) - before < 5
        before = cpu(server)
        server.reload()
        until(lambda: "reloaded" in server.log.read_text(), "the reload")
        assert cpu(server) - before < 20
        assert count(server) == 0


def test_mailctl_says_no_traceback(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "mailserver.cli.main",
        "--config",
        str(tmp_path / "absent"),
        "restore",
        "a@b",
    )
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr

"""The whole path, with independent clients: send, relay, fetch, byte for byte."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.rehearsal import (
    PASSWORD,
    ServerTestCase,
    body_of,
    converse,
    count,
    fetch_all,
    needs,
    run,
    smtp,
    until,
)


class SelftestTests(ServerTestCase):
    """``mailctl selftest`` is the demo, and it must pass."""

    def test_story(self) -> object:
        return self.play(self._story)

    def _story(self) -> None:
        done = run(sys.executable, "-m", "mailserver.cli.main", "selftest", patience=200)
        said = done.stdout.decode()
        for words in (
            "MX 10",
            "refuses connections",
            "MX 30",
            "421",
            "MX 50",
            "5.7.1",
            "5.1.1",
            "Diagnostic",
            "5 scenes",
        ):
            assert words.lower() in said.lower() or words == "Diagnostic", said


class ClientTests(ServerTestCase):
    """curl, swaks and fetchmail against a real server."""

    @needs("curl")
    def test_curl_sends_and_fetches(self) -> object:
        return self.play(self._curl)

    def _curl(self) -> None:
        server = self.server()
        server.start()
        host, port = server.address("smtp")
        message = b"Subject: by curl\r\n\r\n..two dots\r\n.\r\n\r\n.one dot\r\nlast line\r\n"
        run(
            *("curl", "--silent", "--show-error", f"smtp://{host}:{port}/client.example.lan"),
            *("--mail-from", "bob@example.lan", "--mail-rcpt", "alice@example.lan", "--upload-file", "-"),
            input=message,
        )
        until(lambda: count(server), "the mail")
        host, port = server.address("pop3")
        fetched = run(
            "curl", "--silent", "--user", f"alice@example.lan:{PASSWORD}", f"pop3://{host}:{port}/1"
        ).stdout
        assert fetched.endswith(message), fetched
        assert b"Return-Path: <bob@example.lan>\r\n" in fetched
        assert server.stop() == 0

    @needs("swaks")
    def test_swaks_sends_with_starttls(self) -> object:
        return self.play(self._swaks)

    def _swaks(self) -> None:
        server = self.server()
        server.start()
        host, port = server.address("smtp")
        run(
            "swaks",
            "--server",
            host,
            "--port",
            str(port),
            "--tls",
            "--from",
            "bob@example.lan",
            "--to",
            "alice@example.lan",
        )
        until(lambda: count(server), "the mail")
        assert b"ESMTPS" in fetch_all(server)[0]

    @needs("fetchmail")
    def test_fetchmail_fetches_thirty_megabytes_byte_for_byte(self) -> object:
        return self.play(self._fetchmail)

    def _fetchmail(self) -> None:
        server = self.server()
        server.start()
        rng = random.Random(30)
        lines = [bytes(rng.choices(b"abc.~ \xe9\xff", k=rng.randrange(0, 200))) for _ in range(1000)]
        lines = [line.rstrip() + b"." for line in lines] + [b".", b"..", b""]
        body = b"\r\n".join(rng.choices(lines, k=300_000))[: 30 * 1024 * 1024].rstrip(b"\r\n") + b"\r\n"
        message = b"From: bob@example.lan\r\nTo: alice@example.lan\r\nSubject: big\r\n\r\n" + body
        with smtp(server) as session:
            session.sendmail("bob@example.lan", ["alice@example.lan"], message, ["BODY=8BITMIME"])
        until(lambda: count(server), "the mail")
        assert fetch_all(server)[0].endswith(message)
        home = Path(tempfile.mkdtemp(dir=server.directory))
        host, port = server.address("pop3")
        (home / "rc").write_text(
            f"poll {host} service {port} proto pop3 user alice@example.lan password {PASSWORD} sslproto ''\n"
            f'mda "cat > {home}/fetched" keep\n'
        )
        (home / "rc").chmod(0o600)
        run(
            *("fetchmail", "--fetchmailrc", str(home / "rc"), "--pidfile", str(home / "pid"), "--nosyslog"),
            env={**os.environ, "FETCHMAILHOME": str(home), "HOME": str(home)},
        )
        fetched = (home / "fetched").read_bytes().replace(b"\r\n", b"\n")
        assert fetched.endswith(body.replace(b"\r\n", b"\n"))


class PipeliningTests(ServerTestCase):
    """RFC 2920: a batch is a batch however the network cuts it."""

    def test_two_hundred_messages_in_random_segments(self) -> object:
        return self.play(self._pipelined)

    def _pipelined(self) -> None:
        server = self.server()
        server.start()
        stream = b"EHLO client.example.lan\r\n"
        for number in range(200):
            stream += (
                b"MAIL FROM:<bob@example.lan>\r\nRCPT TO:<alice@example.lan>\r\nDATA\r\n"
                b"Subject: %d\r\n\r\nmessage %d\r\n.\r\n" % (number, number)
            )
        stream += b"QUIT\r\n"
        rng = random.Random(200)
        segments = []
        while stream:
            size = rng.choice((1, 2, 3, 7, 50, 500, 5000))
            segments.append(stream[:size])
            stream = stream[size:]
        said = converse(server.address("smtp"), segments).split(b"\r\n")
        codes = [line[:3] for line in said if line[3:4] == b" "]
        assert codes == [b"220", b"250"] + [b"250", b"250", b"354", b"250"] * 200 + [b"221"]
        until(lambda: count(server) == 200, "200 messages")
        bodies = {body_of(message) for message in fetch_all(server)}
        assert bodies == {b"message %d\r\n" % number for number in range(200)}


class TLSTests(ServerTestCase):
    """The pair that the first start makes is good enough for STARTTLS and STLS."""

    def test_starttls_and_stls(self) -> object:
        return self.play(self._tls)

    def _tls(self) -> None:
        import poplib
        import ssl

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        server = self.server()
        server.start()
        with smtp(server) as session:
            session.starttls(context=context)
            session.sendmail("bob@example.lan", ["alice@example.lan"], "Subject: x\r\n\r\nin TLS\r\n")
        until(lambda: count(server), "the mail")
        host, port = server.address("pop3")
        fetching = poplib.POP3(host, port, timeout=30)
        fetching.stls(context)
        fetching.user("alice@example.lan")
        fetching.pass_(PASSWORD)
        assert fetching.stat()[0] == 1
        fetching.quit()


class CommandLineTests(ServerTestCase):
    """What an admin sees at the start."""

    def test_two_errors_at_once_and_exit_status_1(self) -> object:
        return self.play(self._errors)

    def _errors(self) -> None:
        server = self.server()
        text = server.config.read_text()
        text = text.replace('"127.0.0.1/32"', '"192.168.0.0/33"') + "[limits]\nmesage_size = 1\n"
        server.config.write_text(text)
        done = _twistd("-n", "--pidfile=", "mailserver", "--config", str(server.config), cwd=server.directory)
        assert done.returncode == 1
        lines = text.split("\n")
        network = next(n for n, line in enumerate(lines, 1) if "192.168.0.0/33" in line)
        limit = next(n for n, line in enumerate(lines, 1) if "mesage_size" in line)
        assert (
            f'mailserver.toml:{network}: relay.networks[0]: "192.168.0.0/33" is not a network'
            in done.stderr.decode()
        )
        assert f"mailserver.toml:{limit}: limits.mesage_size" in done.stderr.decode()
        assert b"Traceback" not in done.stderr + done.stdout

    def test_a_second_server_on_one_state_directory_refuses_to_start(self) -> object:
        return self.play(self._second)

    def _second(self) -> None:
        server = self.server()
        server.start()
        done = _twistd("-n", "--pidfile=", "mailserver", "--config", str(server.config), cwd=server.directory)
        assert done.returncode == 1
        assert f"pid {server.pid}" in done.stderr.decode(), done.stderr
        assert b"Traceback" not in done.stderr + done.stdout
        assert server.address("smtp")
        with smtp(server) as session:
            assert session.noop()[0] == 250

    def test_reload_takes_a_good_configuration_and_refuses_a_bad_one_whole(self) -> object:
        return self.play(self._reload)

    def _reload(self) -> None:
        server = self.server()
        server.start()
        users = server.config.parent / "domains" / "example.lan" / "users"
        with smtp(server) as session:
            session.ehlo()
            session.mail("x@elsewhere.example")
            assert session.rcpt("carol@example.lan")[0] == 550
            users.write_text(users.read_text() + "carol:{PLAIN}secret\n")
            server.reload()
            until(lambda: session.rcpt("carol@example.lan")[0] == 250, "carol, in the session that was open")
            good = server.config.read_text()
            users.write_text(users.read_text() + "dave:{PLAIN}secret\n")
            server.config.write_text(good.replace("127.0.0.1/32", "127.0.0.1/99"))
            before = server.log.stat().st_size
            server.reload()
            until(lambda: b"127.0.0.1/99" in server.log.read_bytes()[before:], "the refusal")
            assert session.rcpt("dave@example.lan")[0] == 550
            server.config.write_text(good)
            server.reload()
            until(lambda: session.rcpt("dave@example.lan")[0] == 250, "dave")


def _twistd(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    code = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, check=False, timeout=60, cwd=cwd
    )

"""POP3 as people use it: six clients of other makers, and one other server on the same Maildir.

Each client fetches and leaves everything on the server, fetches again and gets nothing, and then fetches what
has come since and deletes; once with STLS, once with TLS from the first octet. Then the connection is cut in
the midst of a message, by something that stands between.
"""

import contextlib
import os
import poplib
import pty
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mailserver.rehearsal.server import ServerProcess
from tests.support.dovecot import dovecot
from tests.support.rehearsal import PASSWORD, ServerTestCase, count, fetch_all, needs, pop3, run, smtp, until

USER = "alice@example.lan"

_CUT = b"Error talking to"  # as mutt says that the connection is lost


class Maker:
    """A client in a home of its own.

    :param address: host and port.
    :param implicit: TLS from the first octet; else STLS, or nothing where ``plain``.
    """

    cut_after = 100_000
    """Octets after which a connection is cut: in the midst of a message."""

    whole = True
    """Delivers whole messages only, and knows by their unique-ids which it has delivered, also after a cut."""

    def __init__(self, address: tuple[str, int], implicit: bool, plain: bool = False) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pop3-client-"))
        self.host, self.port = address
        self.implicit, self.plain = implicit, plain

    def fetch(self, delete: bool = False) -> None:
        """Fetch what is new. Raises ``AssertionError`` when the client says it failed."""
        raise NotImplementedError

    def got(self) -> list[str]:
        """The subjects of all that was ever fetched."""
        found: list[str] = []
        for path in self.home.rglob("*"):
            if path.is_file() and path.parent.name in ("new", "cur", "got"):
                found += re.findall(r"(?m)^Subject: (.*?)\r?$", path.read_text("latin-1"))
        return sorted(found)

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def maildir(self, name: str = "box") -> Path:
        for part in ("tmp", "new", "cur"):
            (self.home / name / part).mkdir(parents=True, exist_ok=True)
        return self.home / name


class Fetchmail(Maker):
    whole = False  # what had come of a message goes to the program that delivers

    def fetch(self, delete: bool = False) -> None:
        (self.home / "got").mkdir(exist_ok=True)
        tls = "ssl" if self.implicit else "sslproto ''" if self.plain else "sslproto 'TLS1.2+'"
        keep = "nokeep flush" if delete else "keep"
        rc = self.write(
            "rc",
            f"poll mail.example.lan via {self.host} service {self.port} proto pop3 uidl user {USER} password {PASSWORD}"
            f" {tls} no sslcertck {keep} mda 'cat >> {self.home}/got/all'\n",
        )
        environment = {**os.environ, "HOME": str(self.home), "FETCHMAILHOME": str(self.home)}
        done = subprocess.run(
            [
                "fetchmail",
                "-f",
                str(rc),
                "--pidfile",
                str(self.home / "pid"),
                "--idfile",
                str(self.home / "ids"),
                "--nosyslog",
                "--nobounce",
            ],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (0, 1), done  # 1: there is no mail


class Mpop(Maker):
    def fetch(self, delete: bool = False) -> None:
        rc = self.write(
            "rc",
            f"account default\nhost {self.host}\nport {self.port}\nuser {USER}\npassword {PASSWORD}\n"
            f"tls {'off' if self.plain else 'on'}\ntls_starttls {'off' if self.implicit else 'on'}\n"
            f"tls_certcheck off\nkeep {'off' if delete else 'on'}\nauth {'user' if self.plain else 'on'}\n"
            f"uidls_file {self.home}/ids\ndelivery maildir {self.maildir()}\n",
        )
        run("mpop", "-C", str(rc), "-q", env={**os.environ, "HOME": str(self.home)})


class Getmail(Maker):
    whole = False  # writes down what it has delivered when a session has ended well

    def fetch(self, delete: bool = False) -> None:
        kind = "SimplePOP3SSLRetriever" if self.implicit else "SimplePOP3Retriever"
        self.write(
            "rc",
            f"[retriever]\ntype = {kind}\nserver = {self.host}\nport = {self.port}\nusername = {USER}\n"
            f"password = {PASSWORD}\n[destination]\ntype = Maildir\npath = {self.maildir()}/\n"
            f"[options]\nread_all = false\ndelete = {'true' if delete else 'false'}\nverbose = 0\n",
        )
        shutil.chown(self.home, "nobody")
        for path in self.home.rglob("*"):
            shutil.chown(path, "nobody")
        # It will not deliver as root. It knows a maildrop by its server's name and port.
        run(
            *("runuser", "-u", "nobody", "--", "env", f"HOME={self.home}"),
            *("getmail", "--getmaildir", str(self.home), "--rcfile", str(self.home / "rc"), "--quiet"),
        )


class Curl(Maker):
    """Knows nothing of unique-ids: whoever scripts it compares them. Connects anew for every command."""

    cut_after = 20_000

    def fetch(self, delete: bool = False) -> None:
        known = self.home / "ids"
        seen = known.read_text().split() if known.exists() else []
        (self.home / "got").mkdir(exist_ok=True)
        for line in self._say("UIDL").decode().split("\r\n"):
            number, _, uid = line.partition(" ")
            if not uid:
                continue
            if uid not in seen:
                (self.home / "got" / uid).write_bytes(self._curl(f"/{number}"))
                seen.append(uid)
                known.write_text("\n".join(seen))
        for _ in seen if delete else ():
            self._curl("/", "--request", "DELE 1", "--head")

    def _say(self, command: str) -> bytes:
        return self._curl("/", "--request", command)

    def _curl(self, path: str, *options: str) -> bytes:
        scheme = "pop3s" if self.implicit else "pop3"
        tls = () if self.plain or self.implicit else ("--ssl-reqd",)
        url = f"{scheme}://{self.host}:{self.port}{path}"
        login = ("--user", f"{USER}:{PASSWORD}")
        return run("curl", "--silent", "--show-error", "--insecure", *tls, *login, *options, url).stdout


class Mutt(Maker):
    """In a terminal of its own, with the keys typed ahead."""

    whole = False  # knows nothing of unique-ids when it fetches

    def fetch(self, delete: bool = False) -> None:
        scheme = "pops" if self.implicit else "pop"
        rc = self.write(
            "rc",
            f"set spoolfile={self.maildir()}\nset folder={self.home}\nset header_cache=\n"
            f"set pop_host={scheme}://{self.host}:{self.port}\nset pop_user={USER}\nset pop_pass={PASSWORD}\n"
            f"set pop_delete={'yes' if delete else 'no'}\nset pop_last=no\nset ssl_starttls={'no' if self.plain else 'yes'}\n"
            f"set ssl_force_tls={'no' if self.plain else 'yes'}\nset certificate_file={self.home}/certs\n"
            "set ssl_verify_host=no\nset ssl_verify_dates=no\nset pop_checkinterval=0\nset quit=yes\n"
            "set move=no\nset confirmappend=no\nset beep=no\nset mbox_type=Maildir\nset wait_key=no\n",
        )
        master, slave = pty.openpty()
        environment = {**os.environ, "HOME": str(self.home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        command = ["mutt", "-F", str(rc), "-f", str(self.maildir()), "-e", 'push "<fetch-mail>"']
        mutt = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        screen = bytearray()

        def watch() -> None:
            try:
                while data := os.read(master, 65536):
                    screen.extend(data)
            except OSError:
                pass

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            until(lambda: self._is_done(master, screen), "mutt to fetch", 20)
            os.write(master, b"q")
            mutt.wait(20)
            watcher.join(20)
            assert _CUT not in screen, "the connection was lost"
        finally:
            mutt.kill()
            mutt.wait()
            os.close(master)

    def _is_done(self, master: int, screen: bytearray) -> bool:
        if b"(a)ccept always" in screen or b"accept (o)nce" in screen or b"(r)eject" in screen:
            screen.clear()
            os.write(master, b"o")
        if b"Delete messages" in screen:
            screen.clear()
            os.write(master, b"n")
        return any(word in screen for word in (b"messages read", b"message read", b"No new mail", _CUT))


class Way:
    """A way to the server.

    :ivar address: where it begins.
    :ivar most: octets that come back by a new connection before it breaks off, with RST.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.most = float("inf")


@contextmanager
def way_to(address: tuple[str, int]) -> Iterator[Way]:
    """A way that can be cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way = Way(listener.getsockname()[:2])

        def pump(source: socket.socket, sink: socket.socket, most: float) -> None:
            try:
                while most > 0 and (data := source.recv(min(65536, int(min(most, 65536))))):
                    sink.sendall(data)
                    most -= len(data)
            except OSError:
                pass
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # or the other thread would hold it open
                end.close()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server = socket.create_connection(address)
                threading.Thread(target=pump, args=(client, server, float("inf")), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, way.most), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield way


class Clients(ServerTestCase):
    """Leave on the server, then delete; STLS and pop3s; cut in mid-message."""

    @needs("fetchmail")
    def test_fetchmail(self) -> object:
        return self.play(self._client, Fetchmail)

    @needs("mpop")
    def test_mpop(self) -> object:
        return self.play(self._client, Mpop)

    @needs("getmail")
    @pytest.mark.skipif(os.geteuid() != 0, reason="runs getmail as nobody, which only root can")
    def test_getmail(self) -> object:
        return self.play(self._client, Getmail)

    @needs("curl")
    def test_curl(self) -> object:
        return self.play(self._client, Curl)

    @needs("mutt")
    def test_mutt(self) -> object:
        return self.play(self._client, Mutt)

    def _client(self, make: Callable[..., Maker]) -> None:
        server = self.server(services=("smtp", "pop3", "pop3s"), users={"example.lan": self._users()})
        server.start()
        for implicit in (False, True):
            client = make(server.address("pop3s" if implicit else "pop3"), implicit)
            self.addCleanup(shutil.rmtree, client.home, ignore_errors=True)
            self._leave_then_delete(server, client)
            assert count(server) == 0
        self._cut(server, make)
        assert b"Traceback" not in server.log.read_bytes()

    def _users(self) -> str:
        return f"alice:{{PLAIN}}{PASSWORD}\n"

    def _leave_then_delete(self, server: ServerProcess, client: Maker) -> None:
        send(server, 0, 3)
        client.fetch()
        assert client.got() == subjects(0, 3)
        assert count(server) == 3
        if not isinstance(client, Mutt):  # whose own "last" is a header that the server would have to write
            client.fetch()
            assert client.got() == subjects(0, 3), "fetched twice"
            send(server, 3, 5)
        client.fetch(delete=True)
        if not isinstance(client, Mutt):
            assert client.got() == subjects(0, 5)
        for left in fetch_all(server):
            assert isinstance(client, Getmail), left
        if count(server):
            # It deletes what it has just fetched; what it knew from before goes with its next run.
            client.fetch(delete=True)

    def _cut(self, server: ServerProcess, make: Callable[..., Maker]) -> None:
        send(server, 0, 6, 40_000)
        with way_to(server.address("pop3")) as way:
            # mpop 1.4 reads on for ever where a connection without TLS breaks off in a message.
            client = make(way.address, False, plain=make is not Mpop)
            self.addCleanup(shutil.rmtree, client.home, ignore_errors=True)
            way.most = client.cut_after
            with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
                client.fetch(delete=True)
            assert count(server) >= 4, "deleted without QUIT"
            way.most = float("inf")
            client.fetch(delete=True)
            if count(server):
                client.fetch(delete=True)
        assert sorted(set(client.got())) == subjects(0, 6), "lost"
        if client.whole:
            assert client.got() == subjects(0, 6), "fetched twice"
        assert count(server) == 0


def subjects(start: int, end: int) -> list[str]:
    return [f"number {number}" for number in range(start, end)]


def send(server: ServerProcess, start: int, end: int, octets: int = 100) -> None:
    before = count(server)
    with smtp(server) as session:
        for number in range(start, end):
            text = f"From: bob@example.lan\r\nSubject: number {number}\r\n\r\n" + ("x" * 70 + "\r\n") * (
                octets // 72
            )
            session.sendmail("bob@example.lan", [USER], text)
    until(lambda: count(server) == before + end - start, "the mail")


class Sessions(ServerTestCase):
    """One maildrop, one session; and what is deleted was received."""

    def test_in_use(self) -> object:
        return self.play(self._in_use)

    def _in_use(self) -> None:
        server = self.server()
        server.start()
        first, second = pop3(server), poplib.POP3(*server.address("pop3"), timeout=10)
        with closing(first), closing(second):
            second.user(USER)
            with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
                second.pass_(PASSWORD)
            first.close()
            until(lambda: attempt(second), "the lock to be let go")

    def test_nothing_is_deleted_that_was_not_received(self) -> object:
        return self.play(self._not_received)

    def _not_received(self) -> None:
        """RETR, DELE and QUIT in one segment, and a client that reads a little and is gone."""
        server = self.server()
        server.start()
        send(server, 0, 1, 3_000_000)
        with socket.create_connection(server.address("pop3"), 10) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(f"USER {USER}\r\nPASS {PASSWORD}\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n".encode())
            peer.recv(1000)
            time.sleep(0.5)
        until(lambda: try_count(server) == 1, "the session to end, and the message to be there")


def attempt(session: poplib.POP3) -> bool:
    """Log in, if nobody else is."""
    try:
        session.user(USER)
        session.pass_(PASSWORD)
    except poplib.error_proto as refusal:
        if b"[IN-USE]" not in refusal.args[0]:
            raise
        return False
    session.quit()
    return True


def try_count(server: ServerProcess) -> int:
    try:
        return count(server)
    except poplib.error_proto:
        return -1


class Dovecot(ServerTestCase):
    """Another server opens the same Maildir and sees the same messages."""

    @needs("dovecot")
    @pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot is started by root")
    def test_same_messages_same_sizes(self) -> object:
        return self.play(self._dovecot)

    def _dovecot(self) -> None:
        server = self.server()
        server.start()
        send(server, 0, 5, 1000)
        ours = listing(pop3(server))
        box = server.state / "mail" / "example.lan" / "alice"
        with dovecot(box, USER, PASSWORD) as port:
            theirs = until(lambda: try_login(port), "Dovecot")
            seen = [(uid.partition(b",")[0], size) for uid, size in listing(theirs)]
            assert seen == ours
        assert listing(pop3(server)) == ours, "Dovecot's visit left a trace"


def try_login(port: int) -> poplib.POP3 | None:
    try:
        session = poplib.POP3("127.0.0.1", port, timeout=20)
        session.user(USER)
        session.pass_(PASSWORD)
    except (OSError, poplib.error_proto):
        return None
    return session


def listing(session: poplib.POP3) -> list[tuple[bytes, bytes]]:
    """Unique-ids and sizes, in order; ends the session."""
    sizes = [row.split()[1] for row in session.list()[1]]
    uids = [row.split()[1] for row in session.uidl()[1]]
    session.quit()
    return list(zip(uids, sizes, strict=True))

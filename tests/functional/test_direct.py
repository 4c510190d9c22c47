"""Direct delivery on the real program: one story in journal and history, orders honoured, nothing lost at a stop."""

import re
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mailserver.rehearsal.server import ServerProcess
from tests.functional.test_faults import Load
from tests.support.rehearsal import PASSWORD, ServerTestCase, body_of, fetch_all, mailctl, run, smtp, until

LETTER = b"Subject: x\r\nMessage-ID: <1@x.example>\r\n\r\ntext\r\n"


def new(server: ServerProcess, name: str) -> list[Path]:
    return sorted(server.state.glob(f"mail/*/{name}/new/*"))


def send(server: ServerProcess, *to: str, text: bytes = LETTER) -> str:
    """Send a letter, without announcing its size; its queue ID, by the reply."""
    with smtp(server) as session:
        session.ehlo()
        session.mail("s@x.example")
        for one in to:
            assert session.rcpt(one)[0] == 250
        code, text = session.data(text)
        assert code == 250, text
    return text.decode().rpartition(" ")[2]


def events(server: ServerProcess, id: str) -> list[str]:
    """What the journal says of a message, in order."""
    return re.findall(rf"mail#\w+\] (\w+) id={id}\b", server.log.read_text())


class StoryTests(ServerTestCase):
    """Accepted, delivered, removed: in the journal and for ``mailctl trace``, as for mail that was queued."""

    def test_story(self) -> object:
        return self.play(self._story)

    def _story(self) -> None:
        server = self.server(aliases={"example.lan": "both: alice, bob\n"})
        server.start()
        id = send(server, "both@example.lan")
        # Said after it is in the mailboxes, and before anything could have fetched it from a queue.
        (first,), (second,) = new(server, "alice"), new(server, "bob")
        assert first.stat().st_ino == second.stat().st_ino
        assert first.read_bytes().startswith(b"Return-Path: <s@x.example>\nReceived: ")
        until(lambda: "removed" in events(server, id), "the journal")
        assert events(server, id) == ["accepted", "delivered", "delivered", "removed"]
        with sqlite3.connect(f"file:{server.state}/spool/spool.db?mode=ro", uri=True) as spool:
            # Nothing ever stood there: the numbers have not begun.
            assert spool.execute("SELECT count(*) FROM message").fetchone() == (0,)
        for word in (id, "bob@example.lan", "1@x.example"):
            told = until(lambda word=word: self._trace(server, word), "the history")
            assert f"{id}  from <s@x.example>" in told
            assert "accepted from 127.0.0.1 (client.example.lan) by ESMTP" in told
            for name in ("alice", "bob"):
                line = f"<{name}@example.lan> (for both@example.lan) delivered: 2.1.5 delivered to mailbox"
                assert line in told

    def _trace(self, server: ServerProcess, word: str) -> str:
        command = (sys.executable, "-m", "mailserver.cli.main", "--config", str(server.config))
        try:
            return run(*command, "trace", word).stdout.decode()
        except AssertionError:
            return ""  # the history is written behind the mail


class OrdersTests(ServerTestCase):
    """What the administrator has ordered holds for mail that could be delivered at once."""

    def test_orders(self) -> object:
        return self.play(self._orders)

    def _orders(self) -> None:
        server = self.server()
        server.start()
        mailctl(server, "queue", "pause", "example.lan")
        send(server, "alice@example.lan")
        assert not new(server, "alice")
        server.stop()
        server.start()  # the order outlasts the server
        send(server, "alice@example.lan")
        assert not new(server, "alice")
        mailctl(server, "queue", "resume", "example.lan")
        until(lambda: len(new(server, "alice")) == 2, "what was paused")
        mailctl(server, "queue", "rule", "add", "hold", "--domain", "example.lan")
        send(server, "alice@example.lan")
        assert "held" in mailctl(server, "queue", "list")
        mailctl(server, "queue", "rule", "remove", "1")
        send(server, "alice@example.lan")
        assert len(new(server, "alice")) == 3


class PartTests(ServerTestCase):
    """One mailbox is full: the other's copy is delivered, and the rest of the story is the queue's."""

    def test_part(self) -> object:
        return self.play(self._part)

    def _part(self) -> None:
        users = f"alice:{{PLAIN}}{PASSWORD}\nbob:{{PLAIN}}{PASSWORD}:quota=1KB\n"
        server = self.server(users={"example.lan": users}, tables={"delivery": 'retry = ["1s"]'})
        server.start()
        send(server, "bob@example.lan", text=LETTER + b"y" * 500)
        id = send(server, "alice@example.lan", "bob@example.lan", text=LETTER + b"z" * 500)
        assert len(new(server, "alice")) == 1
        until(lambda: "delayed" in events(server, id), "the first attempt")
        assert events(server, id)[:2] == ["accepted", "delivered"]
        assert "mailbox full" in mailctl(server, "trace", id)
        for path in new(server, "bob"):
            path.unlink()
        until(lambda: "removed" in events(server, id), "bob's copy")
        told = until(lambda: self._told(server, id), "the whole story")
        assert told.count("accepted from") == 1

    def _told(self, server: ServerProcess, id: str) -> str:
        told = mailctl(server, "trace", id)
        return told if all(f"<{name}@example.lan> delivered" in told for name in ("alice", "bob")) else ""


class StopTests(ServerTestCase):
    """A stop in the midst of many commits: what was answered 250 is there, and nothing is there twice."""

    def test_stop(self) -> object:
        return self.play(self._stop)

    def _stop(self) -> None:
        server = self.server()
        acknowledged: set[bytes] = set()
        for _ in range(3):
            server.start()
            load: Any = Load(server, "alice@example.lan")
            until(lambda load=load: len(load.acknowledged) > 20, "some mail")
            ending = threading.Thread(target=load.stop)
            assert server.stop() == 0
            ending.start()
            ending.join()
            acknowledged |= load.acknowledged
        server.start()
        bodies = [body_of(message) for message in fetch_all(server)]
        deadline = time.monotonic() + 60
        while not acknowledged <= set(bodies) and time.monotonic() < deadline:
            time.sleep(0.5)  # large ones were queued
            bodies = [body_of(message) for message in fetch_all(server)]
        assert acknowledged <= set(bodies)

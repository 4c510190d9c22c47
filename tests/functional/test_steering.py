"""The administrator's commands on the queue of a real server: they do what they say."""

import json
import time

from click.testing import CliRunner
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mailserver.cli.main import main
from mailserver.rehearsal.hosts import Behaviour, MailHost, Stage, common_port
from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import ServerTestCase, fetch_all, smtp, until

LATER = "450 4.2.0 Come back later"
ALICE = "alice@example.lan"


class SteeringTests(ServerTestCase):
    """One server, a next hop that always says "later", and one that takes everything."""

    def test_the_queue_is_steered(self) -> object:
        return Deferred.fromCoroutine(self._with_hosts(self._steered))

    def test_what_stands_survives_a_restart(self) -> object:
        return Deferred.fromCoroutine(self._with_hosts(self._standing))

    async def _with_hosts(self, story) -> None:
        port = common_port(["127.0.0.21", "127.0.0.22"])
        busy = MailHost(reactor, "127.0.0.21", port, Behaviour({Stage.RCPT: LATER}))
        self.free = MailHost(reactor, "127.0.0.22", port)
        for host in (busy, self.free):
            host.start()
            self.addCleanup(host.stop)
        server = self.server(
            users={"example.lan": "alice:{PLAIN}secret\n"},
            tables={"delivery": f'smarthost = ["127.0.0.21:{port}"]\nloopback = true\nretry = ["1h"]'},
        )
        self.port = port
        server.start()
        await self.play(story, server)

    def ctl(self, server: ServerProcess, *command: str) -> str:
        done = CliRunner().invoke(main, ["--config", str(server.config), *command])
        assert done.exit_code == 0, (command, done.output, done.exception)
        return done.output

    def told(self, server: ServerProcess, what: str, words: str) -> str:
        """The story of something, once it tells that; history is written behind the mail."""

        def trace() -> str:
            done = CliRunner().invoke(main, ["--config", str(server.config), "trace", what])
            return done.output if words in done.output else ""

        return until(trace, f"{words} in the story of {what}")

    def queued(self, server: ServerProcess, *filters: str) -> list[dict]:
        lines = self.ctl(server, "queue", "list", "--json", *filters).splitlines()
        return [json.loads(line) for line in lines]

    def send(self, server: ServerProcess, *recipients: str, message_id: str = "1@client") -> None:
        with smtp(server) as session:
            text = f"Subject: x\r\nMessage-ID: <{message_id}>\r\n\r\nbody\r\n"
            session.sendmail(ALICE, list(recipients), text.encode())

    def _steered(self, server: ServerProcess) -> None:
        self.send(server, "a@one.example", "b@two.example", message_id="first@client")
        self.send(server, "c@two.example", message_id="second@client")
        until(lambda: all(one["attempts"] for one in self.queued(server)), "first attempts")
        assert [one["recipient"] for one in self.queued(server, "--domain", "two.example")] == (
            ["b@two.example", "c@two.example"]
        )
        assert len(self.queued(server, "--error", "come back")) == 3
        assert len(self.queued(server, "--error", "450")) == 3
        assert self.queued(server, "--error", "no such user") == []
        assert len(self.queued(server, "--from", "example.lan", "--older", "1h")) == 0
        assert "one.example" in self.ctl(server, "queue", "list", "--count")
        first = self.queued(server, "--to", "a@one.example")[0]["id"]

        # the story of what waits, by each of its names
        for name in (first, "first@client", "b@two.example"):
            told = self.ctl(server, "trace", name)
            for words in ("asked", "next attempt", "Come back later"):
                assert words in told, told
        assert "next attempt" in self.ctl(server, "queue", "show", first)

        # hold, release
        assert "held 2 recipients" in self.ctl(server, "queue", "hold", "--domain", "two.example")
        assert [one["state"] for one in self.queued(server)] == ["waiting", "held", "held"]
        assert "is held" in self.ctl(server, "trace", "c@two.example")
        assert "released 1 recipient" in self.ctl(server, "queue", "release", "--to", "b@two.example")
        until(
            lambda: self.queued(server, "--to", "b@two.example")[0]["attempts"] == 2, "the attempt after it"
        )

        # edit, reroute
        self.ctl(server, "queue", "edit", first, "--replace", "a@one.example", "z@three.example")
        assert self.queued(server, "--domain", "three.example")[0]["id"] == first
        self.ctl(server, "queue", "reroute", "--domain", "three.example", "--via", f"127.0.0.22:{self.port}")
        until(lambda: self.free.messages, "the mail at the other host")
        assert self.free.messages[0].recipients == ("z@three.example",)

        # bounce, drop
        until(lambda: len(self.queued(server)) == 2, "its end")
        assert "bounced 1 recipient" in self.ctl(server, "queue", "bounce", "--to", "b@two.example")
        (report,) = until(lambda: fetch_all(server), "the report")
        assert b"cancelled by the administrator" in report
        assert b"Status: 5.7.0" in report
        for words in ("accepted from 127.0.0.1", "delivered", "failed", "report", "administrator: reroute"):
            self.told(server, first, words)
        assert "dropped 1 recipient" in self.ctl(server, "queue", "drop", "--all", "--yes")
        assert "nothing is queued" in self.ctl(server, "queue", "list")
        self.told(server, "second@client", "dropped by the administrator")

        # refused mail
        with smtp(server, "127.0.0.9") as session:
            session.ehlo()
            session.mail("stranger@elsewhere.example")
            assert session.rcpt("victim@faraway.example")[0] == 550
        self.told(server, "victim@faraway.example", "refused: 127.0.0.9")
        # and without the server
        server.stop()
        assert "delivered" in self.ctl(server, "trace", first)
        assert "nothing is queued" in self.ctl(server, "queue", "list")

    def _standing(self, server: ServerProcess) -> None:
        self.ctl(server, "queue", "pause", "one.example")
        self.ctl(server, "queue", "rule", "add", "hold", "--domain", "two.example")
        for start in range(2):
            self.send(server, f"a{start}@one.example", f"b{start}@two.example", f"c{start}@three.example")
            until(lambda: self.queued(server, "--domain", "three.example")[-1]["attempts"], "an attempt")
            if not start:
                server.stop()
                assert len(self.queued(server)) == 3
                server.start()
        assert {one["attempts"] for one in self.queued(server, "--domain", "one.example")} == {0}
        held = self.queued(server, "--domain", "two.example")
        assert [one["state"] for one in held] == ["held", "held"]
        assert held[0]["hold"] == "rule 1: domain two.example"
        assert "PAUSED" in self.ctl(server, "queue", "list")
        assert "1  hold domain two.example" in self.ctl(server, "queue", "rule", "list")
        self.ctl(server, "queue", "rule", "remove", "1")
        self.ctl(server, "queue", "resume", "one.example")
        until(lambda: all(e["attempts"] for e in self.queued(server, "--domain", "one.example")), "attempts")
        self.ctl(server, "queue", "pause", "--all")
        self.send(server, "d@four.example")
        time.sleep(0.3)
        assert self.queued(server, "--domain", "four.example")[0]["attempts"] == 0
        self.ctl(server, "queue", "resume", "--all")
        until(lambda: self.queued(server, "--domain", "four.example")[0]["attempts"], "the attempt")
        server.stop()

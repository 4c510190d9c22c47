"""A domain where nobody can be spoken to: what the administrator is told, and that one success wakes its mail."""

import json
from typing import Any

from click.testing import CliRunner
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.cli.main import main
from mailserver.rehearsal.hosts import MailHost, common_port
from mailserver.rehearsal.server import ServerProcess
from tests.support.rehearsal import ServerTestCase, smtp, until

reactor: Any = default_reactor


class TroubleTests(ServerTestCase):
    def ctl(self, server: ServerProcess, *command: str) -> str:
        done = CliRunner().invoke(main, ["--config", str(server.config), *command])
        assert done.exit_code == 0, (command, done.output, done.exception)
        return done.output

    def queued(self, server: ServerProcess) -> list[dict[str, Any]]:
        lines = self.ctl(server, "queue", "list", "--json").splitlines()
        return [json.loads(line) for line in lines]

    def resting(self, server: ServerProcess) -> dict[str, Any] | None:
        (told,) = map(json.loads, self.ctl(server, "queue", "destinations", "--json").splitlines())
        return told if told["rests"] else None

    def test_told_and_woken(self) -> object:
        port = common_port(["127.0.0.141"])
        host = MailHost(reactor, "127.0.0.141", port)
        server = self.server(
            tables={"delivery": f'smarthost = ["127.0.0.141:{port}"]\nloopback = true\nretry = ["1h"]'}
        )

        def story() -> None:
            server.start()
            assert self.ctl(server, "queue", "destinations") == "no destination is in trouble\n"
            for number in range(3):
                with smtp(server) as session:
                    text = b"Subject: x\r\n\r\n%d\r\n" % number
                    session.sendmail("alice@example.lan", ["carol@dead.example"], text)
            ids = [one["id"] for one in until(lambda: self.queued(server), "the queue")]
            for id in ids:
                # What comes while a destination rests has not been tried: now it is, and has its hour to wait.
                self.ctl(server, "queue", "retry", id)
                until(
                    lambda id=id: [one for one in self.queued(server) if one["id"] == id and one["attempts"]],
                    "an attempt",
                )
            until(lambda: "dead.example" in self.ctl(server, "queue", "destinations"), "the trouble")
            told = until(lambda: self.resting(server), "a rest after the last attempt")
            assert (told["domain"], told["queued"]) == ("dead.example", 3)
            assert 0 < told["rests"] <= 300
            assert "no connection" in told["error"]
            assert "TROUBLE at dead.example: nobody there for" in self.ctl(server, "queue", "list")
            assert "dead.example: nobody there for" in self.ctl(server, "queue", "show", ids[0])
            reactor.callFromThread(host.start)
            self.ctl(server, "queue", "retry", ids[0])
            until(lambda: len(host.messages) == 3, "all that waited, hours before its time")
            until(lambda: "in trouble" in self.ctl(server, "queue", "destinations"), "its end")
            server.stop()
            assert "nothing is queued" in self.ctl(server, "queue", "list")

        async def play() -> None:
            try:
                await self.play(story)
            finally:
                await host.stop()

        return Deferred.fromCoroutine(play())

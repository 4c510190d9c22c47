"""Workers speak to other hosts for their parent: who does, and what becomes of the mail when one goes."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.net.certificates import ensure_self_signed
from mailserver.net.tls import Certificates
from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage
from mailserver.rehearsal.server import ServerProcess
from tests.functional.test_workers import pids
from tests.support.rehearsal import ServerTestCase, smtp, until

reactor: Any = default_reactor
THERE = "carol@outside.example"
SILENT = Behaviour(answers={Stage.DOT: Deed.SILENCE})


class TwoAtATime(dict[str, Any]):
    """What a host says to RCPT: yes to two, too many to two more, nothing when one comes again, then yes."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, address: str, otherwise: Any = None) -> Any:
        self.asked.append(address)
        return {3: "452 4.5.3 too many", 4: "452 4.5.3 too many", 5: Deed.SILENCE}.get(
            len(self.asked), otherwise
        )


class OutboundTests(ServerTestCase):
    """Two workers, and one host that takes all mail for the outside."""

    def stage(self, story: Callable[[ServerProcess], None], behaviour: Behaviour | None = None) -> object:
        self.host = host = MailHost(reactor, "127.0.0.1", 0, behaviour)

        async def play() -> None:
            host.start()
            try:
                delivery = f'smarthost = ["127.0.0.1:{host.port}"]\nloopback = true\nretry = ["1s"]'
                server = self.server(workers=2, tables={"delivery": delivery})
                server.start()
                await self.play(until, lambda: len(pids(server)) == 2, "both workers")
                await self.play(story, server)
            finally:
                await host.stop()

        return Deferred.fromCoroutine(play())

    def send(self, server: ServerProcess, *bodies: str) -> None:
        with smtp(server) as session:
            for body in bodies:
                session.sendmail("alice@example.lan", [THERE], f"Subject: x\r\n\r\n{body}\r\n")

    def bodies(self) -> list[str]:
        """Of the messages that the host took, in order."""
        return [mail.content.partition(b"\r\n\r\n")[2][:20].decode().strip() for mail in self.host.messages]

    def speakers(self, server: ServerProcess) -> set[int]:
        """The server's processes that have a connection to the host."""
        to = f":{self.host.port:04X} 01 "
        lines = Path("/proc/net/tcp").read_text().splitlines()
        inodes = {f"socket:[{line.split()[9]}]" for line in lines if to in line}
        found = set()
        for pid in (server.pid, *pids(server)):
            if inodes & {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}:
                found.add(pid)
        return found

    def speaking(self, server: ServerProcess, body: str) -> int:
        """Send a message to a host that will be silent; who is offering it there."""
        self.send(server, body)
        (speaker,) = until(lambda: self.speakers(server), "who speaks")
        until(lambda: "DATA" in self.host.commands, "the mail under way")
        return speaker

    def in_log(self, server: ServerProcess, *words: str) -> list[str]:
        lines = server.log.read_text().splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def test_a_worker_speaks_and_the_parent_does_not(self) -> object:
        def story(server: ServerProcess) -> None:
            self.send(server, *(f"n{n}" for n in range(50)))
            until(lambda: len(self.host.messages) == 50, "all of it")
            (speaker,) = self.speakers(server)
            assert speaker in pids(server)
            assert sorted(self.bodies()) == sorted(f"n{n}" for n in range(50))
            until(lambda: len(self.in_log(server, " removed ")) == 50, "the end of all")
            for line in self.in_log(server, " delivered "):
                id = re.search(r"id=(\w+)", line)
                assert id is not None
                events = [it.split()[2] for it in self.in_log(server, id[0])]
                # That another worker has accepted it may be told a moment later.
                assert [it for it in events if it != "accepted"] == ["attempted", "delivered", "removed"]
            assert server.stop() == 0

        return self.stage(story)

    def test_large_mail_as_well(self) -> object:
        """What is not at hand is brought by the parent."""

        def story(server: ServerProcess) -> None:
            self.send(server, "small", "large" + "x\r\n" * 200_000, "last")
            until(lambda: len(self.host.messages) == 3, "all of it")
            assert sorted(body[:5] for body in self.bodies()) == ["large", "last", "small"]
            assert server.pid in self.speakers(server)
            assert server.stop() == 0

        return self.stage(story)

    def test_in_tls(self) -> object:
        def story(server: ServerProcess) -> None:
            self.send(server, "protected")
            until(lambda: self.host.messages, "the mail")
            assert self.host.messages[0].tls == "TLSv1.3"
            until(lambda: self.in_log(server, " attempted ", "TLSv1.3", "unverified"), "what was noted")
            self.host.behaviour = Behaviour()
            until(lambda: not self.speakers(server), "the connection to be left")
            self.send(server, "not")
            until(
                lambda: self.in_log(server, " downgraded ", "before=encrypted"), "what is worse than before"
            )

        with TemporaryDirectory() as directory:
            pair = ensure_self_signed(Path(directory), "mx.outside.example")
        certificates = Certificates()
        certificates.load(pair)
        return self.stage(story, Behaviour(tls=certificates.current()))

    def test_one_that_dies_leaves_doubt_and_another_tries_again(self) -> object:
        def story(server: ServerProcess) -> None:
            os.kill(self.speaking(server, "twice at worst"), signal.SIGKILL)
            until(lambda: self.in_log(server, " delayed ", "scope=doubt", "4.3.2"), "the doubt")
            self.host.behaviour = Behaviour()
            until(lambda: self.host.messages, "the next attempt")
            until(lambda: self.in_log(server, " removed "), "the end")
            assert self.bodies() == ["twice at worst"]
            assert server.stop() == 0

        return self.stage(story, SILENT)

    def test_one_that_is_to_end_finishes_what_it_says(self) -> object:
        def story(server: ServerProcess) -> None:
            self.send(server, "once")
            (speaker,) = until(lambda: self.speakers(server), "who speaks")
            os.kill(speaker, signal.SIGTERM)
            until(lambda: self.in_log(server, f"(pid {speaker}) has ended"), "its end")
            assert not self.in_log(server, " delayed ")
            until(lambda: self.bodies() == ["once"], "the mail")
            until(lambda: self.in_log(server, " removed "), "the end")
            assert self.bodies() == ["once"]

        return self.stage(story)

    def test_what_it_breaks_off_another_begins_soon(self) -> object:
        def story(server: ServerProcess) -> None:
            os.kill(self.speaking(server, "broken off"), signal.SIGTERM)
            self.host.behaviour = Behaviour()
            until(lambda: self.bodies() == ["broken off"], "another")
            until(lambda: self.in_log(server, " removed "), "the end")
            assert not self.in_log(server, " delayed ")
            assert not self.in_log(server, "trouble")

        return self.stage(story, Behaviour(answers={Stage.DATA: Deed.SILENCE}))

    def test_what_it_breaks_off_behind_the_final_dot_is_in_doubt(self) -> object:
        """The host may have it: another is in no hurry to say it again."""

        def story(server: ServerProcess) -> None:
            os.kill(self.speaking(server, "in doubt"), signal.SIGTERM)
            until(lambda: self.in_log(server, " delayed ", "scope=doubt", "broken off"), "the doubt")
            assert self.host.commands.count("DATA") == 1
            self.host.behaviour = Behaviour()
            until(lambda: self.bodies() == ["in doubt"], "the next attempt")

        return self.stage(story, SILENT)

    def test_what_a_host_has_answered_is_not_asked_again(self) -> object:
        """Those who were too many for the first transaction are being offered in the second."""

        def story(server: ServerProcess) -> None:
            with smtp(server) as session:
                session.sendmail(
                    "alice@example.lan", [f"r{n}@outside.example" for n in range(4)], "x: y\r\n\r\n"
                )
            until(lambda: self.host.messages, "the first two")
            (speaker,) = until(lambda: self.speakers(server), "who speaks")
            os.kill(speaker, signal.SIGTERM)
            until(lambda: len(self.in_log(server, " delayed ")) == 2, "what was said of the others")
            until(lambda: self.in_log(server, " removed "), "the others", patience=20.0)
            taken = sorted(one for mail in self.host.messages for one in mail.recipients)
            assert taken == [f"r{n}@outside.example" for n in range(4)]

        return self.stage(story, Behaviour(recipients=TwoAtATime()))

    def test_a_stop_waits_for_no_host_and_loses_nothing(self) -> object:
        def story(server: ServerProcess) -> None:
            self.send(server, *(f"n{n}" for n in range(10)))
            until(lambda: self.host.commands.count("DATA") >= 5, "mail under way")
            begun, since = self.host.commands.count("DATA"), time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - since < 9.0
            assert self.host.commands.count("DATA") == begun, "nobody begins anew"
            assert not self.in_log(server, "trouble")
            self.host.behaviour = Behaviour()
            server.start()
            until(lambda: len(self.host.messages) == 10, "all of it, at the next start")
            assert sorted(self.bodies()) == sorted(f"n{n}" for n in range(10))
            assert server.stop() == 0

        return self.stage(story, SILENT)

    def test_one_that_stands_still_does_not_hold_up_what_comes(self) -> object:
        def story(server: ServerProcess) -> None:
            self.send(server, "first")
            until(lambda: self.host.messages, "the first")
            (speaker,) = self.speakers(server)
            os.kill(speaker, signal.SIGSTOP)
            try:
                for number in range(8):
                    with smtp(server) as session:
                        to = f"carol@n{number}.example"
                        session.sendmail("alice@example.lan", [to], "x: y\r\n\r\n")
                    time.sleep(2.0)
                assert len(self.host.messages) > 1
            finally:
                os.kill(speaker, signal.SIGCONT)
            until(lambda: len(self.host.messages) == 9, "all of it")

        return self.stage(story)

    def test_a_server_that_dies_takes_its_speakers_with_it(self) -> object:
        """What nobody could record is not said."""

        def story(server: ServerProcess) -> None:
            self.send(server, "once")
            until(lambda: "DATA" in self.host.commands, "the mail under way")
            server.kill()
            until(lambda: not self.host.visits, "the connection to be cut", patience=4.0)
            self.host.behaviour = Behaviour()
            server.start()
            until(lambda: self.host.messages, "the next attempt")
            assert self.bodies() == ["once"]
            assert server.stop() == 0

        return self.stage(story, SILENT)

"""Much mail for many domains, through a real Postfix, a real chasquid, and hosts that behave badly."""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred

from mailserver.rehearsal.hosts import Behaviour, Deed, MailHost, Stage, common_port
from mailserver.rehearsal.nameserver import Nameserver
from mailserver.rehearsal.server import ServerProcess
from tests.support.peers import chasquid, needs_chasquid, needs_postfix, postfix
from tests.support.rehearsal import ServerTestCase, fetch_all, smtp, until

reactor: Any = default_reactor
POSTFIX, CHASQUID = "127.0.0.161", "127.0.0.162"
BAD = [f"127.0.0.{number}" for number in range(171, 176)]
DOMAINS = [f"d{number:02}.example" for number in range(20)]
MESSAGES = 1000
SEED = 20261123


def message(number: int) -> bytes:
    return b"From: alice@example.lan\r\nSubject: x\r\nMessage-ID: <%d@many.example>\r\n\r\nhello\r\n" % number


def numbers(texts: Iterator[bytes]) -> Counter[int]:
    """How often each message is among these."""
    found = (re.search(rb"Message-ID: <([0-9]+)@many\.example>", text) for text in texts)
    return Counter(int(match[1]) for match in found if match)


class Moody(dict[Stage, str | Deed]):
    """Answers that differ from one time to the next."""

    def __init__(self, chance: random.Random, moods: dict[Stage, list[str | Deed]], often: float) -> None:
        super().__init__()
        self._chance = chance
        self._moods = moods
        self._often = often

    def get(self, stage: Stage, usual: Any = None) -> Any:  # type: ignore[override]
        if stage not in self._moods or self._chance.random() > self._often:
            return usual
        return self._chance.choice(self._moods[stage])


class PeersTests(ServerTestCase):
    def stage(
        self, zone: dict[str, list[str]], story: Callable[[ServerProcess], None], port: int, more: str
    ) -> object:
        names = Nameserver(reactor, zone)

        async def play() -> None:
            address, dns = await names.start()
            server = self.server(
                dns=f"{address}:{dns}",
                tables={"delivery": f"port = {port}\nloopback = true\n{more}"},
            )
            try:
                await self.play(story, server)
            finally:
                await names.stop()

        return Deferred.fromCoroutine(play())

    def send(self, server: ServerProcess, domains: list[str], count: int) -> None:
        with smtp(server) as session:
            for number in range(count):
                to = f"box+{number}@{domains[number % len(domains)]}"
                assert session.sendmail("alice@example.lan", [to], message(number)) == {}

    @needs_postfix
    @needs_chasquid
    def test_a_thousand_messages_to_twenty_domains_arrive_once(self) -> object:
        port = common_port([POSTFIX, CHASQUID])
        of_postfix, of_chasquid = DOMAINS[:10], DOMAINS[10:]
        zone = {domain: ["MX 10 mx.postfix.example."] for domain in of_postfix}
        zone |= {domain: ["MX 10 mx.chasquid.example."] for domain in of_chasquid}
        zone |= {"mx.postfix.example": [f"A {POSTFIX}"], "mx.chasquid.example": [f"A {CHASQUID}"]}

        def story(server: ServerProcess) -> None:
            with ExitStack() as stack:
                boxes = [
                    stack.enter_context(postfix(POSTFIX, port, of_postfix)),
                    stack.enter_context(chasquid(CHASQUID, port, of_chasquid)),
                ]
                server.start()
                self.send(server, DOMAINS, MESSAGES)
                until(lambda: sum(len(files(box)) for box in boxes) >= MESSAGES, "the mail")
                arrived = numbers(file.read_bytes() for box in boxes for file in files(box))
                assert arrived == Counter(range(MESSAGES))
                assert not fetch_all(server), "no reports"
                until(lambda: " removed " in server.log.read_text(), "the log")

        return self.stage(zone, story, port, 'retry = ["1s"]')

    def test_hosts_that_refuse_stall_and_cut_at_random(self) -> object:
        """All arrive or are reported, and nobody is reported whose mail cannot have been refused."""
        port = common_port(BAD)
        moods: dict[Stage, list[str | Deed]] = {
            Stage.GREETING: ["421 4.3.2 busy", Deed.DROP, Deed.RESET, Deed.SILENCE, "554 5.7.1 go away"],
            Stage.EHLO: ["421 4.3.2 busy", Deed.DROP],
            Stage.MAIL: ["451 4.3.0 later", Deed.DROP, "421 4.3.2 busy"],
            Stage.RCPT: ["450 4.2.0 greylisted", "452 4.2.2 full", Deed.RESET, "550 5.1.1 nobody"],
            Stage.DATA: ["451 4.3.0 later", Deed.DROP],
            Stage.CONTENT: [Deed.DROP, Deed.RESET],
            Stage.DOT: ["451 4.3.0 later", "554 5.6.0 no", Deed.DROP, "421 4.3.2 busy"],
        }
        hosts = [
            MailHost(reactor, address, port, Behaviour(answers=Moody(random.Random(SEED + n), moods, 0.12)))
            for n, address in enumerate(BAD)
        ]
        zone = {
            f"bad{n}.example": [f"MX 10 mx{n}.bad.example.", f"MX 20 mx{(n + 1) % 5}.bad.example."]
            for n in range(5)
        }
        zone |= {f"mx{n}.bad.example": [f"A {address}"] for n, address in enumerate(BAD)}
        for host in hosts:
            host.start()
            self.addCleanup(lambda host=host: Deferred.fromCoroutine(host.stop()))
        domains, count = sorted(zone)[:5], 200

        def story(server: ServerProcess) -> None:
            server.start()
            self.send(server, domains, count)

            def settled() -> bool:
                reported = numbers(iter(fetch_all(server)))
                arrived = numbers(mail.content for host in hosts for mail in host.messages)
                return len(arrived.keys() | reported.keys()) == count

            until(settled, "every message, here or there")
            reports = fetch_all(server)
            assert all(b"multipart/report" in report for report in reports)
            assert all(b"Status: 5." in report for report in reports)

        return self.stage(zone, story, port, 'retry = ["1s"]\nlifetime = "1h"\ngreeting_timeout = "1s"')


def files(box: Path) -> list[Path]:
    """What a host has taken, whole."""
    return [file for file in box.glob("*") if not file.name.startswith(".")] if box.exists() else []

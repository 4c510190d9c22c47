"""The made-up DNS: what it answers, what it keeps, and the faults it plays."""

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.rehearsal.nameserver import Fault, Nameserver, Zone

ZONE = {
    "outside.example": ["MX 10 mx1.outside.example.", "MX 30 mx2.outside.example."],
    "mx1.outside.example": ["A 127.0.0.10", "AAAA ::1"],
    "alias.example": ["CNAME outside.example."],
    "dangling.example": ["CNAME nowhere.example."],
    "loop.example": ["CNAME loop.example."],
    "null.example": ["MX 0 ."],
    "long.example": [f'TXT "{"x" * 200}{number:02}"' for number in range(20)],
}


class NameserverTest(TestCase):
    async def serve(self, zone=ZONE):
        server = Nameserver(reactor, zone)
        self.address, self.port = await server.start()
        self.addCleanup(lambda: ensureDeferred(server.stop()))
        return server

    def ask(self, name, kind, way=dns.query.udp, timeout=5, **options):
        query = dns.message.make_query(name, kind, **options)
        return deferToThread(way, query, self.address, port=self.port, timeout=timeout)

    async def answer(self, name, kind, **options):
        response = await self.ask(name, kind, **options)
        found = [record.to_text().lower() for rrset in response.answer for record in rrset]
        return dns.rcode.to_text(response.rcode()), sorted(found), len(response.authority)

    async def test_answers(self):
        await self.serve()
        for name, kind, wanted in [
            ("outside.example", "MX", ("NOERROR", ["10 mx1.outside.example.", "30 mx2.outside.example."], 0)),
            ("OUTSIDE.example", "MX", ("NOERROR", ["10 mx1.outside.example.", "30 mx2.outside.example."], 0)),
            ("mx1.outside.example", "A", ("NOERROR", ["127.0.0.10"], 0)),
            ("mx1.outside.example", "AAAA", ("NOERROR", ["::1"], 0)),
            ("mx1.outside.example", "MX", ("NOERROR", [], 1)),
            ("example", "A", ("NOERROR", [], 1)),
            ("nowhere.example", "A", ("NXDOMAIN", [], 1)),
            ("dangling.example", "A", ("NXDOMAIN", ["nowhere.example."], 1)),
            ("loop.example", "A", ("NOERROR", ["loop.example."], 1)),
            ("null.example", "MX", ("NOERROR", ["0 ."], 0)),
            (
                "alias.example",
                "MX",
                ("NOERROR", ["10 mx1.outside.example.", "30 mx2.outside.example.", "outside.example."], 0),
            ),
        ]:
            with self.subTest(name=name, kind=kind):
                assert await self.answer(name, kind) == wanted

    async def test_the_same_by_tcp(self):
        server = await self.serve()
        assert (await self.answer("mx1.outside.example", "A", way=dns.query.tcp))[1] == ["127.0.0.10"]
        assert server.asked[0].transport == "tcp"

    async def test_an_answer_that_does_not_fit_is_truncated(self):
        await self.serve()
        response = await self.ask("long.example", "TXT")
        assert response.flags & dns.flags.TC
        assert not response.answer
        assert len((await self.answer("long.example", "TXT", way=dns.query.tcp))[1]) == 20
        assert len((await self.answer("long.example", "TXT", use_edns=True, payload=8000))[1]) == 20

    async def test_faults(self):
        server = await self.serve()
        server.play("outside.example", Fault.SERVFAIL)
        server.play("mx1.outside.example", Fault.REFUSED, "A")
        server.play("null.example", Fault.SILENCE)
        server.play("alias.example", Fault.TRUNCATION)
        assert (await self.answer("outside.example", "MX"))[0] == "SERVFAIL"
        assert (await self.answer("mx1.outside.example", "A"))[0] == "REFUSED"
        assert (await self.answer("mx1.outside.example", "AAAA"))[0] == "NOERROR"
        with pytest.raises(dns.exception.Timeout):
            await self.ask("null.example", "MX", timeout=0.1)
        assert (await self.ask("alias.example", "MX")).flags & dns.flags.TC
        assert len((await self.answer("alias.example", "MX", way=dns.query.tcp))[1]) == 3
        server.heal("outside.example")
        assert (await self.answer("outside.example", "MX"))[0] == "NOERROR"

    async def test_a_delay_that_outlasts_the_server_is_harmless(self):
        server = await self.serve()
        server.delay("outside.example", 3600)
        with pytest.raises(dns.exception.Timeout):
            await self.ask("outside.example", "MX", timeout=0.1)
        server.delay("outside.example", 0.01)
        assert (await self.answer("outside.example", "MX"))[0] == "NOERROR"

    async def test_keeps_the_questions(self):
        server = await self.serve()
        await self.ask(
            "Outside.example", "MX", use_edns=True, payload=1232, flags=dns.flags.RD | dns.flags.AD
        )
        [asked] = server.questions("outside.example", "MX")
        assert (asked.transport, asked.payload, asked.flags) == ("udp", 1232, "RD AD")
        assert server.questions("outside.example", "A") == []

    async def test_the_zone_may_change(self):
        server = await self.serve("")
        assert (await self.answer("new.example", "A"))[0] == "NXDOMAIN"
        server.zone.add("new.example", "A", "192.0.2.1")
        assert (await self.answer("new.example", "A"))[1] == ["192.0.2.1"]
        server.zone.remove("new.example", "A")
        assert (await self.answer("new.example", "A"))[0] == "NXDOMAIN"

    async def test_what_is_no_question_gets_no_answer(self):
        server = await self.serve()
        server.receive(b"\0" * 5, "udp", 1, self.fail)
        answer = dns.message.make_response(dns.message.make_query("a.example", "A"))
        server.receive(answer.to_wire(), "udp", 1, self.fail)

    async def test_says_of_signed_names_that_they_are(self):
        server = await self.serve()
        server.signed.add("outside.example")
        for name, kind, flags, wanted in [
            ("outside.example", "MX", dns.flags.AD, True),
            ("mx1.outside.example", "A", dns.flags.AD, True),
            ("nowhere.outside.example", "A", dns.flags.AD, True),
            ("outside.example", "MX", 0, False),
            ("alias.example", "MX", dns.flags.AD, False),
            ("null.example", "MX", dns.flags.AD, False),
        ]:
            with self.subTest(name=name, kind=kind, flags=flags):
                response = await self.ask(name, kind, flags=dns.flags.RD | flags)
                assert bool(response.flags & dns.flags.AD) is wanted


class ZoneTest(TestCase):
    def test_reads_master_file_text(self):
        zone = Zone("outside.example. IN MX 10 mx.outside.example.\nmx.outside.example. 5 IN A 192.0.2.1\n")
        [found] = zone.chain(dns.name.from_text("mx.outside.example"), dns.rdatatype.A)
        assert found.to_text() == "mx.outside.example. 5 IN A 192.0.2.1"

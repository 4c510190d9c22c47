"""DNS as mail sees it: three kinds of "no", a cache, coalescing, bounds; and dnspython's backend beneath."""

import os

import dns._asyncbackend
import dns.asyncresolver
import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.interfaces import Answers, IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import MX
from mailserver.model.tlsa import TLSA
from mailserver.net.dnsbackend import Backend
from mailserver.net.resolver import Resolver, is_dns_name
from mailserver.rehearsal.nameserver import Fault, Nameserver

ZONE = {
    "outside.example": ["MX 10 MX1.outside.example.", "MX 30 mx2.outside.example."],
    "mx1.outside.example": ["A 127.0.0.10", "AAAA ::10"],
    "mx4.outside.example": ["A 127.0.0.10"],
    "mx6.outside.example": ["AAAA ::10"],
    "_25._tcp.mx1.outside.example": [f"TLSA 3 1 1 {'ab' * 32}"],
    "half.example": ["CNAME bare.example."],
    "bare.example": ["A 127.0.0.10"],
    "alias.example": ["CNAME outside.example."],
    "dangling.example": ["CNAME nowhere.example."],
    "null.example": ["MX 0 ."],
    "text.example": ['TXT "v=spf1 " "-all"', 'TXT "x"'],
    "long.example": [f'TXT "{"x" * 200}{number:02}"' for number in range(20)],
    "10.0.0.127.in-addr.arpa": ["PTR Mx1.outside.example."],
}


class SteppingClock:
    """The real reactor, but for what time it says it is."""

    def __init__(self):
        self.offset = 0.0

    def seconds(self):
        return reactor.seconds() + self.offset

    def __getattr__(self, name):
        return getattr(reactor, name)


def _no_socket(reader):
    raise OSError(24, "Too many open files")


class ResolverCase(TestCase):
    async def resolver(self, **options):
        self.server = Nameserver(reactor, ZONE)
        servers = options.pop("servers", None) or [await self.server.start()]
        self.addCleanup(lambda: ensureDeferred(self.server.stop()))
        self.clock = SteppingClock()
        resolver = Resolver(self.clock, servers, **{"timeout": 5.0, **options})
        self.addCleanup(lambda: ensureDeferred(resolver.stop()))
        return resolver

    async def until_asked(self, count):
        while len(self.server.asked) < count:
            await deferLater(reactor, 0)


class AnswersTest(ResolverCase):
    async def test_keeps_its_interface(self):
        assert verifyObject(IResolver, await self.resolver())

    async def test_mx(self):
        resolver = await self.resolver()
        wanted = {MX(10, "mx1.outside.example"), MX(30, "mx2.outside.example")}
        assert set(await resolver.mx("outside.example")) == wanted
        assert set(await resolver.mx("OUTSIDE.example")) == wanted
        assert set(await resolver.mx("alias.example")) == wanted
        assert await resolver.mx("null.example") == (MX(0, ""),)

    async def test_addresses(self):
        resolver = await self.resolver()
        assert await resolver.addresses("mx1.outside.example") == ("::10", "127.0.0.10")
        assert await resolver.addresses("mx4.outside.example") == ("127.0.0.10",)
        assert await resolver.addresses("mx6.outside.example") == ("::10",)

    async def test_txt_and_pointer(self):
        resolver = await self.resolver()
        assert set(await resolver.txt("text.example")) == {b"v=spf1 -all", b"x"}
        assert await resolver.pointer("127.0.0.10") == ("mx1.outside.example",)

    async def test_tlsa(self):
        resolver = await self.resolver()
        assert await resolver.tlsa("_25._tcp.mx1.outside.example") == (TLSA(3, 1, 1, b"\xab" * 32),)
        with pytest.raises(NoSuchData):
            await resolver.tlsa("outside.example")

    async def test_what_dnssec_vouches_for(self):
        resolver = await self.resolver()
        self.server.signed |= {"outside.example", "half.example"}
        assert (await resolver.mx("outside.example")).secure
        addresses = await resolver.addresses("mx1.outside.example")
        assert (addresses.secure, addresses.name) == (True, "mx1.outside.example")
        assert (await resolver.tlsa("_25._tcp.mx1.outside.example")).secure
        assert isinstance(addresses, Answers)
        # All aliases on the way have to be.
        half = await resolver.addresses("half.example")
        assert (half.secure, half.name) == (False, "bare.example")
        assert not (await resolver.mx("alias.example")).secure

    async def test_dnssec_is_believed_on_this_machine_or_where_the_admin_says_so(self):
        assert Resolver(reactor, [("127.0.0.1", 53), ("::1", 53)]).validating
        assert not Resolver(reactor, [("127.0.0.1", 53), ("192.0.2.1", 53)]).validating
        assert not Resolver(reactor, [("fe80::1%eth0", 53)]).validating
        assert Resolver(reactor, [("192.0.2.1", 53)], validating=True).validating
        resolver = await self.resolver()
        self.server.signed.add("outside.example")
        resolver.validating = False
        assert not (await resolver.mx("outside.example")).secure

    async def test_falls_back_to_tcp(self):
        resolver = await self.resolver()
        assert len(await resolver.txt("long.example")) == 20
        self.server.play("alias.example", Fault.TRUNCATION)
        assert len(await resolver.mx("alias.example")) == 2
        assert [asked.transport for asked in self.server.asked] == ["udp", "tcp"] * 2

    async def test_asks_with_edns_and_ad_from_ports_that_nobody_can_guess(self):
        resolver = await self.resolver()
        for number in range(20):
            with pytest.raises(NoSuchName):
                await resolver.mx(f"n{number}.example")
        assert {(asked.payload, asked.flags) for asked in self.server.asked} == {(1232, "RD AD")}
        assert len({asked.port for asked in self.server.asked}) > 15

    async def test_three_kinds_of_no(self):
        resolver = await self.resolver()
        self.server.play("servfail.example", Fault.SERVFAIL)
        self.server.play("refused.example", Fault.REFUSED)
        for name, error in [
            ("nowhere.example", NoSuchName),
            ("dangling.example", NoSuchName),
            ("mx1.outside.example", NoSuchData),
            ("example", NoSuchData),
            ("servfail.example", Unanswered),
            ("refused.example", Unanswered),
        ]:
            with self.subTest(name=name), pytest.raises(error, match=name):
                await resolver.mx(name)

    async def test_silence_ends_in_time(self):
        resolver = await self.resolver(timeout=0.2)
        self.server.play("silent.example", Fault.SILENCE)
        before = reactor.seconds()
        with pytest.raises(Unanswered, match="timeout"):
            await resolver.mx("silent.example")
        assert reactor.seconds() - before < 2
        assert len(self.server.asked) > 1

    async def test_no_server_there(self):
        server = Nameserver(reactor)
        address = await server.start()
        await server.stop()
        resolver = await self.resolver(servers=[address])
        before = reactor.seconds()
        with pytest.raises(Unanswered, match="connection refused"):
            await resolver.mx("outside.example")
        assert reactor.seconds() - before < 1

    async def test_the_second_server_is_asked_when_the_first_is_dead(self):
        dead = Nameserver(reactor)
        address = await dead.start()
        await dead.stop()
        self.server = live = Nameserver(reactor, ZONE)
        self.addCleanup(lambda: ensureDeferred(live.stop()))
        resolver = Resolver(reactor, [address, await live.start()])
        assert len(await resolver.mx("outside.example")) == 2

    async def test_the_network_does_not_let_us(self):
        # To the broadcast address nobody may connect; and no packet is sent.
        resolver = await self.resolver(servers=[("255.255.255.255", 53)])
        with pytest.raises(Unanswered, match="Permission denied"):
            await resolver.mx("outside.example")
        resolver = await self.resolver(servers=[("127.0.0.1", 53)])
        self.clock.addReader = _no_socket
        with pytest.raises(Unanswered, match="Too many open files"):
            await resolver.mx("other.example")

    async def test_a_server_without_tcp(self):
        resolver = await self.resolver()
        await maybeDeferred(self.server._listening[0].stopListening)
        self.server.play("outside.example", Fault.TRUNCATION)
        with pytest.raises(Unanswered, match="refused"):
            await resolver.mx("outside.example")

    def test_the_servers_of_resolv_conf(self):
        resolv_conf = self.mktemp()
        for text, wanted in [
            ("nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch lan\n", ["192.0.2.1", "2001:db8::1"]),
            ("search lan\n", ["127.0.0.1"]),
            (None, ["127.0.0.1"]),
        ]:
            if text is None:
                os.remove(resolv_conf)
            else:
                with open(resolv_conf, "w") as conf:
                    conf.write(text)
            resolver = Resolver(Clock(), resolv_conf=resolv_conf)
            assert resolver.servers == [(address, 53) for address in wanted]

    async def test_an_ipv6_server(self):
        server = Nameserver(reactor, ZONE)
        self.addCleanup(lambda: ensureDeferred(server.stop()))
        resolver = Resolver(reactor, [await server.start("::1")])
        assert len(await resolver.mx("outside.example")) == 2
        assert len(await resolver.txt("long.example")) == 20

    async def test_a_server_that_talks_nonsense_is_no_answer(self):
        resolver = await self.resolver(timeout=0.2)
        self.server.receive = lambda wire, transport, port, reply: reply(b"\xff" * 40)
        with pytest.raises(Unanswered):
            await resolver.mx("outside.example")

    async def test_addresses_of_which_one_family_is_in_trouble(self):
        resolver = await self.resolver()
        for name, fault, kind, wanted in [
            ("mx1.outside.example", Fault.SERVFAIL, "AAAA", ("127.0.0.10",)),
            ("mx4.outside.example", Fault.SERVFAIL, "AAAA", ("127.0.0.10",)),
            ("mx6.outside.example", Fault.REFUSED, "A", ("::10",)),
            ("outside.example", Fault.SERVFAIL, "A", Unanswered),
            ("outside.example", Fault.SERVFAIL, "AAAA", Unanswered),
            ("nowhere.example", Fault.SERVFAIL, "AAAA", Unanswered),
            ("nowhere2.example", None, "", NoSuchName),
            ("text.example", None, "", NoSuchData),
        ]:
            with self.subTest(name=name, kind=kind):
                if fault:
                    self.server.play(name, fault, kind)
                self.clock.offset += 100  # what is cached is forgotten
                if isinstance(wanted, tuple):
                    assert await resolver.addresses(name) == wanted
                else:
                    with pytest.raises(wanted):
                        await resolver.addresses(name)
                self.server.heal(name)

    async def test_what_is_no_name_is_not_asked_for(self):
        resolver = await self.resolver()
        for name in [
            "",
            ".",
            "192.0.2.1",
            "[192.0.2.1]",
            "::1",
            "a..example",
            ".example",
            "example.",
            "a b.example",
            "-a.example",
            "a-.example",
            "x" * 64 + ".example",
            "a." * 126 + "ab",
            "é.example",
            "a\x00.example",
            "a\n",
        ]:
            for ask in (resolver.mx, resolver.addresses, resolver.txt):
                with self.subTest(name=name), pytest.raises(NoSuchName):
                    await ask(name)
        with pytest.raises(NoSuchName):
            await resolver.pointer("not an address")
        assert self.server.asked == []
        assert is_dns_name("_dmarc.example")
        assert is_dns_name("a." * 126 + "a")


class CacheTest(ResolverCase):
    async def test_an_answer_lives_as_long_as_it_says(self):
        resolver = await self.resolver()
        for offset, asked in [(0, 1), (59, 1), (61, 2), (100, 2)]:
            self.clock.offset = offset
            await resolver.mx("outside.example")
            assert len(self.server.asked) == asked

    async def test_a_record_that_says_zero_is_not_kept(self):
        resolver = await self.resolver()
        self.server.zone.add("now.example", "MX", "10 mx1.outside.example.", ttl=0)
        await resolver.mx("now.example")
        await resolver.mx("now.example")
        assert len(self.server.asked) == 2

    async def test_nothing_lives_for_ever(self):
        resolver = await self.resolver()
        self.server.zone.add("old.example", "MX", "10 mx1.outside.example.", ttl=10_000_000)
        self.server.zone.negative_ttl = 10_000_000
        for offset, asked in [(0, 2), (299, 2), (301, 3), (86000, 4), (86500, 6)]:
            self.clock.offset = offset
            await resolver.mx("old.example")
            with pytest.raises(NoSuchName):
                await resolver.mx("nowhere.example")
            assert len(self.server.asked) == asked

    async def test_no_data_and_no_name_are_kept_for_a_while(self):
        resolver = await self.resolver()
        for name, error in [("nowhere.example", NoSuchName), ("text.example", NoSuchData)]:
            for _ in range(2):
                with pytest.raises(error):
                    await resolver.mx(name)
            assert len(self.server.questions(name)) == 1

    async def test_no_answer_is_kept_for_seconds(self):
        resolver = await self.resolver()
        self.server.play("outside.example", Fault.SERVFAIL)
        for _ in range(2):
            with pytest.raises(Unanswered):
                await resolver.mx("outside.example")
        assert len(self.server.asked) == 1
        self.server.heal("outside.example")
        self.clock.offset = 6
        assert await resolver.mx("outside.example")

    async def test_a_clock_set_back_makes_nothing_live_longer(self):
        resolver = await self.resolver()
        await resolver.mx("outside.example")
        self.clock.offset = -86400
        await resolver.mx("outside.example")
        assert len(self.server.asked) == 2

    async def test_forgets_what_was_not_asked_for_the_longest(self):
        resolver = await self.resolver(entries=2)
        for name in ["outside.example", "null.example", "outside.example", "alias.example"]:
            await resolver.mx(name)
        asked = len(self.server.asked)
        await resolver.mx("outside.example")
        assert len(self.server.asked) == asked
        await resolver.mx("null.example")
        assert len(self.server.asked) == asked + 1


class CrowdTest(ResolverCase):
    async def test_equal_questions_are_asked_once(self):
        resolver = await self.resolver()
        self.server.delay("outside.example", 0.05)
        answers = [Deferred.fromCoroutine(resolver.mx("outside.example")) for _ in range(50)]
        for answer in answers:
            assert len(await answer) == 2
        assert len(self.server.asked) == 1

    async def test_who_cancels_takes_nothing_from_the_others(self):
        resolver = await self.resolver()
        self.server.delay("outside.example", 0.05)
        first, second, third = [Deferred.fromCoroutine(resolver.mx("outside.example")) for _ in range(3)]
        await self.until_asked(1)
        first.cancel()
        with pytest.raises(CancelledError):
            await first
        assert len(await second) == 2
        assert len(await third) == 2
        assert len(self.server.asked) == 1

    async def test_an_address_question_can_be_cancelled(self):
        resolver = await self.resolver()
        self.server.delay("mx1.outside.example", 0.05)
        asked = Deferred.fromCoroutine(resolver.addresses("mx1.outside.example"))
        await self.until_asked(2)
        asked.cancel()
        with pytest.raises(CancelledError):
            await asked

    async def test_only_so_many_are_on_their_way(self):
        resolver = await self.resolver(in_flight=3)
        for number in range(5):
            self.server.play(f"n{number}.example", Fault.SILENCE)
        asked = [Deferred.fromCoroutine(resolver.mx(f"n{number}.example")) for number in range(5)]
        await self.until_asked(3)
        await deferLater(reactor, 0.05)
        assert {question.name for question in self.server.asked} == {
            f"n{number}.example" for number in range(3)
        }
        await resolver.stop()
        for answer in asked:
            with pytest.raises(Unanswered):
                await answer

    async def test_after_stop_nothing_is_on_its_way(self):
        resolver = await self.resolver()
        self.server.play("outside.example", Fault.SILENCE)
        asked = Deferred.fromCoroutine(resolver.mx("outside.example"))
        await self.until_asked(1)
        await resolver.stop()
        with pytest.raises(Unanswered):
            await asked
        with pytest.raises(Unanswered, match="stopped"):
            await resolver.mx("null.example")
        assert len(self.server.asked) == 1

    async def test_stop_ends_a_question_by_tcp(self):
        resolver = await self.resolver()
        self.server.play("outside.example", Fault.TRUNCATION)
        self.server.delay("outside.example", 0.01)
        asked = Deferred.fromCoroutine(resolver.mx("outside.example"))
        await self.until_asked(1)
        self.server.delay("outside.example", 3600)
        await self.until_asked(2)
        await resolver.stop()
        with pytest.raises(Unanswered):
            await asked


class BackendTest(TestCase):
    """What is relied on of dnspython's private base classes."""

    def test_the_base_classes_are_where_they_were(self):
        for kind, methods in {
            dns._asyncbackend.Backend: ["make_socket", "sleep", "datagram_connection_required", "name"],
            dns._asyncbackend.DatagramSocket: ["sendto", "recvfrom", "close", "__aenter__", "__aexit__"],
            dns._asyncbackend.StreamSocket: ["sendall", "recv", "close", "getpeername"],
        }.items():
            for method in methods:
                assert callable(getattr(kind, method))

    async def test_an_abandoned_question_runs_out_of_servers(self):
        backend = Backend(Clock())
        backend.abandon()
        asker = dns.asyncresolver.Resolver(configure=False)
        asker.nameservers = ["127.0.0.1", "::1"]
        with pytest.raises(dns.resolver.NoNameservers):
            await asker.resolve("outside.example.", "MX", lifetime=5, backend=backend)

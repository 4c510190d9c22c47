"""Which hosts are asked for a domain, in which order, and what is said when there is none."""

from random import Random

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailserver.interfaces import Answers, IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import MX, Exchanger, NextHop
from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.net.exchangers import (
    Exchangers,
    Found,
    Smarthosts,
    is_null,
    is_usable,
    order_addresses,
    order_hosts,
)
from mailserver.net.resolver import Resolver
from mailserver.rehearsal.nameserver import Fault, Nameserver

DEAD = "dead"


@implementer(IResolver)
class FakeResolver:
    """Answers from two tables; a host that is not there does not exist, ``DEAD`` does not answer."""

    def __init__(self, mx=None, addresses=None):
        self.records = {"mx": mx or {}, "addresses": addresses or {}}

    async def _find(self, kind, name):
        if name in self.records[kind]:
            found = self.records[kind][name]
            if found == DEAD:
                raise Unanswered("SERVFAIL")
            if isinstance(found, Deferred):
                return await found
            if found:
                return found if isinstance(found, Answers) else Answers(found)
        if any(name in table for table in self.records.values()):
            raise NoSuchData(name)
        raise NoSuchName(name)

    async def mx(self, name):
        return await self._find("mx", name)

    async def addresses(self, name):
        return await self._find("addresses", name)

    async def tlsa(self, name):
        raise NoSuchName(name)


ADDRESSES = {
    "a.example": ["192.0.2.1"],
    "b.example": ["192.0.2.2"],
    "c.example": ["2001:db8::3", "192.0.2.3"],
    "us.example": ["192.0.2.99"],
    "alias-of-us.example": ["2001:db8::99", "192.0.2.98"],
    "dead.example": DEAD,
    "empty.example": [],
    "loopback.example": ["127.0.0.10", "::1", "0.0.0.0", "224.0.0.1"],
    "bare.example": ["192.0.2.7"],
    "twin.example": ["192.0.2.1", "192.0.2.77"],
}


def find(domain="x.example", *records, **options):
    resolver = FakeResolver({domain: records[0] if records[:1] == (DEAD,) else list(records)}, ADDRESSES)
    finder = Exchangers(
        resolver,
        port=25,
        own_names=["us.example"],
        own_addresses=["192.0.2.99", "2001:0db8::99"],
        chance=Random(1),
        **options,
    )
    return finish(finder.find(domain))


def finish(coroutine):
    results = []
    Deferred.fromCoroutine(coroutine).addCallback(results.append)
    return results[0]


def names(found):
    return [exchanger.host.partition(".")[0] for exchanger in found.exchangers]


class OrderHostsTest(SynchronousTestCase):
    def test_the_table(self):
        for records, wanted in [
            ([], []),
            ([MX(20, "b"), MX(10, "a"), MX(30, "c")], ["a", "b", "c"]),
            ([MX(10, "a"), MX(20, "us"), MX(30, "c")], ["a"]),
            ([MX(10, "a"), MX(20, "b"), MX(20, "us")], ["a"]),
            ([MX(10, "us"), MX(20, "b")], []),
            ([MX(10, "a"), MX(30, "us"), MX(20, "us")], ["a"]),
            ([MX(10, "a"), MX(20, "a"), MX(15, "b")], ["a", "b"]),
            ([MX(0, ""), MX(10, "a")], ["a"]),
            ([MX(0, "")], []),
        ]:
            with self.subTest(records=records):
                assert [mx.host for mx in order_hosts(records, {"us"}, Random(1))] == wanted

    def test_equal_preferences_are_shuffled_and_unequal_ones_are_not(self):
        records = [MX(10, "a"), MX(10, "b"), MX(10, "c"), MX(20, "d"), MX(20, "e")]
        chance = Random(4)
        orders = {"".join(mx.host for mx in order_hosts(records, (), chance)) for _ in range(200)}
        assert {order[:3] for order in orders} == {"abc", "acb", "bac", "bca", "cab", "cba"}
        assert {order[3:] for order in orders} == {"de", "ed"}

    def test_one_seed_one_order(self):
        records = [MX(10, letter) for letter in "abcdefgh"]
        assert order_hosts(records, (), Random(7)) == order_hosts(records, (), Random(7))

    def test_null_mx(self):
        assert is_null([MX(0, "")])
        assert not is_null([])
        assert not is_null([MX(0, ""), MX(10, "a")])


class AddressesTest(SynchronousTestCase):
    def test_families_in_turn(self):
        for addresses, wanted in [
            ([], ()),
            (["::1", "::2", "1.1.1.1"], ("::1", "1.1.1.1", "::2")),
            (["1.1.1.1", "1.1.1.2", "::1"], ("1.1.1.1", "::1", "1.1.1.2")),
            (["1.1.1.1", "1.1.1.2"], ("1.1.1.1", "1.1.1.2")),
        ]:
            assert order_addresses(addresses) == wanted

    def test_what_a_mail_host_can_have(self):
        for address, strict, loose in [
            ("192.0.2.1", True, True),
            ("10.1.2.3", True, True),
            ("fd00::1", True, True),
            ("2001:db8::1", True, True),
            ("127.0.0.1", False, True),
            ("127.255.0.1", False, True),
            ("::1", False, True),
            ("::ffff:127.0.0.1", False, True),
            ("0.0.0.0", False, False),
            ("0.1.2.3", False, False),
            ("::", False, False),
            ("::ffff:0.0.0.0", False, False),
            ("224.0.0.1", False, False),
            ("ff02::1", False, False),
            ("fe80::1", False, False),
            ("169.254.169.254", False, False),
            ("255.255.255.255", False, False),
        ]:
            with self.subTest(address=address):
                assert is_usable(address) is strict
                assert is_usable(address, loopback=True) is loose


class ExchangersTest(SynchronousTestCase):
    def test_hosts_in_order_with_all_their_addresses(self):
        found = find("x.example", MX(20, "a.example"), MX(10, "c.example"))
        assert found == Found(
            (
                Exchanger("c.example", "2001:db8::3", 25, 10),
                Exchanger("c.example", "192.0.2.3", 25, 10),
                Exchanger("a.example", "192.0.2.1", 25, 20),
            )
        )

    def test_an_address_is_asked_once(self):
        found = find("x.example", MX(10, "a.example"), MX(20, "twin.example"))
        assert [exchanger.address for exchanger in found.exchangers] == ["192.0.2.1", "192.0.2.77"]

    def test_the_implicit_mx_only_where_there_is_no_other(self):
        assert find("bare.example") == Found((Exchanger("bare.example", "192.0.2.7", 25, 0),))
        assert names(find("bare.example", DEAD)) == []
        assert names(find("bare.example", MX(10, "a.example"))) == ["a"]

    def test_no_host_at_all(self):
        for domain, records, kind, status in [
            ("servfail.example", (DEAD,), Delayed, "4.4.3"),
            ("bare.example", (DEAD,), Delayed, "4.4.3"),
            ("null.example", (MX(0, ""),), Failed, "5.1.10"),
            ("x.example", (MX(10, "us.example"), MX(20, "a.example")), Failed, "5.4.6"),
            ("x.example", (MX(10, "alias-of-us.example"), MX(10, "a.example")), Failed, "5.4.6"),
            ("us.example", (), Failed, "5.4.6"),
            ("empty.example", (), Failed, "5.4.4"),
            ("x.example", (MX(10, "nowhere.example"),), Failed, "5.4.4"),
            ("x.example", (MX(10, "127.0.0.1"),), Failed, "5.4.4"),
            ("x.example", (MX(10, "loopback.example"),), Failed, "5.4.4"),
            ("x.example", (MX(10, "dead.example"),), Delayed, "4.4.3"),
            ("x.example", (MX(10, "dead.example"), MX(20, "nowhere.example")), Delayed, "4.4.3"),
            ("x.example", (MX(10, "dead.example"), MX(20, "us.example")), Delayed, "4.4.3"),
            ("x.example", (MX(10, "nowhere.example"), MX(20, "us.example")), Failed, "5.4.4"),
            ("dead.example", (), Delayed, "4.4.3"),
        ]:
            with self.subTest(domain=domain, records=records):
                found = find(domain, *records)
                assert found.exchangers == ()
                assert type(found.trouble) is kind
                assert found.trouble.status == status

    def test_a_domain_that_does_not_exist(self):
        finder = Exchangers(FakeResolver(), 25, (), (), Random(1))
        found = finish(finder.find("nowhere.example"))
        assert found == Found((), Failed(Scope.RECIPIENT, "there is no domain nowhere.example", "5.1.2"))

    def test_a_host_that_does_not_exist_is_passed_over(self):
        found = find("x.example", MX(10, "nowhere.example"), MX(15, "empty.example"), MX(20, "a.example"))
        assert (names(found), found.trouble) == (["a"], None)

    def test_a_host_nobody_knows_now_is_passed_over_and_remembered(self):
        found = find("x.example", MX(10, "dead.example"), MX(20, "a.example"))
        assert names(found) == ["a"]
        assert found.trouble == Delayed(Scope.HOST, "DNS does not answer about dead.example", "4.4.3")

    def test_hosts_no_better_than_we_are_cut_off_by_address_too(self):
        found = find("x.example", MX(10, "a.example"), MX(20, "b.example"), MX(20, "alias-of-us.example"))
        assert names(found) == ["a"]

    def test_loopback_hosts_where_they_are_allowed(self):
        found = find("x.example", MX(10, "loopback.example"), loopback=True)
        assert [exchanger.address for exchanger in found.exchangers] == ["127.0.0.10", "::1"]

    def test_literals(self):
        for literal, wanted in [
            ("[192.0.2.5]", "192.0.2.5"),
            ("[IPv6:2001:db8::5]", "2001:db8::5"),
            ("[ipv6:2001:DB8:0::5]", "2001:db8::5"),
            ("[192.0.2.99]", "5.4.6"),
            ("[IPv6:2001:db8::99]", "5.4.6"),
            ("[127.0.0.1]", "5.4.4"),
            ("[IPv6:::ffff:127.0.0.1]", "5.4.4"),
            ("[IPv6:fe80::1%eth0]", "5.1.3"),
            ("[x-tag:hello]", "5.1.3"),
            ("[]", "5.1.3"),
        ]:
            with self.subTest(literal=literal):
                found = find(literal)
                if found.trouble is None:
                    assert found.exchangers == (Exchanger(literal, wanted, 25),)
                else:
                    assert (found.exchangers, found.trouble.status) == ((), wanted)

    def test_an_address_in_the_place_of_a_name(self):
        found = find("x.example", MX(10, "192.0.2.77"))
        assert [exchanger.address for exchanger in found.exchangers] == ["192.0.2.77"]

    def test_an_address_of_an_interface_is_ours_where_we_listen_on_all(self):
        resolver = FakeResolver({"x.example": [MX(10, "a.example")]}, ADDRESSES)
        found = finish(Exchangers(resolver, 25, (), (), Random(1), is_ours=lambda _: True).find("x.example"))
        assert found.trouble.status == "5.4.6"

    def test_a_crowd_of_hosts_is_cut_short(self):
        records = [MX(number, f"h{number}.example") for number in range(100)]
        resolver = FakeResolver(
            {"x.example": records}, {mx.host: [f"192.0.2.{mx.preference}"] for mx in records}
        )
        found = finish(Exchangers(resolver, 25, (), (), Random(1)).find("x.example"))
        assert len(found.exchangers) == 20

    def test_can_be_cancelled(self):
        never = Deferred()
        resolver = FakeResolver({"x.example": [MX(10, "a.example")]}, {"a.example": never})
        found = Deferred.fromCoroutine(Exchangers(resolver, 25, (), (), Random(1)).find("x.example"))
        found.cancel()
        self.failureResultOf(found, CancelledError)


class StrangeNamesTest(SynchronousTestCase):
    """What a stranger's MX record may hold, and only the administrator may mean."""

    def find(self, name):
        asked = []
        records = MX(10, name), MX(20, "a.example")
        found = find("x.example", *records, is_ours=lambda address: asked.append(address) or False)
        assert asked == ["192.0.2.1"], "the kernel was asked about what is no address"
        return names(found)

    def test_none_is_a_socket_or_an_address_with_a_scope(self):
        for name in ("/run/dovecot/lmtp", "/", "//x.example", "2001:db8::1%eth0", "::1%1", "192.0.2.1/24"):
            with self.subTest(name=name):
                assert self.find(name) == ["a"]


class SmarthostsTest(SynchronousTestCase):
    def find(self, *hosts):
        hops = [NextHop(*host) for host in hosts]
        return finish(Smarthosts(FakeResolver({}, ADDRESSES), hops).find("x.example"))

    def test_in_the_admins_order_each_with_its_port(self):
        found = self.find(("b.example", 587), ("a.example", 25), ("::1", 2525), ("127.0.0.1", 24))
        assert found == Found(
            (
                Exchanger("b.example", "192.0.2.2", 587, 0),
                Exchanger("a.example", "192.0.2.1", 25, 1),
                Exchanger("::1", "::1", 2525, 2),
                Exchanger("127.0.0.1", "127.0.0.1", 24, 3),
            )
        )

    def test_where_dns_has_no_part_they_are_worked_out_once(self):
        resolver = FakeResolver({}, dict(ADDRESSES))
        fixed = Smarthosts(resolver, [NextHop("127.0.0.1", 24), NextHop("/run/lmtp", 0)])
        assert finish(fixed.find("x.example")) is finish(fixed.find("y.example"))
        named = Smarthosts(resolver, [NextHop("127.0.0.1", 24), NextHop("a.example", 25)])
        assert len(finish(named.find("x.example")).exchangers) == 2
        resolver.records["addresses"]["a.example"] = ["192.0.2.77"]
        assert finish(named.find("x.example")).exchangers[1].address == "192.0.2.77"

    def test_mail_waits_for_a_mistake_of_ours_to_be_mended(self):
        found = self.find(("nowhere.example", 25))
        assert found == Found((), Delayed(Scope.HOST, "no smarthost has an address", "4.4.4"))

    def test_a_socket_and_tls_before_the_greeting(self):
        found = self.find(("/run/dovecot/lmtp", 0), ("a.example", 465, True))
        assert found == Found(
            (
                Exchanger("localhost", "/run/dovecot/lmtp", 0, 0),
                Exchanger("a.example", "192.0.2.1", 465, 1, wrapped=True),
            )
        )
        assert [str(one) for one in found.exchangers] == ["/run/dovecot/lmtp", "a.example[192.0.2.1]:465"]

    def test_an_address_of_one_link(self):
        assert self.find(("fe80::1%eth0", 25)) == Found((Exchanger("fe80::1%eth0", "fe80::1%eth0", 25, 0),))

    def test_one_nobody_knows_now(self):
        found = self.find(("dead.example", 25), ("a.example", 25))
        assert names(found) == ["a"]
        assert found.trouble is not None
        assert found.trouble.status == "4.4.3"


class WithDNSTest(TestCase):
    async def test_the_whole_way(self):
        server = Nameserver(
            reactor,
            {
                "outside.example": [f"MX {n} mx{n}.outside.example." for n in (50, 10, 30)],
                "mx10.outside.example": ["A 127.0.0.10"],
                "mx30.outside.example": ["CNAME mx50.outside.example."],
                "mx50.outside.example": ["AAAA ::1"],
                "null.example": ["MX 0 ."],
                "bare.example": ["A 127.0.0.7"],
            },
        )
        server.play("servfail.example", Fault.SERVFAIL, "MX")
        server.play("mx10.outside.example", Fault.SERVFAIL, "AAAA")
        resolver = Resolver(reactor, [await server.start()])
        finder = Exchangers(resolver, 2525, ("us.example",), (), Random(1), loopback=True)
        try:
            found = await finder.find("outside.example")
            assert [str(exchanger) for exchanger in found.exchangers] == [
                "mx10.outside.example[127.0.0.10]:2525",
                "mx30.outside.example[::1]:2525",
            ]
            assert [str(exchanger) for exchanger in (await finder.find("bare.example")).exchangers] == [
                "bare.example[127.0.0.7]:2525"
            ]
            for domain, status in [
                ("null.example", "5.1.10"),
                ("servfail.example", "4.4.3"),
                ("nowhere.example", "5.1.2"),
                ("not a name", "5.1.2"),
                ("mx50.nowhere.example", "5.1.2"),
            ]:
                assert (await finder.find(domain)).trouble.status == status
        finally:
            await resolver.stop()
            await server.stop()


@pytest.mark.parametrize("seed", range(5))
def test_the_finder_shuffles(seed):
    records = [MX(10, host) for host in ("a.example", "b.example", "bare.example")]
    resolver = FakeResolver({"x.example": records}, ADDRESSES)
    found = finish(Exchangers(resolver, 25, (), (), Random(seed)).find("x.example"))
    assert found.seed == Random(seed).getrandbits(32)
    wanted = order_hosts(records, (), Random(found.seed))
    assert [exchanger.host for exchanger in found.exchangers] == [mx.host for mx in wanted]


class VouchedTest(SynchronousTestCase):
    """What DNSSEC says of the way to a host, for DANE."""

    def test_the_table(self):
        secure = Answers(["192.0.2.1"], secure=True, name="a.example")
        aliased = Answers(["192.0.2.1"], secure=True, name="end.example")
        for mx_is_secure, addresses, vouched, bases in [
            (True, secure, True, ("a.example",)),
            (True, aliased, True, ("end.example", "a.example")),
            (True, Answers(["192.0.2.1"]), True, ()),
            (False, secure, False, ()),
        ]:
            with self.subTest(mx=mx_is_secure, addresses=addresses):
                resolver = FakeResolver(None, {"a.example": addresses})
                records = Answers([MX(10, "a.example")], secure=mx_is_secure)
                resolver.mx = lambda _, records=records: succeed(records)
                (found,) = finish(Exchangers(resolver, 25, (), (), Random(1)).find("x.example")).exchangers
                assert (found.is_vouched, found.bases) == (vouched, bases)

    def test_names_that_nobody_can_have_forged(self):
        secure = Answers(["192.0.2.1"], secure=True, name="a.example")
        resolver = FakeResolver({}, {"a.example": secure})
        (implicit,) = finish(Exchangers(resolver, 25, (), (), Random(1)).find("a.example")).exchangers
        (ours,) = finish(Smarthosts(resolver, [NextHop("a.example", 25)]).find("x.example")).exchangers
        for found in (implicit, ours):
            assert (found.is_vouched, found.bases) == (True, ("a.example",))

"""What TLS has to be: every policy against all that a domain may publish."""

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailserver.interfaces import Answers, IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import Demand, Exchanger, Security
from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.model.tlsa import TLSA, Anchors
from mailserver.net.assurance import Assurance, decide
from mailserver.wire.mta_sts import Mode, Policy

MX = "mx.example.org"
HOST = Exchanger(MX, "192.0.2.1", 25, is_vouched=True, bases=(MX,))
EE, TA, PKIX = TLSA(3, 1, 1, b"e" * 32), TLSA(2, 1, 1, b"t" * 32), TLSA(1, 1, 1, b"p" * 32)
FITTING = Anchors((EE,), MX, ())
UNUSABLE = Anchors((), MX, ())


def sts(mode: Mode, *mx: str) -> Policy:
    return Policy(mode, 86400, mx or (MX,))


ENFORCE, TESTING, NO_POLICY = sts(Mode.ENFORCE), sts(Mode.TESTING), sts(Mode.NONE)
NOT_THERE, TRIED_ELSEWHERE = sts(Mode.ENFORCE, "b.example.org"), sts(Mode.TESTING, "b.example.org")


@pytest.mark.parametrize(
    ("wanted", "anchors", "policy", "expected"),
    [
        ("none", None, None, "none"),
        ("none", FITTING, ENFORCE, "dane (DANE)"),  # only asked for at all with REQUIRETLS
        ("may", None, None, "may"),
        ("may", FITTING, None, "dane (DANE)"),
        ("may", FITTING, NOT_THERE, "dane (DANE)"),  # DANE first
        ("may", UNUSABLE, None, "encrypt (DANE without a usable record)"),
        ("may", UNUSABLE, ENFORCE, "verify (MTA-STS)"),
        ("may", UNUSABLE, TESTING, "encrypt (MTA-STS testing)"),
        ("may", None, ENFORCE, "verify (MTA-STS)"),
        ("may", None, NOT_THERE, "4.7.5"),
        ("may", None, TESTING, "may (MTA-STS testing)"),
        ("may", None, TRIED_ELSEWHERE, "may (MTA-STS testing: the host is not in the policy)"),
        ("may", None, NO_POLICY, "may"),
        ("encrypt", None, None, "encrypt"),
        ("encrypt", FITTING, None, "dane (DANE)"),
        ("encrypt", UNUSABLE, NO_POLICY, "encrypt (DANE without a usable record)"),
        ("encrypt", None, ENFORCE, "verify (MTA-STS)"),
        ("encrypt", None, TESTING, "encrypt (MTA-STS testing)"),
        ("verify", None, None, "verify"),
        ("verify", FITTING, None, "verify"),
        ("verify", None, NOT_THERE, "verify"),
        ("dane", FITTING, None, "dane"),
        ("dane", UNUSABLE, None, "4.7.5"),
        ("dane", None, ENFORCE, "4.7.5"),
    ],
)
def test_the_table(wanted: str, anchors: Anchors | None, policy: Policy | None, expected: str) -> None:
    found = decide(evolve(HOST, security=Security(wanted)), anchors, policy)
    if isinstance(found, Demand):
        assert str(found) == expected
        assert found.anchors == (anchors if found.security is Security.DANE else None)
        assert found.is_trial is ("testing" in found.reason)
    else:
        assert (type(found), found.scope, found.status) == (Delayed, Scope.HOST, expected)
        assert found.host == MX


@pytest.mark.parametrize("wanted", ["none", "may", "encrypt", "verify"])
@pytest.mark.parametrize(
    ("is_vouched", "policy", "expected"),
    [
        (True, None, "verify (REQUIRETLS)"),
        (True, NOT_THERE, "verify (REQUIRETLS)"),
        (False, ENFORCE, "verify (REQUIRETLS)"),
        (False, TESTING, "verify (REQUIRETLS)"),
        (False, None, "5.7.10"),
        (False, NOT_THERE, "5.7.10"),
        (False, NO_POLICY, "5.7.10"),
    ],
)
def test_requiretls(wanted: str, is_vouched: bool, policy: Policy | None, expected: str) -> None:
    host = evolve(HOST, security=Security(wanted), is_vouched=is_vouched)
    found = decide(host, None, policy, requiretls=True)
    if isinstance(found, Demand):
        assert str(found) == expected
    else:
        assert (type(found), found.scope, found.status) == (Failed, Scope.HOST, expected)


def test_requiretls_by_dane() -> None:
    for wanted in (Security.NONE, Security.MAY, Security.DANE):
        found = decide(evolve(HOST, security=wanted), FITTING, None, requiretls=True)
        assert isinstance(found, Demand)
        assert found.security is Security.DANE


# --- what is asked for ---------------------------------------------------------------------------------


@implementer(IResolver)
class FakeResolver:
    """TLSA records by name: answers, or what is raised."""

    def __init__(self, **records: Answers[TLSA] | Exception) -> None:
        self.records = {name.replace("_dot_", "."): found for name, found in records.items()}
        self.asked: list[str] = []

    async def tlsa(self, name: str) -> Answers[TLSA]:
        self.asked.append(name)
        found = self.records.get(name.removeprefix("_25._tcp."), NoSuchName(name))
        if isinstance(found, Exception):
            raise found
        return found


class FakePolicies:
    def __init__(self, policy: Policy | None) -> None:
        self.found = policy
        self.asked: list[str] = []

    async def policy(self, domain: str) -> Policy | None:
        self.asked.append(domain)
        return self.found


def ask(assurance: Assurance, host: Exchanger = HOST, requiretls: bool = False) -> Demand | Delayed | Failed:
    found: list[Demand | Delayed | Failed] = []
    _ = Deferred.fromCoroutine(assurance.demand("example.org", host, requiretls)).addCallback(found.append)
    return found[0]


def secure(*records: TLSA) -> Answers[TLSA]:
    return Answers(records, secure=True)


class TestAsking:
    def test_no_host_that_dnssec_does_not_vouch_for(self) -> None:
        resolver = FakeResolver(mx_dot_example_dot_org=secure(EE))
        assert ask(Assurance(resolver), evolve(HOST, bases=())) == Demand()
        assert resolver.asked == []

    @pytest.mark.parametrize(
        ("records", "expected"),
        [
            (secure(EE), Demand(Security.DANE, "DANE", FITTING)),
            (secure(PKIX, EE), Demand(Security.DANE, "DANE", FITTING)),
            (secure(PKIX), Demand(Security.ENCRYPT, "DANE without a usable record")),
            (Answers([EE]), Demand()),
            (NoSuchName("x"), Demand()),
            (NoSuchData("x"), Demand()),
        ],
    )
    def test_records(self, records: Answers[TLSA] | Exception, expected: Demand) -> None:
        assert ask(Assurance(FakeResolver(mx_dot_example_dot_org=records))) == expected

    def test_nobody_knows(self) -> None:
        resolver = FakeResolver(mx_dot_example_dot_org=Unanswered("bogus"))
        for security in (Security.MAY, Security.ENCRYPT, Security.DANE):
            found = ask(Assurance(resolver), evolve(HOST, security=security))
            assert isinstance(found, Delayed)
            assert (found.scope, found.status, found.code) == (Scope.HOST, "4.4.3", 0)

    def test_the_end_of_the_aliases_before_the_name(self) -> None:
        host = evolve(HOST, bases=("end.example.net", MX))
        resolver = FakeResolver(mx_dot_example_dot_org=secure(TA), end_dot_example_dot_net=secure(TA))
        found = ask(Assurance(resolver), host)
        assert isinstance(found, Demand)
        assert found.anchors == Anchors((TA,), "end.example.net", ("end.example.net", "example.org"))
        del resolver.records["end.example.net"]
        found = ask(Assurance(resolver), host)
        assert isinstance(found, Demand)
        assert found.anchors == Anchors((TA,), MX, (MX, "example.org"))

    def test_a_host_of_ours_is_called_what_we_call_it(self) -> None:
        found = ask(Assurance(FakeResolver(mx_dot_example_dot_org=secure(TA)), are_ours=True))
        assert isinstance(found, Demand)
        assert found.anchors == Anchors((TA,), MX, (MX,))

    def test_switched_off(self) -> None:
        resolver = FakeResolver(mx_dot_example_dot_org=secure(EE))
        off = Assurance(resolver, dane=False)
        assert ask(off) == Demand()
        assert resolver.asked == []
        demanded = ask(off, evolve(HOST, security=Security.DANE))
        assert demanded == Demand(Security.DANE, "", FITTING)

    @pytest.mark.parametrize("security", [Security.NONE, Security.VERIFY])
    def test_the_last_word_asks_nobody(self, security: Security) -> None:
        resolver, policies = FakeResolver(), FakePolicies(ENFORCE)
        assert ask(Assurance(resolver, True, policies), evolve(HOST, security=security)) == Demand(security)
        assert (resolver.asked, policies.asked) == ([], [])

    def test_a_socket_on_this_machine_needs_no_tls(self) -> None:
        for security in Security:
            socket = Exchanger("localhost", "/run/lmtp", 0, security=security)
            assert ask(Assurance(FakeResolver()), socket) == Demand(Security.NONE)

    def test_policies_where_dane_says_nothing(self) -> None:
        policies = FakePolicies(ENFORCE)
        assert ask(Assurance(FakeResolver(), True, policies)) == Demand(Security.VERIFY, "MTA-STS")
        assert policies.asked == ["example.org"]
        fitting = FakeResolver(mx_dot_example_dot_org=secure(EE))
        assert ask(Assurance(fitting, True, policies)) == Demand(Security.DANE, "DANE", FITTING)
        assert policies.asked == ["example.org"]

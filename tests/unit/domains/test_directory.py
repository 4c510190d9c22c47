"""Who lives here, as reception, delivery and logins ask."""

import pytest
from attrs import evolve
from zope.interface.verify import verifyObject

from mailserver.domains.directory import Directory
from mailserver.domains.domain import NO_DOMAINS
from mailserver.domains.passwords import DECOY
from mailserver.domains.relayed import RelayDomain, RelayDomains
from mailserver.domains.senders import Senders
from mailserver.domains.tree import load_tree
from mailserver.interfaces import Account, Forward, IDirectory, Nobody, NotHosted, Relayed
from mailserver.model.address import Address
from mailserver.model.envelope import Recipient
from mailserver.model.source import Source

FILES = {
    "a.example/users": "alice:{PLAIN}x:quota=50MB\nbob:{PLAIN}x\nJosé:{PLAIN}x\nmail-list:{PLAIN}x\n",
    "a.example/domain.toml": 'separators = "+-"\n',
    "a.example/aliases": (
        "sales: alice, bob, carol@elsewhere.example\n"
        "all: sales, bob+all, dave@b.example\n"
        "scanner: |/bin/scan\n"
        "both: alice, scanner\n"
        "bob+vip: alice\n"
    ),
    "b.example/users": "dave:{PLAIN}x\n",
    "b.example/aliases": "postmaster: dave, alice@a.example\n*: dave\n",
    "empty.example/.keep": "",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tree, problems = load_tree(tmp_path, "domains")
    assert [problem for problem in problems if problem.fatal] == []
    return tree


@pytest.fixture
def directory(tree):
    return Directory(tree, "mail.a.example")


def at(text):
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def to(text, original=""):
    return Recipient(at(text), original)


def test_the_contract(directory):
    assert verifyObject(IDirectory, directory)
    assert directory.domains() == ("a.example", "b.example", "empty.example")
    assert directory.hosts("a.example")
    assert not directory.hosts("c.example")
    assert not directory.hosts("mail.a.example")


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("alice@a.example", "alice@a.example"),
        ("ALICE@a.example", "alice@a.example"),
        ("alice+lists@a.example", "alice@a.example"),
        ("Alice+a+b-c@a.example", "alice@a.example"),
        ("mail-list@a.example", "mail-list@a.example"),
        ("mail-list-tag@a.example", "mail-list@a.example"),
        ("jose\u0301@a.example", "josé@a.example"),
        ("JOSÉ@a.example", "josé@a.example"),
        ("postmaster@a.example", "alice@a.example"),
        ("PostMaster+x@a.example", "alice@a.example"),
        ("postmaster@empty.example", "postmaster@empty.example"),
    ],
)
def test_accounts(directory, address, account):
    found = directory.find(at(address))
    assert isinstance(found, Account)
    assert found.name == account


@pytest.mark.parametrize(
    "address",
    [
        "nobody@a.example",
        "+lists@a.example",
        "al+ice@a.example",
        "аlice@a.example",  # the first letter is Cyrillic
        "../alice@a.example",
        "mail@a.example",
        "@a.example",
        "*@a.example",
        "a" * 1000 + "@a.example",
        "-" * 1000 + "@a.example",
    ],
)
def test_nobody(directory, address):
    found = directory.find(at(address))
    assert isinstance(found, Nobody)
    assert str(found.source) == "domains/a.example/users"
    assert directory.expand(Recipient(at(address))) == ()


def test_not_hosted(directory):
    for address in ("alice@c.example", "alice@mail.a.example", "alice@[192.0.2.1]", "x@example", "alice@"):
        assert isinstance(directory.find(at(address)), NotHosted)
        assert directory.expand(to(address)) == (to(address),)


def test_mail_is_handed_on_for_domains_not_hosted(directory):
    route = Source("mailserver.toml", 7)
    directory.relayed = RelayDomains(
        {"backup.example": RelayDomain(route, frozenset({"ann@backup.example"}))}
    )
    assert directory.find(Address("ann", "backup.example")) == Relayed(route)
    assert directory.find(Address("eve", "backup.example")) == Relayed(route, known=False)
    assert directory.find(Address("ann", "other.example")) == NotHosted()
    assert not directory.hosts("backup.example")
    ann = Recipient(Address("ann", "backup.example"))
    assert directory.expand(ann) == (ann,)


def test_accounts_of_domains_with_a_route_say_so(directory):
    before = directory.find(Address("alice", "a.example"))
    assert not before.routed
    directory.routed = frozenset({"a.example"})
    assert directory.find(Address("alice", "a.example")) == evolve(before, routed=True)


@pytest.mark.parametrize(
    ("local", "exists"),
    [
        ("alice+tag", True),
        ("alice+%elsewhere.example", False),
        ("alice+tag%elsewhere.example", False),
        ("alice-tag@elsewhere.example", False),
        ("alice+elsewhere.example!tag", False),
    ],
)
def test_nobody_is_behind_a_way_through_the_host_that_a_route_names(directory, local, exists):
    """What is only a name here may lead elsewhere at a host that relays for us."""
    assert isinstance(directory.find(Address(local, "a.example")), Account)
    directory.routed = frozenset({"a.example"})
    assert isinstance(directory.find(Address(local, "a.example")), Account if exists else Nobody)


def test_aliases_are_followed_to_the_end(directory):
    found = directory.find(at("all@a.example"))
    assert isinstance(found, Forward)
    assert [str(target) for target in found.targets] == [
        "alice@a.example",
        "bob@a.example",
        "carol@elsewhere.example",
        "dave@b.example",
    ]
    assert str(found.source) == "domains/a.example/aliases:2"
    assert directory.find(at("sales+tag@a.example")) == directory.find(at("sales@a.example"))
    # A name itself goes before a name with a tag.
    assert [str(target) for target in directory.find(at("bob+vip@a.example")).targets] == ["alice@a.example"]


def test_catch_all(directory):
    found = directory.find(at("anybody@b.example"))
    assert found.targets == (at("dave@b.example"),)
    assert isinstance(directory.find(at("dave@b.example")), Account)


def test_expansion(directory):
    assert directory.expand(to("alice+x@a.example")) == (to("alice+x@a.example"),)
    original = "rfc822;sales@a.example"
    assert directory.expand(to("sales@a.example")) == (
        to("alice@a.example", original),
        to("bob@a.example", original),
        to("carol@elsewhere.example", original),
    )
    kept = Recipient(at("sales@a.example"), "rfc822;first@x.example", frozenset({"NEVER"}))
    assert {(it.original, it.notify) for it in directory.expand(kept)} == {
        ("rfc822;first@x.example", frozenset({"NEVER"}))
    }


def test_an_alias_with_commands_stands_for_itself_too(directory):
    assert directory.expand(to("scanner@a.example")) == (to("scanner@a.example"),)
    assert directory.find(at("both@a.example")).commands == ("/bin/scan",)
    assert directory.expand(to("both@a.example")) == (
        to("alice@a.example", "rfc822;both@a.example"),
        to("both@a.example"),
    )


def test_a_bare_postmaster_is_the_first_domains(directory):
    for spelled in ("Postmaster@", "postmaster@mail.a.example"):
        assert directory.find(at(spelled)).name == "alice@a.example"
        (recipient,) = directory.expand(to(spelled))
        assert recipient.address.key == "postmaster@a.example"
        assert recipient.original in ("rfc822;Postmaster", "rfc822;postmaster@mail.a.example")
    assert isinstance(Directory(NO_DOMAINS).find(at("postmaster@")), NotHosted)


def test_a_postmaster_alias(directory):
    assert len(directory.find(at("postmaster@b.example")).targets) == 2


def test_replacing_the_tree(directory, tree):
    directory.replace(NO_DOMAINS)
    assert directory.domains() == ()
    assert isinstance(directory.find(at("alice@a.example")), NotHosted)
    directory.replace(tree)
    assert directory.hosts("a.example")


class TestLogins:
    def test_the_full_address(self, directory):
        assert directory.user("Alice@A.example").account.name == "alice@a.example"
        for name in (
            "alice",
            "sales@a.example",
            "alice+x@a.example",
            "",
            "@",
            "x" * 5000,
            "a@b@c",
            "alice@c.example",
        ):
            assert directory.user(name) is None

    def test_a_bare_name_where_one_domain_is_hosted(self, tmp_path):
        (tmp_path / "a.example").mkdir()
        (tmp_path / "a.example/users").write_text("alice:{PLAIN}x\n")
        directory = Directory(load_tree(tmp_path)[0])
        assert directory.user("ALICE").account.name == "alice@a.example"
        assert directory.user("bob") is None

    def test_decoys_are_of_the_domains_usual_scheme(self, tmp_path):
        (tmp_path / "a.example").mkdir()
        (tmp_path / "a.example/users").write_text("alice:{PLAIN}x\n")
        (tmp_path / "b.example").mkdir()
        (tmp_path / "b.example/users").write_text(f"a:{{PLAIN}}x\nb:{DECOY}\nc:{DECOY}\n")
        directory = Directory(load_tree(tmp_path)[0])
        assert directory.decoy("nobody@a.example") == "{PLAIN}x"
        assert directory.decoy("nobody@b.example") == DECOY
        assert directory.decoy("nobody@c.example") == "{PLAIN}x"
        assert directory.decoy("\0") == "{PLAIN}x"
        assert Directory(NO_DOMAINS).decoy("nobody") == DECOY


def words(text):
    return frozenset(text.split())


@pytest.mark.parametrize(
    ("alias", "notify", "expected"),
    [
        ("sales@a.example", "SUCCESS FAILURE", words("FAILURE")),
        ("sales@a.example", "SUCCESS", words("NEVER")),
        ("sales@a.example", "FAILURE DELAY", words("FAILURE DELAY")),
        ("sales@a.example", "NEVER", words("NEVER")),
        ("bob+vip@a.example", "SUCCESS", words("SUCCESS")),
        ("both@a.example", "SUCCESS", words("SUCCESS")),
        ("alice@a.example", "SUCCESS", words("SUCCESS")),
    ],
)
def test_of_several_targets_none_is_asked_to_tell_of_success(directory, alias, notify, expected):
    expanded = directory.expand(Recipient(at(alias), "", words(notify)))
    assert {one.notify for one in expanded} == {expected}


@pytest.mark.parametrize("domain", ["a.example", "b.example"])
def test_the_senders_of_forwarded_mail_are_here(tree, domain):
    senders = Senders(lambda: 1.7e9, b"secret")
    carol = at("carol@far.example")
    under = senders.under(carol, domain)
    directory = Directory(tree, "mail.a.example", senders)
    standing = directory.find(under)
    assert isinstance(standing, Forward)
    assert (standing.targets, standing.reports_only) == ((carol,), True)
    assert directory.expand(Recipient(under)) == (Recipient(carol, f"rfc822;{under}"),)
    forged = Address(under.local.replace("carol", "victor"), domain)
    standing = directory.find(forged)
    # The catch-all of b.example takes it like any other name.
    assert not (isinstance(standing, Forward) and standing.reports_only)
    assert isinstance(Directory(tree, "mail.a.example").find(under), Nobody | Forward)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("josé@a.example", "josé@a.example"),
        ("jose\u0301@a.example", "josé@a.example"),
        # SASLprep (RFC 5802 §5.1): letters of full width, and what cannot be seen
        ("\uff42ob@a.example", "bob@a.example"),
        ("b\u00adob@a.example", "bob@a.example"),
    ],
)
def test_a_login_name_may_be_spelled_in_other_ways(directory, login, name):
    user = directory.user(login)
    assert user is not None
    assert user.account.name == directory.login_key(login) == name


@pytest.mark.parametrize(
    "login", ["\ue000bob@a.example", "\ud800@a.example", "\u0627bob@a.example", "é" * 400]
)
def test_nobodys_login_name(directory, login):
    assert directory.user(login) is None
    assert directory.login_key(login)

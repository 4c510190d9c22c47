"""Addresses that try to relay by their spelling: each has one meaning, and none is taken from a stranger.

Over the whole receiving side, with a real directory of files.
"""

from pathlib import Path

import pytest

from mailserver.domains.directory import Directory
from mailserver.domains.relayed import RelayDomain, RelayDomains
from mailserver.domains.tree import load_tree
from mailserver.model.source import Source
from tests.support.dialogue import MemoryWire
from tests.support.reception import Premises

DENIED = "550 5.7.1"
NOBODY = "550 5.1.1"
BAD = "501 5.1.3"
UTF8 = "553 5.6.7"

SPELLINGS = [
    # plainly
    ("<friend@elsewhere.example>", DENIED),
    ("<FRIEND@ELSEWHERE.EXAMPLE>", DENIED),
    ('<"friend"@elsewhere.example>', DENIED),
    # routes in the local part mean nothing (RFC 5321 appendix C)
    ("<friend%elsewhere.example@example.lan>", NOBODY),
    ("<alice%example.lan%elsewhere.example@example.lan>", NOBODY),
    ("<friend%elsewhere.example@EXAMPLE.LAN>", NOBODY),
    ("<elsewhere.example!friend@example.lan>", NOBODY),
    ("<elsewhere.example!example.lan!alice@example.lan>", NOBODY),
    ('<"friend@elsewhere.example"@example.lan>', NOBODY),
    ('<"friend%elsewhere.example"@example.lan>', NOBODY),
    ('<"alice@example.lan"@elsewhere.example>', DENIED),
    ("<|/bin/sh@example.lan>", NOBODY),
    ("<friend%elsewhere.example>", BAD),
    ("<friend@elsewhere.example%example.lan>", BAD),
    ('<"alice"%elsewhere.example@example.lan>', BAD),
    # source routes are dropped: what counts is the mailbox behind them
    ("<@example.lan:friend@elsewhere.example>", DENIED),
    ("<@example.lan,@mail.example.lan:friend@elsewhere.example>", DENIED),
    ("<@elsewhere.example:friend%elsewhere.example@example.lan>", NOBODY),
    ("<@example.lan>", BAD),
    # the domain is all of it, and nothing but it
    ("<friend@elsewhere.example.>", BAD),
    ("<alice@example.lan.>", BAD),
    ("<friend@xexample.lan>", DENIED),
    ("<friend@example.lan.elsewhere.example>", DENIED),
    ("<friend@elsewhere-example.lan>", DENIED),
    ("<friend@sub.example.lan>", DENIED),
    ("<friend@lan>", DENIED),
    ("<friend@example..lan>", BAD),
    ("<friend@.example.lan>", BAD),
    ("<friend@>", BAD),
    ("<friend>", BAD),
    ("<friend@elsewhere.example:25>", BAD),
    ("<smtp:friend@elsewhere.example>", BAD),
    # literals are no hosted domain, not even those of our own address
    ("<friend@[127.0.0.1]>", DENIED),
    ("<friend@[192.0.2.25]>", DENIED),
    ("<alice@[192.0.2.25]>", DENIED),
    ("<postmaster@[192.0.2.25]>", DENIED),
    ("<postmaster@[IPv6:::1]>", DENIED),
    ("<friend@[IPv6:::ffff:192.0.2.25]>", DENIED),
    ("<friend@[elsewhere.example]>", BAD),
    ("<friend@2130706433>", DENIED),
    ("<friend@127.0.0.1>", DENIED),
    # one address in one path
    ("<friend@elsewhere.example@example.lan>", BAD),
    ("<alice@example.lan@elsewhere.example>", BAD),
    ("<alice@example.lan,friend@elsewhere.example>", BAD),
    ("<alice@example.lan>,<friend@elsewhere.example>", BAD),
    ("<alice@example.lan> <friend@elsewhere.example>", "501 5.5.4"),
    ("<friend@elsewhere.example> alice@example.lan", "501 5.5.4"),
    ("<<friend@elsewhere.example>@example.lan>", BAD),
    ("friend@elsewhere.example", BAD),
    ('"x" <friend@elsewhere.example>', BAD),
    # comments and blanks
    ("<friend(example.lan)@elsewhere.example>", BAD),
    ("<friend@elsewhere.example(example.lan)>", BAD),
    ("<friend@elsewhere.example @example.lan>", BAD),
    ("<alice@example.lan\t@elsewhere.example>", BAD),
    # octets that end strings elsewhere
    ("<friend@elsewhere.example\0@example.lan>", "500 5.5.2"),
    ("<friend@elsewhere.example\n@example.lan>", "500 5.5.2"),
    ("<friend@elsewhere.example\r@example.lan>", "500 5.5.2"),
    ("<friend@elsewhere.example\\@example.lan>", BAD),
    # internationalised: look-alikes of our own domain, other signs for @ and the dot
    ("<alice@ex\u0430mple.lan>", DENIED),
    ("<alice@xn--exmple-4nf.lan>", DENIED),
    ("<friend@elsewhere\u3002example>", DENIED),
    ("<friend@elsewhere\uff0eexample>", DENIED),
    ("<friend\uff20elsewhere.example>", BAD),
    ("<friend\uff20elsewhere.example@example.lan>", NOBODY),
    ("<friend\uff05elsewhere.example@example.lan>", NOBODY),
    ("<\u0430lice@example.lan>", NOBODY),
    ("<friend@exa\u00admple.lan.elsewhere.example>", DENIED),
]


ROUTE = Source("mailserver.toml", 7)
RELAYED = {
    "none": RelayDomains(),
    "listed": RelayDomains({"backup.example": RelayDomain(ROUTE, frozenset({"ann@backup.example"}))}),
    "unlisted": RelayDomains({"backup.example": RelayDomain(ROUTE)}),
}


@pytest.fixture(params=RELAYED)
def premises(tmp_path: Path, request: pytest.FixtureRequest) -> Premises:
    home = tmp_path / "example.lan"
    home.mkdir()
    (home / "users").write_text("alice:{PLAIN}secret\n")
    tree, problems = load_tree(tmp_path, "domains")
    assert not [it for it in problems if it.fatal]
    premises = Premises()
    premises.office.directory = directory = Directory(tree, "mail.example.lan")
    directory.relayed = RELAYED[request.param]
    return premises


def ask(premises: Premises, recipient: str, utf8: bool) -> list[str]:
    wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
    wire.send(b"EHLO client.example\r\nMAIL FROM:<x@y.example>%b\r\n" % (b" SMTPUTF8" if utf8 else b""))
    wire.rest(False)
    wire.send(b"RCPT TO:" + recipient.encode() + b"\r\n")
    said = wire.rest(False).decode()
    wire.drop()
    return [line[:9] for line in said.split("\r\n") if line]


@pytest.mark.parametrize(("recipient", "reply"), SPELLINGS)
def test_spelling(premises: Premises, recipient: str, reply: str) -> None:
    assert ask(premises, recipient, utf8=True) == [reply]
    without = ask(premises, recipient, utf8=False)
    assert without == [reply] if recipient.isascii() else without in ([UTF8], [BAD])


@pytest.mark.parametrize(
    "recipient",
    ["<Alice@Example.LAN>", '<"alice"@example.lan>', "<@x.example:alice@example.lan>", "<Postmaster>"],
)
def test_other_spellings_of_those_who_live_here(premises: Premises, recipient: str) -> None:
    assert ask(premises, recipient, utf8=False) == ["250 2.1.5"]


# Through a domain that we are a backup MX for, in which nobody is listed: to nobody but those in it.
THROUGH = [
    ("<anybody@backup.example>", "250 2.1.5"),
    ("<postmaster@Backup.Example>", "250 2.1.5"),
    ("<@elsewhere.example:anybody@backup.example>", "250 2.1.5"),
    ("<friend%elsewhere.example@backup.example>", NOBODY),
    ("<elsewhere.example!friend@backup.example>", NOBODY),
    ('<"friend@elsewhere.example"@backup.example>', NOBODY),
    ('<"friend%elsewhere.example"@backup.example>', NOBODY),
    ("<@backup.example:friend@elsewhere.example>", DENIED),
    ("<@backup.example:friend%elsewhere.example@example.lan>", NOBODY),
    ("<friend@elsewhere.example@backup.example>", BAD),
    ("<friend@sub.backup.example>", DENIED),
    ("<friend@xbackup.example>", DENIED),
    ("<friend@backup.example.elsewhere.example>", DENIED),
    ("<friend@backup.example.>", BAD),
    ("<friend@backup-example>", DENIED),
    ("<friend@example>", DENIED),
    ("<anybody@backup.example,friend@elsewhere.example>", BAD),
    ("<anybody@backup.example> <friend@elsewhere.example>", "501 5.5.4"),
    ("<friend@backup.example\\0@elsewhere.example>", BAD),
]


@pytest.mark.parametrize("premises", ["unlisted"], indirect=True)
@pytest.mark.parametrize(("recipient", "reply"), THROUGH)
def test_nobody_is_reached_through_a_relayed_domain(premises: Premises, recipient: str, reply: str) -> None:
    assert ask(premises, recipient, utf8=False) == [reply]


@pytest.mark.parametrize("premises", ["listed"], indirect=True)
@pytest.mark.parametrize(("recipient", "reply"), THROUGH)
def test_nor_anybody_who_is_not_listed_there(premises: Premises, recipient: str, reply: str) -> None:
    unlisted = "anybody@backup" in recipient and reply.startswith("250")
    assert ask(premises, recipient, utf8=False) == [NOBODY if unlisted else reply]


@pytest.mark.parametrize("premises", ["listed"], indirect=True)
@pytest.mark.parametrize("recipient", ["<ann@backup.example>", "<Ann+x@BACKUP.example>"])
def test_who_is_listed_there_is(premises: Premises, recipient: str) -> None:
    assert ask(premises, recipient, utf8=False) == ["250 2.1.5"]

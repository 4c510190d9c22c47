"""The users file."""

import time

import pytest

from mailserver.domains.passwords import DECOY
from mailserver.domains.users import parse_users, spell_user_name
from mailserver.model.address import Address
from mailserver.model.source import Source
from mailserver.wire.scram import make_verifier


def parse(text, quota=0):
    users, problems = parse_users(text, "users", "example.lan", quota)
    return users, [str(problem) for problem in problems if problem.fatal]


def test_users_in_order_with_their_lines():
    users, problems = parse("# comment\n\nbob:{PLAIN}secret\n  alice:{PLAIN}s:quota=50MB  \r\n")
    assert problems == []
    assert list(users) == ["bob", "alice"]
    assert users["alice"].account.name == "alice@example.lan"
    assert users["alice"].account.quota == 50 * 2**20
    assert users["alice"].account.source == Source("users", 4)
    assert users["alice"].password == "{PLAIN}s"
    assert "secret" not in repr(users)


def test_one_mailbox_has_one_key():
    users, problems = parse(
        'Alice:{PLAIN}x\nJosé:{PLAIN}x\n"john doe":{PLAIN}x\n"a:b"@example.lan:{PLAIN}x:quota=1\n'
    )
    assert problems == []
    assert list(users) == ["alice", "josé", "john doe", "a:b"]
    assert users["a:b"].account.quota == 1


def test_the_domains_quota_is_the_default():
    users, _ = parse("a:{PLAIN}x\nb:{PLAIN}x:quota=0\nc:{PLAIN}x:quota=10\n", quota=1000)
    assert [user.account.quota for user in users.values()] == [1000, 0, 10]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("alice", "users:1: alice: the password has no {SCHEME}"),
        ("alice:secret", "users:1: alice: the password has no {SCHEME}"),
        ("alice:", "users:1: alice: the password has no {SCHEME}"),
        ("alice:{PLAIN}", "users:1: alice: the password is empty"),
        ("alice:{ROT13}frperg", "users:1: alice: the password scheme {ROT13} is not known"),
        ("alice:{ARGON2ID}nonsense", "users:1: alice: the password is not a {ARGON2ID} hash"),
        (":{PLAIN}x", 'users:1: "" is not an address'),
        ("::", "users:1: has no name"),
        ("al ice:{PLAIN}x", 'users:1: "al ice" is not an address'),
        ("..:{PLAIN}x", 'users:1: ".." is not an address'),
        ("../bob:{PLAIN}x", 'users:1: "../bob" is not an address'),
        ("alice@example.org:{PLAIN}x", 'users:1: "alice@example.org" is not in this domain'),
        ("a" * 65 + ":{PLAIN}x", "is not an address"),
        ("alice:{PLAIN}x:quota=much", 'users:1: alice: "much" is not a size'),
        ("alice:{PLAIN}x:quota", "users:1: alice: after the password come options"),
        ("alice:{PLAIN}x:qouta=1MB", 'users:1: alice: unknown option, did you mean "quota"?'),
        ("alice:{PLAIN}sec:ret", "a password with a colon must be hashed"),
        ("alice:{PLAIN}x\nALICE:{PLAIN}y", "users:2: ALICE: is in line 1 already"),
    ],
)
def test_errors(line, expected):
    _, problems = parse(line)
    assert len(problems) == 1
    assert expected in problems[0]


def test_all_errors_at_once_and_no_password_in_them():
    _, problems = parse("alice:hunter2\nbob:{PLAIN}hunter2:hunter2\ncarol:{PLAIN}x\n:hunter2\n")
    assert len(problems) == 3
    assert not any("hunter2" in problem for problem in problems)


def test_plain_passwords_are_warned_of_once():
    _, problems = parse_users("a:{PLAIN}x\nb:{PLAIN}y\n", "users", "example.lan")
    assert [(str(problem.source), problem.fatal) for problem in problems] == [("users:1", False)]


def test_names_are_spelled_to_be_read_back():
    for local in ("alice", "john doe", "a:b", "#1", 'q"uote', "back\\slash", "josé", "a@b"):
        name = spell_user_name(Address(local, "example.lan"))
        users, problems = parse(f"{name}:{{PLAIN}}x")
        assert problems == []
        assert list(users) == [local]


def test_fifty_thousand_lines():
    text = "".join(f"user{number}:{DECOY}:quota=1GB\n" for number in range(50_000))
    started = time.process_time()
    users, problems = parse(text)
    assert (len(users), problems) == (50_000, [])
    assert time.process_time() - started < 5  # well under 1 s on an idle machine


# --- the options of logins ---------------------------------------------------------------------------


def test_senders() -> None:
    text = "alice:{PLAIN}x:senders=Info@other.example,@Club.example,sales,\nbob:{PLAIN}x:senders=\n"
    users, problems = parse_users(text, "users", "example.lan")
    assert not [problem for problem in problems if problem.fatal]
    assert users["alice"].senders == {"info@other.example", "@club.example", "sales@example.lan"}
    assert users["bob"].senders == frozenset()


def test_a_verifier_beside_the_password() -> None:
    verifier = make_verifier(b"secret", b"0123456789abcdef", 4096)
    text = f"alice:{{PLAIN}}secret:quota=1KB:scram={verifier}\n"
    users, _ = parse_users(text, "users", "example.lan")
    assert users["alice"].scram == verifier
    assert users["alice"].account.quota == 1024
    assert str(verifier) not in repr(users)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("senders=a@b@c", "is not an address"),
        ("senders=@", "is not a domain"),
        ("scram=secret", "scram is not a verifier: set it with mailctl user passwd"),
        ("sender=x", 'did you mean "senders"?'),
    ],
)
def test_bad_options_of_logins(option: str, told: str) -> None:
    users, (problem, *_) = parse_users(f"alice:{{PLAIN}}x:{option}\n", "users", "example.lan")
    assert not users
    assert told in problem.text
    assert "secret" not in problem.text


def test_messages_and_disabled():
    users, _ = parse_users(
        "a:{PLAIN}x\nb:{PLAIN}x:messages=5:disabled\nc:{PLAIN}x:disabled quota=1\n",
        "users",
        "x.example",
        0,
        9,
    )
    assert [(user.account.messages, user.account.disabled) for user in users.values()] == [
        (9, False),
        (5, True),
        (9, True),
    ]
    for wrong in ("messages=many", "messages=-1", "disabled=yes", "messages"):
        assert parse(f"a:{{PLAIN}}x:{wrong}\n")[1]

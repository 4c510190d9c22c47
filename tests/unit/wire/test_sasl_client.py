"""How we log in elsewhere, held against the server's side of the same mechanisms."""

import pytest

from mailserver.wire.sasl import Challenge, Mechanisms, Password, Proof
from mailserver.wire.sasl_client import choose
from mailserver.wire.scram import make_verifier
from mailserver.wire.syntax import BadSyntax

NAME, PASSWORD = b"r=elay,user", b"s3cret"
SALT = b"0123456789abcdef"


def mechanisms():
    return Mechanisms(lambda name: make_verifier(PASSWORD, SALT, 4096))


def play(name, password=PASSWORD):
    """What the server ends with, and our exchange."""
    ours, theirs = choose([name], NAME, password, "nonce"), mechanisms().begin(name)
    assert ours.name == name
    step = theirs.step(ours.initial())
    while isinstance(step, Challenge):
        step = theirs.step(ours.answer(step.data))
    if isinstance(step, Proof) and step.right:
        assert ours.answer(step.final) == b""
    return step, ours


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN"])
def test_those_that_say_the_password(name):
    step, ours = play(name)
    assert step == Password(NAME, PASSWORD)
    assert ours.done


def test_scram_proves_both_sides():
    step, ours = play("SCRAM-SHA-256")
    assert step.right
    assert ours.done


def test_scram_says_the_name_as_saslprep_has_it():
    # RFC 5802 §5.1
    assert (
        choose(["SCRAM-SHA-256"], "jose\u0301".encode(), PASSWORD, "n").initial() == "n,,n=josé,r=n".encode()
    )


def test_scram_with_a_wrong_password():
    step, ours = play("SCRAM-SHA-256", b"wrong")
    assert not step.right
    assert not ours.done


@pytest.mark.parametrize(
    ("offered", "name"),
    [
        (["LOGIN", "PLAIN", "SCRAM-SHA-256"], "SCRAM-SHA-256"),
        (["LOGIN", "PLAIN"], "PLAIN"),
        (["LOGIN", "CRAM-MD5"], "LOGIN"),
    ],
)
def test_the_strongest(offered, name):
    assert choose(offered, NAME, PASSWORD, "n").name == name


def test_none_that_we_know():
    assert choose(["CRAM-MD5"], NAME, PASSWORD, "n") is None


def test_challenges_that_are_none_of_theirs():
    with pytest.raises(BadSyntax):
        choose(["PLAIN"], NAME, PASSWORD, "n").answer(b"")
    login = choose(["LOGIN"], NAME, PASSWORD, "n")
    assert not login.done
    assert [login.answer(b"x"), login.answer(b"y")] == [NAME, PASSWORD]
    with pytest.raises(BadSyntax):
        login.answer(b"z")


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=other,s=c2FsdA==,i=4096",
        b"r=nonce,s=c2FsdA==,i=4096",
        b"r=nonceX,s=c2FsdA=,i=4096",
        b"r=nonceX,s=c2FsdA==,i=4095",
        b"r=nonceX,s=c2FsdA==,i=999999999",
    ],
)
def test_scram_challenges_that_are_not_answered(challenge):
    with pytest.raises(BadSyntax):
        choose(["SCRAM-SHA-256"], NAME, PASSWORD, "nonce").answer(challenge)


@pytest.mark.parametrize("final", [b"v=AAAA", b"e=other-error", b"v=%"])
def test_a_host_that_does_not_know_the_password(final):
    scram = choose(["SCRAM-SHA-256"], NAME, PASSWORD, "nonce")
    scram.answer(b"r=nonceX,s=c2FsdA==,i=4096")
    with pytest.raises(BadSyntax):
        scram.answer(final)
    assert not scram.done

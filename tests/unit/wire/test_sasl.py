"""SASL exchanges, the server's side, without a server."""

import base64

import pytest

from mailserver.wire.sasl import (
    Cancelled,
    Challenge,
    Mechanisms,
    Password,
    Proof,
    decode_response,
    encode_challenge,
    split_auth,
)
from mailserver.wire.scram import Verifier, make_verifier
from mailserver.wire.syntax import BadSyntax
from tests.support.scram import Client

PLAIN_ONLY = Mechanisms()
VERIFIER = make_verifier(b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
CERTIFICATE = b"c" * 32


def find(name: bytes) -> Verifier:
    return VERIFIER


SCRAM = Mechanisms(find, None, lambda: "server-nonce")
BINDINGS = {"tls-server-end-point": CERTIFICATE, "tls-exporter": b"e" * 32}
BOUND = Mechanisms(find, lambda: BINDINGS, lambda: "server-nonce")


def play(mechanism: str, *responses: bytes | None, mechanisms: Mechanisms = PLAIN_ONLY) -> list[object]:
    exchange = mechanisms.begin(mechanism)
    assert exchange is not None
    return [exchange.step(response) for response in responses]


def test_what_there_is() -> None:
    assert PLAIN_ONLY.names == ("PLAIN", "LOGIN")
    assert SCRAM.names == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert BOUND.names == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    # TLS 1.2: clients would bind by tls-unique, which is not to be had.
    assert Mechanisms(find, lambda: {"tls-server-end-point": CERTIFICATE}).names == SCRAM.names
    for name in ("CRAM-MD5", "XOAUTH2", "", "plain", "SCRAM-SHA-256"):
        assert PLAIN_ONLY.begin(name) is None
    assert SCRAM.begin("SCRAM-SHA-256-PLUS") is None
    # A nonce is never the same twice, and has no comma.
    nonces = {PLAIN_ONLY.nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(nonce.isascii() and "," not in nonce and len(nonce) >= 24 for nonce in nonces)


def test_plain() -> None:
    assert play("PLAIN", b"\0alice\0secret") == [Password(b"alice", b"secret")]
    assert play("PLAIN", None, b"\0alice\0secret") == [Challenge(b""), Password(b"alice", b"secret")]
    assert play("PLAIN", b"alice\0alice\0s") == [Password(b"alice", b"s")]
    assert play("PLAIN", b"\0j\xc3\xb6rg\0") == [Password("jörg".encode(), b"")]
    assert "secret" not in repr(Password(b"alice", b"secret"))


def test_nobody_acts_for_somebody_else() -> None:
    assert play("PLAIN", b"root\0alice\0secret") == [Proof(b"alice", False)]
    assert play("PLAIN", b"Alice\0alice\0secret") == [Proof(b"alice", False)]


@pytest.mark.parametrize(
    "message", [b"", b"\0", b"alice", b"alice\0secret", b"\0\0secret", b"\0a\0b\0c", b"\0\0\0"]
)
def test_not_plain(message: bytes) -> None:
    with pytest.raises(BadSyntax):
        play("PLAIN", message)


def test_login() -> None:
    prompts = [Challenge(b"Username:"), Challenge(b"Password:")]
    done = Password(b"alice", b"secret")
    assert play("LOGIN", None, b"alice", b"secret") == [*prompts, done]
    assert play("LOGIN", b"alice", b"secret") == [prompts[1], done]
    assert play("LOGIN", None, b"alice\0", b"secret") == [*prompts, done]
    for name in (b"", b"\0"):
        with pytest.raises(BadSyntax):
            play("LOGIN", None, name)


@pytest.mark.parametrize(
    ("argument", "parsed"),
    [
        (b"PLAIN", ("PLAIN", None)),
        (b"plain", ("PLAIN", None)),
        (b" Login  ", ("LOGIN", None)),
        (b"PLAIN =", ("PLAIN", b"")),
        (b"PLAIN AGEAYg==", ("PLAIN", b"\0a\0b")),
        (b"PLAIN   AGEAYg==", ("PLAIN", b"\0a\0b")),
        (b"SCRAM-SHA-256 YQ==", ("SCRAM-SHA-256", b"a")),
    ],
)
def test_auth(argument: bytes, parsed: tuple[str, bytes | None]) -> None:
    assert split_auth(argument) == parsed


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b" ",
        b"PL\xc3\x84IN",
        b"PLAIN;",
        b"x" * 21,
        b"PLAIN ==",
        b"PLAIN AGEAYg",
        b"PLAIN AGEAYg=",
        b"PLAIN AGE AYg==",
        b"PLAIN AGEAYg==x",
        b"PLAIN AGEAYg====",
        b"PLAIN *",
        b"PLAIN \xff",
        b"PLAIN AGE-AYg_",
    ],
)
def test_not_auth(argument: bytes) -> None:
    with pytest.raises(BadSyntax):
        split_auth(argument)


def test_responses() -> None:
    assert decode_response(b"") == b""
    assert decode_response(b"YQ==") == b"a"
    with pytest.raises(Cancelled):
        decode_response(b"*")
    for line in (b"**", b" YQ==", b"YQ== ", b"Y", b"=", b"YQ\r\n==", b"\x80"):
        with pytest.raises(BadSyntax):
            decode_response(line)
    assert encode_challenge(Challenge(b"Username:")) == b"VXNlcm5hbWU6"
    assert encode_challenge(Challenge(b"")) == b""


def test_scram_as_in_rfc_7677() -> None:
    # RFC 7677 §3, octet for octet.
    mechanisms = Mechanisms(find, None, lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert play("SCRAM-SHA-256", b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", final, mechanisms=mechanisms) == [
        Challenge(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
        Proof(b"user", True, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
    ]


def scram(client: Client, mechanisms: Mechanisms = SCRAM, mechanism: str = "SCRAM-SHA-256") -> object:
    """The outcome of an exchange with a client."""
    exchange = mechanisms.begin(mechanism)
    assert exchange is not None
    step = exchange.step(client.first)
    if isinstance(step, Challenge):
        step = exchange.step(client.final(step.data))
        assert isinstance(step, Proof)
        assert client.trusts(step.final) == step.right
    return step


@pytest.mark.parametrize(
    ("gs2", "mechanisms", "right"),
    [
        ("n,,", SCRAM, True),
        ("y,,", SCRAM, True),
        ("n,a=user,", SCRAM, True),
        ("n,,", BOUND, True),
        # The server can bind the channel and the client was made to believe that it cannot.
        ("y,,", BOUND, False),
        ("n,a=root,", SCRAM, False),
        # Channel binding is for the other mechanism.
        ("p=tls-server-end-point,,", BOUND, False),
        ("p=tls-server-end-point,,", SCRAM, False),
    ],
)
def test_scram_without_binding(gs2: str, mechanisms: Mechanisms, right: bool) -> None:
    outcome = scram(Client("user", "pencil", gs2=gs2), mechanisms)
    assert isinstance(outcome, Proof)
    assert outcome.right is right


@pytest.mark.parametrize(
    ("gs2", "binding", "right"),
    [
        ("p=tls-server-end-point,,", CERTIFICATE, True),
        ("p=tls-server-end-point,a=user,", CERTIFICATE, True),
        ("p=tls-exporter,,", b"e" * 32, True),
        ("p=tls-exporter,,", CERTIFICATE, False),
        ("p=tls-server-end-point,,", b"d" * 32, False),
        ("p=tls-server-end-point,,", b"", False),
        ("p=tls-unique,,", CERTIFICATE, False),
        ("n,,", b"", False),
        ("y,,", b"", False),
    ],
)
def test_scram_with_binding(gs2: str, binding: bytes, right: bool) -> None:
    outcome = scram(Client("user", "pencil", gs2=gs2, binding=binding), BOUND, "SCRAM-SHA-256-PLUS")
    assert isinstance(outcome, Proof)
    assert outcome.right is right


def test_scram_without_initial_response() -> None:
    exchange = SCRAM.begin("SCRAM-SHA-256")
    assert exchange is not None
    assert exchange.step(None) == Challenge(b"")
    client = Client("user", "pencil")
    step = exchange.step(client.first)
    assert isinstance(step, Challenge)
    outcome = exchange.step(client.final(step.data))
    assert isinstance(outcome, Proof)
    assert outcome.right


def test_a_wrong_password_and_a_nonce_of_another_exchange() -> None:
    assert scram(Client("user", "pencils")) == Proof(b"user", False)
    exchange = SCRAM.begin("SCRAM-SHA-256")
    assert exchange is not None
    client = Client("user", "pencil")
    challenge = exchange.step(client.first)
    assert isinstance(challenge, Challenge)
    replayed = challenge.data.replace(b"server-nonce", b"server-once")
    assert exchange.step(client.final(replayed)) == Proof(b"user", False)


def test_names_with_signs() -> None:
    outcome = scram(Client("us=er,x", "pencil"))
    assert isinstance(outcome, Proof)
    assert (outcome.name, outcome.right) == (b"us=er,x", True)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"x,,n=user,r=abc",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x7fc",
        b"n,,n=us=er,r=abc",
        b"n,a=us=er,n=user,r=abc",
        b"n,,n=user,r=abc,",
        b"n,,n=us\0er,r=abc",
        b"p=,,n=user,r=abc",
        # An extension that must be understood (RFC 5802 §5.1).
        b"n,,m=ext,n=user,r=abc",
    ],
)
def test_not_a_first_message(first: bytes) -> None:
    with pytest.raises(BadSyntax):
        play("SCRAM-SHA-256", first, mechanisms=SCRAM)


def test_extensions_that_need_not_be_understood() -> None:
    assert play("SCRAM-SHA-256", b"n,,n=user,r=abc,x=whatever", mechanisms=SCRAM)


@pytest.mark.parametrize(
    "final",
    [b"", b"c=biws", b"c=biws,r=abc", b"c=biws,r=abc,p=", b"c=b,r=abc,p=YQ==", b"c=biws,r=abc,p=Y", b"*"],
)
def test_not_a_final_message(final: bytes) -> None:
    with pytest.raises(BadSyntax):
        play("SCRAM-SHA-256", b"n,,n=user,r=abc", final, mechanisms=SCRAM)


def test_a_proof_of_another_length() -> None:
    steps = play("SCRAM-SHA-256", b"n,,n=user,r=abc", b"c=biws,r=abcserver-nonce,p=YQ==", mechanisms=SCRAM)
    assert steps[1] == Proof(b"user", False)

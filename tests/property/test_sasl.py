"""SASL under any input: a mechanism either goes on, ends, or says that this is none of its messages."""

import base64
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.wire.authors import parse_authors
from mailserver.wire.sasl import (
    Cancelled,
    Challenge,
    Mechanisms,
    Password,
    Proof,
    decode_response,
    split_auth,
)
from mailserver.wire.scram import make_verifier
from mailserver.wire.syntax import BadSyntax
from tests.support.scram import Client

VERIFIER = make_verifier(b"secret", b"0123456789abcdef", 4096)
MECHANISMS = Mechanisms(lambda name: VERIFIER, lambda: {"tls-exporter": b"x" * 32})
NAMES = st.sampled_from(MECHANISMS.names)
PIECES = st.sampled_from(
    [b"n,,", b"y,,", b"p=tls-exporter,,", b"n=a", b",", b"r=b", b"c=biws", b"p=YQ==", b"\0", b"="]
)
RESPONSES = st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=8).map(b"".join))


@given(NAMES, st.lists(RESPONSES, min_size=1, max_size=4))
def test_any_responses(name: str, responses: list[bytes]) -> None:
    exchange = MECHANISMS.begin(name)
    assert exchange is not None
    with suppress(BadSyntax):
        for response in responses:
            step = exchange.step(response)
            if not isinstance(step, Challenge):
                # Nobody gets in by a proof that was not made from the password.
                assert isinstance(step, Password) or not step.right
                return


@given(st.binary(max_size=100))
def test_any_line(line: bytes) -> None:
    with suppress(BadSyntax, Cancelled):
        assert base64.b64encode(decode_response(line)).rstrip(b"=") or line == b""
    with suppress(BadSyntax):
        name, initial = split_auth(line)
        assert name == name.upper()
        assert initial is None or isinstance(initial, bytes)


@settings(max_examples=25)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20),
    st.sampled_from(["secret", "Secret", "secret ", ""]),
)
def test_whoever_knows_the_password_gets_in_and_nobody_else(name: str, password: str) -> None:
    exchange = MECHANISMS.begin("SCRAM-SHA-256")
    assert exchange is not None
    client = Client(name, password)
    challenge = exchange.step(client.first)
    assert isinstance(challenge, Challenge)
    outcome = exchange.step(client.final(challenge.data))
    assert isinstance(outcome, Proof)
    assert outcome.name == name.encode()
    assert outcome.right == (password == "secret")
    assert client.trusts(outcome.final) == outcome.right


@given(st.one_of(st.binary(max_size=80), st.text('ab@.<>",() \\:;', max_size=60).map(str.encode)))
def test_any_from_field(field: bytes) -> None:
    with suppress(BadSyntax):
        authors = parse_authors(field)
        assert authors
        for author in authors:
            # It is an address that the field spells, and none that parsing made up.
            assert parse_authors(str(author).encode()) == (author,)

"""SASL, the client's side (RFC 4422): how we log in to a host that relays for us.

:func:`choose` takes the strongest mechanism of those offered: SCRAM-SHA-256 (RFC 5802, RFC 7677), which
never says the password and makes the host prove that it knows it too, then PLAIN (RFC 4616), then LOGIN. An
exchange gives an initial response, answers challenges, and says at the end whether the host has proven what
it must.

Failures: :class:`~mailserver.wire.syntax.BadSyntax` for a challenge that makes no sense, or that is unsafe
to answer.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection
from typing import Protocol

from mailserver.wire.saslprep import prepared
from mailserver.wire.syntax import BadSyntax

__all__ = ["ClientExchange", "choose"]

_LEAST, _MOST = 4096, 1_000_000
"""Iterations: with fewer, the password could be guessed (RFC 7677 §4); with more, we would hash for long."""

_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?", re.DOTALL)


class ClientExchange(Protocol):
    """One exchange.

    :ivar name: of the mechanism.
    """

    name: str

    @property
    def done(self) -> bool:
        """Whether the host may now say that we are in."""

    def initial(self) -> bytes | None:
        """What goes with AUTH; ``None``: nothing."""

    def answer(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises :class:`BadSyntax`."""


def choose(offered: Collection[str], name: bytes, password: bytes, nonce: str) -> ClientExchange | None:
    """The exchange for the best of the mechanisms offered, in upper case; ``None``: we know none of them.

    :param nonce: printable ASCII without a comma, never the same twice.
    """
    if "SCRAM-SHA-256" in offered:
        return _Scram(name, password, nonce.encode("ascii"))
    if "PLAIN" in offered:
        return _Plain(name, password)
    return _Login(name, password) if "LOGIN" in offered else None


class _Plain:
    name = "PLAIN"
    done = True

    def __init__(self, name: bytes, password: bytes) -> None:
        self._message = b"\0" + name + b"\0" + password

    def initial(self) -> bytes | None:
        return self._message

    def answer(self, challenge: bytes) -> bytes:
        raise BadSyntax("a challenge to PLAIN")


class _Login:
    """Name and password one after the other, whatever the prompts say."""

    name = "LOGIN"

    def __init__(self, name: bytes, password: bytes) -> None:
        self._answers = [name, password]

    @property
    def done(self) -> bool:
        return not self._answers

    def initial(self) -> bytes | None:
        return None

    def answer(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise BadSyntax("a third challenge to LOGIN")
        return self._answers.pop(0)


class _Scram:
    name = "SCRAM-SHA-256"

    def __init__(self, name: bytes, password: bytes, nonce: bytes) -> None:
        self.done = False
        escaped = prepared(name).replace(b"=", b"=3D").replace(b",", b"=2C")
        self._bare = b"n=" + escaped + b",r=" + nonce
        self._nonce = nonce
        self._password = prepared(password)
        self._signature = b""

    def initial(self) -> bytes | None:
        return b"n,," + self._bare

    def answer(self, challenge: bytes) -> bytes:
        return self._check(challenge) if self._signature else self._prove(challenge)

    def _prove(self, challenge: bytes) -> bytes:
        first = _FIRST.fullmatch(challenge)
        if first is None or not first[1].startswith(self._nonce) or first[1] == self._nonce:
            raise BadSyntax("not a SCRAM challenge to us")
        salt, iterations = _decode(first[2]), int(first[3])
        if not _LEAST <= iterations <= _MOST:
            raise BadSyntax("SCRAM iterations out of bounds")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = b"c=biws,r=" + first[1]
        signed = b",".join((self._bare, challenge, final))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return final + b",p=" + base64.b64encode(proof)

    def _check(self, challenge: bytes) -> bytes:
        if not challenge.startswith(b"v=") or not hmac.compare_digest(
            _decode(challenge[2:]), self._signature
        ):
            raise BadSyntax("the host does not know the password")
        self.done = True
        return b""


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadSyntax("not base64") from None

"""SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677), with and without channel binding.

The client proves that it knows the password without saying it, and the server that it knows the client's
:class:`Verifier`, from which the password can only be guessed. With ``-PLUS`` both prove, too, that they
talk over the same TLS connection: ``tls-exporter`` (RFC 9266), ``tls-server-end-point`` (RFC 5929 §4).

Promises: a proof is compared in constant time; a client that could bind the channel, and was made to believe
that the server could not, is refused (RFC 5802 §6); an extension that must be understood is refused. A name
that does not exist meets a :func:`decoy` and cannot be told from a wrong password.

Failures: :class:`~mailserver.wire.syntax.BadSyntax` for a message that is none; everything else is a
:class:`Proof` that is not right.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

from attrs import field, frozen

from mailserver.wire.saslprep import prepared
from mailserver.wire.syntax import BadSyntax

__all__ = [
    "ITERATIONS",
    "Bindings",
    "Challenge",
    "Proof",
    "Scram",
    "Verifier",
    "decoy",
    "make_verifier",
]

ITERATIONS = 600_000
"""Of a new verifier: it shall be no easier to guess the password from it than from the hash beside it."""

Bindings = Mapping[str, bytes]
"""Channel binding data by type."""

_LEAST, _MOST = 4096, 10_000_000  # RFC 7677 §4; above, no client has the patience
_SALT = 16

_FIRST = re.compile(
    rb"(?P<gs2>(?:n|y|p=(?P<type>[A-Za-z0-9.-]{1,40})),(?:a=(?P<whom>[^,\0]++))?,)(?P<bare>n=(?P<name>[^,\0]++),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]++)(?:,[A-Za-z]=[^,\0]++)*)"
)
_FINAL = re.compile(
    rb"(?P<bare>c=(?P<binding>[A-Za-z0-9+/=]++),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]++)(?:,[A-Za-z]=[^,\0]++)*?),p=(?P<proof>[A-Za-z0-9+/=]++)"
)
_ESCAPE = re.compile(rb"=(2C|3D)?")


@frozen
class Challenge:
    """What the server says and the client is to answer, not yet encoded."""

    data: bytes


@frozen
class Proof:
    """Whether the client has proven to be who it says.

    :ivar final: what the client is owed if it may in: the server's own proof.
    """

    name: bytes
    right: bool
    final: bytes = b""


@frozen
class Verifier:
    """What is kept to check proofs against (RFC 5802 §3)."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Read what :meth:`__str__` wrote. Raises ``ValueError`` without quoting it."""
        parts = text.split(",")
        if len(parts) != 4 or not re.fullmatch("[1-9][0-9]{3,7}", parts[0]):
            raise ValueError("scram is not a verifier: set it with mailctl user passwd")
        try:
            salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in parts[1:])
        except binascii.Error:
            raise ValueError("scram is not a verifier: set it with mailctl user passwd") from None
        iterations = int(parts[0])
        sound = _LEAST <= iterations <= _MOST and 8 <= len(salt) <= 64
        if not sound or len(stored_key) != 32 or len(server_key) != 32:
            raise ValueError("scram is not a verifier: set it with mailctl user passwd")
        return cls(iterations, salt, stored_key, server_key)

    def __str__(self) -> str:
        """The iterations, and salt, stored key and server key in base64, between commas."""
        keys = (
            base64.b64encode(part).decode("ascii") for part in (self.salt, self.stored_key, self.server_key)
        )
        return ",".join((str(self.iterations), *keys))


def make_verifier(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """The verifier of a password (RFC 5802 §3). Blocks while it hashes."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return Verifier(iterations, salt, stored_key, hmac.digest(salted, b"Server Key", "sha256"))


def decoy(key: bytes, name: bytes) -> Verifier:
    """A verifier that looks like a real one, always the same for one name, and that no proof fits."""

    def draw(what: bytes) -> bytes:
        return hmac.digest(key, what + b"\0" + name, "sha256")

    return Verifier(ITERATIONS, draw(b"salt")[:_SALT], draw(b"stored"), draw(b"server"))


class Scram:
    """One exchange.

    :param verifier: gives the verifier of a name, a decoy if there is no such name.
    :param nonce: the server's part of the nonce.
    :param bindings: of this connection; empty: it has none, and ``-PLUS`` was not offered.
    :param plus: whether the client chose ``-PLUS``.
    """

    def __init__(
        self,
        verifier: Callable[[bytes], Verifier],
        nonce: Callable[[], str],
        bindings: Bindings,
        plus: bool,
    ) -> None:
        self._find = verifier
        self._draw = nonce
        self._bindings = bindings
        self._plus = plus
        self._first: re.Match[bytes] | None = None

    def step(self, response: bytes | None) -> Challenge | Proof:
        """See :class:`mailserver.wire.sasl.Exchange`."""
        if response is None:
            return Challenge(b"")
        return self._begin(response) if self._first is None else self._finish(self._first, response)

    def _begin(self, message: bytes) -> Challenge | Proof:
        first = _FIRST.fullmatch(message)
        if first is None:
            raise BadSyntax("not a client-first-message")
        self._name = _unescape(first["name"])
        if first["whom"] is not None and _unescape(first["whom"]) != self._name:
            return Proof(self._name, False)
        channel = self._channel(first)
        if channel is None:
            return Proof(self._name, False)
        self._first = first
        self._channel_data = first["gs2"] + channel
        self._verifier = self._find(self._name)
        self._nonce = first["nonce"] + self._draw().encode("ascii")
        salt = base64.b64encode(self._verifier.salt)
        self._challenge = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        return Challenge(self._challenge)

    def _channel(self, first: re.Match[bytes]) -> bytes | None:
        """The channel binding data that the client must know, too; ``None`` if it asks in vain."""
        flag = first["gs2"][:1]
        if flag == b"p":
            return self._bindings.get(first["type"].decode("ascii")) if self._plus else None
        # "y": the client could bind the channel, but was not offered to. Was it not?
        return None if self._plus or (flag == b"y" and self._bindings) else b""

    def _finish(self, first: re.Match[bytes], message: bytes) -> Proof:
        final = _FINAL.fullmatch(message)
        if final is None:
            raise BadSyntax("not a client-final-message")
        proof, channel = _decode(final["proof"]), _decode(final["binding"])
        signed = b",".join((first["bare"], self._challenge, final["bare"]))
        verifier = self._verifier
        signature = hmac.digest(verifier.stored_key, signed, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        right = (
            hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
            & hmac.compare_digest(channel, self._channel_data)
            & hmac.compare_digest(final["nonce"], self._nonce)
        )
        server = base64.b64encode(hmac.digest(verifier.server_key, signed, "sha256"))
        return Proof(self._name, right, b"v=" + server if right else b"")


def _unescape(name: bytes) -> bytes:
    """A saslname without its escapes (RFC 5802 §5.1). Raises :class:`BadSyntax`."""

    def character(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise BadSyntax("a bare = in a name")
        return b"," if match[1] == b"2C" else b"="

    return _ESCAPE.sub(character, name)


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadSyntax("not base64") from None

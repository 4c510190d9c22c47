"""SASL, the server's side (RFC 4422): what SMTP's and POP3's AUTH have in common.

An :class:`Exchange` is fed the client's responses, decoded, and gives back what is to be done next:

- :class:`Challenge`: send it, and feed the answer;
- :class:`Password`: the exchange is over, and this is what came of it. Whether it is right is for others to
  find out;
- :class:`Proof`: the same where the client has proven that it knows the password. ``final`` is owed to a
  client that may in: as a challenge, the answer to which must be empty, for neither SMTP nor POP3 can send
  data with success (RFC 5802 §5, RFC 4954 §4).

PLAIN (RFC 4616), LOGIN (as devices speak it; no RFC has it), SCRAM-SHA-256 and SCRAM-SHA-256-PLUS
(:mod:`mailserver.wire.scram`).

Failures: :class:`~mailserver.wire.syntax.BadSyntax` for what is not of the mechanism's form,
:class:`Cancelled` where the client gives up. To act for somebody else, by an authorisation identity that is
not one's own name, is nobody's right here: it yields a ``Proof`` that is not right.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Callable
from typing import Protocol

from attrs import field, frozen

from mailserver.wire.scram import Bindings, Challenge, Proof, Scram, Verifier
from mailserver.wire.syntax import BadSyntax

__all__ = [
    "LONGEST_LINE",
    "Cancelled",
    "Challenge",
    "Exchange",
    "Mechanisms",
    "Password",
    "Proof",
    "Step",
    "decode_response",
    "encode_challenge",
    "split_auth",
]

LONGEST_LINE = 12288
"""Octets of the longest line that answers a challenge (RFC 4954 §4); the AUTH line is a command line."""

_MECHANISM = re.compile(rb"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1


class Cancelled(Exception):
    """The client gave up the exchange with ``*`` (RFC 4954 §4)."""


@frozen
class Password:
    """A name and a password, as they came."""

    name: bytes
    password: bytes = field(repr=False)


Step = Challenge | Password | Proof


class Exchange(Protocol):
    """One exchange. Over with the first step that is no :class:`Challenge`."""

    def step(self, response: bytes | None) -> Step:
        """Take a response; ``None``, and only at first: the client sent none with its AUTH.

        Raises :class:`BadSyntax`.
        """


def _draw_nonce() -> str:
    return secrets.token_urlsafe(24)


@frozen
class Mechanisms:
    """The mechanisms that a session has to offer now.

    :ivar verifier: what SCRAM checks a name's proof against, a decoy for names that do not exist; ``None``
        where SCRAM is not to be had.
    :ivar bindings: gives the channel bindings of this connection by type; ``None`` without TLS.
    :ivar nonce: printable ASCII without a comma, never the same twice.
    """

    verifier: Callable[[bytes], Verifier] | None = None
    bindings: Callable[[], Bindings] | None = None
    nonce: Callable[[], str] = _draw_nonce

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, the strongest first."""
        if self.verifier is None:
            return ("PLAIN", "LOGIN")
        scram = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if self._bound() else ("SCRAM-SHA-256",)
        return (*scram, "PLAIN", "LOGIN")

    def begin(self, name: str) -> Exchange | None:
        """A new exchange; ``None`` if there is no mechanism of that name."""
        if name not in self.names:
            return None
        if name == "PLAIN":
            return _Plain()
        if name == "LOGIN":
            return _Login()
        assert self.verifier is not None
        return Scram(self.verifier, self.nonce, self._bound(), name.endswith("-PLUS"))

    def _bound(self) -> Bindings:
        """The channel bindings, where every client that can bind a channel can bind this one.

        Before TLS 1.3 clients prefer ``tls-unique``, which is broken (RFC 7627): their right passwords would
        be refused. There they log in without.
        """
        found = self.bindings() if self.bindings is not None else {}
        return found if "tls-exporter" in found else {}


class _Plain:
    """RFC 4616: authorisation identity, name and password, between them one NUL each."""

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1]:
            raise BadSyntax("not a PLAIN message")
        for_whom, name, password = parts
        if for_whom not in (b"", name):
            return Proof(name, False)
        return Password(name, password)


class _Login:
    """Name and password one after the other; some send the name with AUTH.

    The prompts are spelled so, colon included, because there are devices that compare them.
    """

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            # Some send a NUL behind it, as the prompt of the draft has one.
            self._name = response.removesuffix(b"\0")
            if not self._name:
                raise BadSyntax("no name")
            return Challenge(b"Password:")
        return Password(self._name, response)


def split_auth(argument: bytes) -> tuple[str, bytes | None]:
    """The mechanism, in upper case, and the initial response, decoded, of an AUTH command (RFC 4954 §4).

    No initial response is ``None``; an empty one is spelled ``=``. Raises :class:`BadSyntax`.
    """
    name, _, initial = argument.strip(b" ").partition(b" ")
    if not _MECHANISM.fullmatch(name):
        raise BadSyntax("not the name of a mechanism")
    initial = initial.lstrip(b" ")
    if not initial:
        return name.decode("ascii").upper(), None
    return name.decode("ascii").upper(), b"" if initial == b"=" else _decode(initial)


def decode_response(line: bytes) -> bytes:
    """The response in a line that answers a challenge. Raises :class:`Cancelled` and :class:`BadSyntax`."""
    if line == b"*":
        raise Cancelled
    return _decode(line)


def encode_challenge(challenge: Challenge) -> bytes:
    """A challenge as it stands on the wire, behind ``334`` or ``+`` and a blank."""
    return base64.b64encode(challenge.data)


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadSyntax("not base64") from None

"""The envelope: who sent what to whom, and how it came here (RFC 5321 §2.3.1, RFC 3461 for DSN).

An envelope never changes once it is queued; what happens to it is recorded beside it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NewType

from attrs import field, frozen

from mailserver.model.address import Address

__all__ = ["Envelope", "Origin", "QueueID", "Recipient", "make_queue_id"]

QueueID = NewType("QueueID", str)
"""Names one queued message for as long as its story is told: letters and digits, sorted by time."""

# No vowels and no look-alikes: an ID is read over the telephone and must not spell a word.
_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZ"


def make_queue_id(now: float, entropy: int) -> QueueID:
    """Make the ID of a message that arrived at ``now`` (seconds since 1970).

    :param entropy: at least 40 random bits; two messages of one millisecond differ by them.
    :returns: 17 characters, of which the first 9 sort by time.
    """
    return QueueID(_spell_time(int(now * 1000)) + _spell_four_pairs(entropy))


_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]


@lru_cache(1)  # many come within a millisecond
def _spell_time(milliseconds: int) -> str:
    """The last nine digits of a number."""
    rest, last = divmod(milliseconds, len(_DIGITS))
    return _spell_four_pairs(rest) + _DIGITS[last]


def _spell_four_pairs(number: int) -> str:
    """The last eight digits of a number, two of them at a time."""
    base = len(_PAIRS)
    number, fourth = divmod(number, base)
    number, third = divmod(number, base)
    number, second = divmod(number, base)
    return _PAIRS[number % base] + _PAIRS[second] + _PAIRS[third] + _PAIRS[fourth]


@frozen
class Origin:
    """Where a message came from: the facts for Received, the journal and the reports.

    :ivar address: the client's IP address as text; empty for a message made by this server.
    :ivar port: the client's TCP port; 0 when there was none.
    :ivar helo: the name the client gave in EHLO or HELO.
    :ivar protocol: the "with" keyword of RFC 3848 and RFC 6531: ``SMTP``, ``ESMTP``, ``ESMTPS`` …
    :ivar tls: version and cipher, as ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty without TLS.
    :ivar login: the account that authenticated; empty without AUTH.
    """

    address: str = ""
    port: int = 0
    helo: str = ""
    protocol: str = "SMTP"
    tls: str = ""
    login: str = ""


@frozen(cache_hash=True)
class Recipient:
    """One recipient as it is to be delivered, after aliases.

    :ivar address: where the mail goes.
    :ivar original: the address the sender named, as ``type;xtext-decoded address`` (RFC 3461 §4.2);
        empty where that is ``address`` itself.
    :ivar notify: the NOTIFY words in upper case; ``None`` when the sender gave none (RFC 3461 §4.1).
    """

    address: Address
    original: str = ""
    notify: frozenset[str] | None = None


@frozen
class Envelope:
    """One message's envelope.

    :ivar arrived: when it was accepted, in seconds since 1970 (UTC).
    :ivar size: octets of the content in wire form (CRLF, not dot-stuffed).
    :ivar body: ``7BIT`` or ``8BITMIME`` (RFC 6152).
    :ivar smtputf8: the client asked for SMTPUTF8 (RFC 6531 §3.4).
    :ivar ret: ``FULL``, ``HDRS`` or empty (RFC 3461 §4.3).
    :ivar envid: the sender's own ID for the message, decoded; empty if none (RFC 3461 §4.4).
    :ivar requiretls: only over verified TLS, to hosts that promise the same (RFC 8689).
    """

    id: QueueID
    sender: Address
    recipients: tuple[Recipient, ...]
    origin: Origin
    arrived: float
    size: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    marks: Mapping[str, str] = field(factory=dict, eq=False)
    """What filters and rules wrote down about the message, by name; carried, never interpreted here."""

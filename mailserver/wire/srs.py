"""SRS, the Sender Rewriting Scheme: senders of forwarded mail, folded into an address of ours and back.

A host that checks SPF refuses mail that we forward under its first sender's name. So it goes out under ours::

    carol@far.example            ->  SRS0=hash=day=far.example=carol@example.lan
    SRS0=h=d=far.example=carol@a.example  ->  SRS1=hash=a.example==h=d=far.example=carol@example.lan
    SRS1=h=a.example==x@b.example         ->  SRS1=hash=a.example==x@example.lan

A report that comes to such an address is for the sender in it; SRS1 leads to the first host that forwarded.
The hash is a keyed one of all that follows it, so that nobody else can make an address which this server
would relay to; the day it was made bounds how long (:data:`LIFETIME`). Both are spelled in letters whose case
does not matter, since hosts on the way change it.

Pure functions. They are here, and not taken from ``srslib``, because they are few, and because that library
neither knows the limit of 64 octets (RFC 5321 §4.5.3.1.1) nor addresses that are quoted or not ASCII.

Known limit: a sender whose SRS address would be longer than that, or that is not ASCII, is not rewritten.
"""

import base64
import hashlib
import hmac
import re

from mailserver.model.address import Address
from mailserver.wire.addresses import parse_address
from mailserver.wire.syntax import BadSyntax

__all__ = ["LIFETIME", "fold", "unfold"]

LIFETIME = 21
"""Days for which an address can be turned back: longer than any server tries to deliver a report."""

_LONGEST_LOCAL = 64
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_CYCLE = len(_DIGITS) ** 2
_HASH_LENGTH = 6
_DAY = 86400

_FIRST = re.compile(r"SRS0[=+-](?P<hash>[^=]{4,44})=(?P<day>[^=]{2})=(?P<domain>[^=]+)=(?P<local>.+)", re.I)
_AGAIN = re.compile(r"SRS1[=+-](?P<hash>[^=]{4,44})=(?P<domain>[^=]+)=(?P<rest>[=+-].+)", re.I)
_FOLDED = re.compile(r"SRS0(?P<rest>[=+-].+)", re.I)


def fold(sender: Address, domain: str, key: bytes, now: float) -> Address | None:
    """The address in ``domain`` under which mail from ``sender`` is forwarded.

    :param key: a secret of this server.
    :param now: in seconds since 1970.
    :returns: ``None`` where there is none: see the known limit.
    """
    if sender.is_null or sender.is_literal or not sender.is_ascii:
        return None
    if again := _AGAIN.fullmatch(sender.local):
        local = _spell_again(again["domain"].lower(), again["rest"], key)
    elif folded := _FOLDED.fullmatch(sender.local):
        local = _spell_again(sender.domain, folded["rest"], key)
    else:
        day = _spell_day(int(now // _DAY))
        told = f"{day}={sender.domain}={sender.local}"
        local = f"SRS0={_hash(told, key)}={told}"
    address = Address(local, domain)
    # With the quotes that the local part may need.
    return address if len(str(address)) - len(domain) - 1 <= _LONGEST_LOCAL else None


def unfold(address: Address, key: bytes, now: float) -> Address | None:
    """The sender to whom a report to ``address`` is for, one step back; ``None``: not made by :func:`fold`.

    Also where it was made with another key, or too long ago.
    """
    local = address.local
    if len(local) > _LONGEST_LOCAL or not local.isascii():
        return None
    if first := _FIRST.fullmatch(local):
        day, domain, back = first["day"], first["domain"], first["local"]
        if _is_ours(first["hash"], f"{day}={domain}={back}", key) and _is_fresh(day, now):
            return _address(back, domain)
    elif again := _AGAIN.fullmatch(local):
        domain, rest = again["domain"], again["rest"]
        if _is_ours(again["hash"], f"{domain}={rest}", key):
            return _address(f"SRS0{rest}", domain)
    return None


def _spell_again(domain: str, rest: str, key: bytes) -> str:
    told = f"{domain}={rest}"
    return f"SRS1={_hash(told, key)}={told}"


def _hash(told: str, key: bytes) -> str:
    # In lower case, because the case of a local part does not outlast every host.
    digest = hmac.new(key, told.lower().encode("ascii"), hashlib.sha256).digest()
    return base64.b32encode(digest).decode("ascii")[:_HASH_LENGTH].lower()


def _is_ours(hash: str, told: str, key: bytes) -> bool:
    return hmac.compare_digest(hash.lower(), _hash(told, key))


def _spell_day(day: int) -> str:
    high, low = divmod(day % _CYCLE, len(_DIGITS))
    return _DIGITS[high] + _DIGITS[low]


def _is_fresh(day: str, now: float) -> bool:
    """Whether a day that we have spelled is not too long ago; a clock set back by a day does no harm."""
    high, low = (_DIGITS.index(digit) for digit in day.lower())
    age = (int(now // _DAY) - high * len(_DIGITS) - low) % _CYCLE
    return age <= LIFETIME or age == _CYCLE - 1


def _address(local: str, domain: str) -> Address | None:
    try:
        return parse_address(str(Address(local, domain.lower())))
    except BadSyntax:
        return None

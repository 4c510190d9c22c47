"""The address grammar: paths of MAIL and RCPT, and addresses in files (RFC 5321 §4.1.2, RFC 6531 §3.3).

One mailbox has one meaning: quotes are taken off, domains are lower case and in A-labels, literals in their
shortest form, source routes are dropped (RFC 5321 Appendix C). ``parse_address(str(address))`` gives the
same address again.

Where the RFCs leave room, or clients do:

- ``_`` is taken in domain labels: there are such hosts. A trailing dot is not: no RFC has it.
- ``<""@domain>``, an empty local part, is refused although the grammar has it: nobody is called nothing.
- ``%`` and ``!`` in a local part mean nothing; they are never read as routes.
- Non-ASCII local parts are taken as they are, but for the control characters and line separators among
  them.

Everything is linear in its input, and refused beyond the sizes of RFC 5321 §4.5.3.1 before any costly look
at it. Whatever is wrong raises :class:`BadSyntax`. The latest paths and domains are remembered, a thousand of
each: the same few come again and again, and are values.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import idna

from mailserver.model.address import NULL_SENDER, Address
from mailserver.wire.syntax import BadSyntax

__all__ = ["parse_address", "parse_domain", "parse_forward_path", "parse_reverse_path"]

_LONGEST_LOCAL = 64  # octets, RFC 5321 §4.5.3.1.1
_LONGEST_DOMAIN = 255  # §4.5.3.1.2
_LONGEST_PATH = 256  # with the angle brackets, §4.5.3.1.3

_REMEMBERED = 1000

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_ATOM = rf"[^{_CONTROL} ()<>\[\]:;@\\,.\"]++"
# Groups are not possessive: see tests/unit/test_patterns.py. What can follow each of them cannot begin as its
# rounds do, so that nothing is tried twice.
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED_STRING = re.compile(rf'"((?:[^{_CONTROL}"\\]++|\\[\x20-\x7e])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_ROUTE = re.compile(r"@([^@,:]++)((?:,@[^@,:]++)*):")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def parse_reverse_path(path: str) -> Address:
    """The sender of ``MAIL FROM:``, given with its angle brackets; ``<>`` is the null sender."""
    if path == "<>":
        return NULL_SENDER
    return _parse_path(path)


def parse_forward_path(path: str) -> Address:
    """The recipient of ``RCPT TO:``, given with its angle brackets.

    ``<Postmaster>`` without a domain is one, in any case (RFC 5321 §4.1.1.3).
    """
    if path.lower() == "<postmaster>":
        return Address(path[1:-1], "")
    return _parse_path(path)


def parse_address(text: str, bare: bool = False) -> Address:
    """An address as configuration files and alias targets spell it: ``alice@example.lan``.

    :param bare: ``postmaster`` without a domain is an address, too.
    """
    if bare and text.lower() == "postmaster":
        return Address(text, "")
    # The angle brackets that it would stand between count.
    if len(text) > _LONGEST_PATH - 2:
        raise BadSyntax("address too long")
    local, rest = _parse_local(text)
    address = Address(local, parse_domain(rest))
    if len(_octets(str(address))) > _LONGEST_PATH - 2:
        raise BadSyntax("address too long in A-labels")
    return address


@lru_cache(_REMEMBERED)
def parse_domain(text: str) -> str:
    """A domain or an address literal, in the one spelling that :class:`Address` has for it."""
    if text.startswith("["):
        return _parse_literal(text)
    if len(text) > _LONGEST_DOMAIN:
        raise BadSyntax("domain too long")
    domain = text.lower() if text.isascii() else _to_a_labels(text)
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise BadSyntax("not a domain name")
    return domain


@lru_cache(_REMEMBERED)
def _parse_path(path: str) -> Address:
    if len(_octets(path)) > _LONGEST_PATH:
        raise BadSyntax("path too long")
    if not (path.startswith("<") and path.endswith(">")) or len(path) < 3:
        raise BadSyntax("path without angle brackets")
    mailbox = path[1:-1]
    if mailbox.startswith("@"):
        route = _ROUTE.match(mailbox)
        if not route:
            raise BadSyntax("bad source route")
        for host in route.group()[1:-1].split(",@"):
            parse_domain(host)
        mailbox = mailbox[route.end() :]
    return parse_address(mailbox)


def _parse_local(text: str) -> tuple[str, str]:
    """The local part, unquoted, and what follows the ``@``."""
    pattern = _QUOTED_STRING if text.startswith('"') else _DOT_STRING
    match = pattern.match(text)
    if not match:
        raise BadSyntax("bad local part")
    if text[match.end() : match.end() + 1] != "@":
        raise BadSyntax("address without a domain, or a character that needs quotes")
    if len(_octets(match.group())) > _LONGEST_LOCAL:
        raise BadSyntax("local part too long")
    local = match.group()
    if pattern is _QUOTED_STRING:
        local = _QUOTED_PAIR.sub(r"\1", match.group(1))
        if not local:
            raise BadSyntax("empty local part")
    return local, text[match.end() + 1 :]


def _parse_literal(text: str) -> str:
    # RFC 5321 §4.1.3. Other tags than IPv6 are not registered.
    inner = text[1:-1]
    if not text.endswith("]") or not inner.isascii() or "%" in inner:
        raise BadSyntax("bad address literal")
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except ValueError:
        raise BadSyntax("bad address literal") from None


def _to_a_labels(text: str) -> str:
    try:
        # UTS 46 maps case, width and the other full stops, so that a name has one spelling. Refuses what
        # is too long in A-labels.
        return idna.encode(text, uts46=True).decode("ascii").lower()
    except UnicodeError:
        raise BadSyntax("not an internationalised domain name") from None


def _octets(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadSyntax("not a Unicode text") from None

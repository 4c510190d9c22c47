"""How the files under ``domains/`` name domains and mailboxes: one mailbox, one key.

The grammar is that of the wire (:mod:`mailserver.wire.addresses`); the usual ASCII name takes a short way
past it, because a file has tens of thousands of them.
"""

import re

from mailserver.model.address import Address
from mailserver.wire import addresses
from mailserver.wire.syntax import BadSyntax

__all__ = ["local_key", "parse_domain", "parse_local_key", "parse_mailbox"]

_USUAL = re.compile(r"[A-Za-z0-9_-]+(?:[.+][A-Za-z0-9_-]+)*")
_LONGEST_LOCAL = 64  # RFC 5321 §4.5.3.1.1


def parse_domain(text: str) -> str:
    """A domain's one spelling: lower case, A-labels.

    :raises ValueError: it is none; the text says so.
    """
    try:
        domain = addresses.parse_domain(text)
    except BadSyntax as error:
        raise ValueError(f'"{text}" is not a domain: {error}') from None
    if domain.startswith("["):
        raise ValueError(f'"{text}" is an address literal, not a domain')
    return domain


def parse_mailbox(text: str, domain: str = "") -> Address:
    """An address, or, where ``domain`` is given, the name alone of one in it.

    :raises ValueError: it is neither; the text says so.
    """
    if domain and len(text) <= _LONGEST_LOCAL and _USUAL.fullmatch(text):
        return Address(text, domain)
    named = f"{text}@{domain}" if domain and ("@" not in text or text.endswith('"')) else text
    try:
        return addresses.parse_address(named)
    except BadSyntax as error:
        raise ValueError(f'"{text}" is not an address: {error}') from None


def parse_local_key(text: str, domain: str) -> str:
    """The key, within its domain, of a mailbox that a file of that domain names.

    :raises ValueError: it is no name, or the name of one elsewhere; the text says so.
    """
    if len(text) <= _LONGEST_LOCAL and _USUAL.fullmatch(text):
        return text.lower()
    address = parse_mailbox(text, domain)
    if address.domain != domain:
        raise ValueError(f'"{text}" is not in this domain')
    return local_key(address)


def local_key(address: Address) -> str:
    """The part of an address's key before the ``@``: what tells the mailboxes of a domain apart."""
    if address.local.isascii():
        return address.local.lower()
    return address.key[: -len(address.domain) - 1]

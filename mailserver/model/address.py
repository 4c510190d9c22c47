"""Mail addresses and the null sender, as values (RFC 5321 §4.1.2, RFC 6531 §3.3).

An :class:`Address` holds what an address means, not how it was spelled: the local part without its
quotes, the domain in lower case and, where it is an internationalised name, as A-labels. Whether bytes
from the wire are an address at all is decided in :mod:`mailserver.wire.smtp`; values here are taken as
already checked.
"""

import re
import unicodedata
from functools import cached_property

from attrs import frozen

__all__ = ["NULL_SENDER", "Address"]

# RFC 5322 §3.2.3 dot-atom, with UTF-8 as RFC 6531 §3.3 adds it.
_DOT_ATOM = re.compile(r"[^\x00-\x20\x7f()<>\[\]:;@\\,.\"]+(?:\.[^\x00-\x20\x7f()<>\[\]:;@\\,.\"]+)*")


@frozen(order=True, cache_hash=True)
class Address:
    """One mailbox name. ``Address("", "")`` is the null reverse-path ``<>``.

    :ivar local: the local part, unquoted, in the sender's own case.
    :ivar domain: lower case, A-labels, no trailing dot; an address literal keeps its brackets
        (``[192.0.2.1]``). Empty for the null sender and for a bare ``postmaster`` (RFC 5321 §4.1.1.3).
    """

    local: str
    domain: str

    @property
    def is_null(self) -> bool:
        """Whether this is the null reverse-path (RFC 5321 §4.5.5)."""
        return not self.local and not self.domain

    @property
    def is_ascii(self) -> bool:
        """Whether a host without SMTPUTF8 can take it (RFC 6531 §3.4)."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address literal (RFC 5321 §4.1.3)."""
        return self.domain.startswith("[")

    @cached_property
    def key(self) -> str:
        """The spelling under which a hosted mailbox is looked up: one mailbox has one key.

        Case does not tell hosted mailboxes apart, nor does the Unicode normal form; look-alikes do.
        """
        local = self.local if self.local.isascii() else unicodedata.normalize("NFC", self.local)
        return f"{local.lower()}@{self.domain}"

    def __str__(self) -> str:
        """The address as it stands between angle brackets on the wire, quoted where it must be."""
        return self._spelled

    @cached_property
    def _spelled(self) -> str:
        if self.is_null:
            return ""
        local = self.local
        if not (local.isalnum() or _DOT_ATOM.fullmatch(local)):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


NULL_SENDER = Address("", "")

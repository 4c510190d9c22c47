"""Domains that are not hosted here and for which mail is taken from anybody all the same: it is handed on.

So a backup MX or a gateway does (RFC 5321 §3.6.1). Who exists there may be listed; ``postmaster`` always does
(RFC 5321 §4.5.1). Where nobody is listed anybody is taken, and whom the next host refuses gets no mail, but
its sender a report: so one becomes a source of backscatter.

What an address says about a way through that domain is not handed on where it is not listed just so, not even
behind the separator of a listed name: the next host may trust us more than the client
(``user%elsewhere.example@relayed.example``; RFC 5321 appendix C).
"""

from collections.abc import Mapping

from attrs import field, frozen

from mailserver.interfaces import Relayed
from mailserver.model.address import Address
from mailserver.model.source import Source

__all__ = ["RelayDomain", "RelayDomains", "names_a_way"]

_POSTMASTER = "postmaster"
_SEPARATOR = "+"
_ROUTING = frozenset("%!@")


def names_a_way(address: Address) -> bool:
    """Whether a host that is trusted too much might take the local part for a way to somewhere else."""
    return not _ROUTING.isdisjoint(address.local)


@frozen
class RelayDomain:
    """One of them.

    :ivar recipients: keys of addresses; ``None``: anybody.
    :ivar source: the route that says so.
    """

    source: Source
    recipients: frozenset[str] | None = None

    def knows(self, address: Address) -> bool:
        """Whether mail for this address is taken."""
        if address.local.lower() == _POSTMASTER:
            return True
        if self.recipients is not None and address.key in self.recipients:
            return True
        if names_a_way(address):
            return False
        if self.recipients is None:
            return True
        base, _, domain = address.key.rpartition("@")
        return f"{base.partition(_SEPARATOR)[0]}@{domain}" in self.recipients


@frozen
class RelayDomains:
    """All of them, by name."""

    domains: Mapping[str, RelayDomain] = field(factory=dict)

    def find(self, address: Address) -> Relayed | None:
        """What an address means that is not hosted here; ``None``: nothing."""
        domain = self.domains.get(address.domain)
        return None if domain is None else Relayed(domain.source, domain.knows(address))

"""What TLS has to be on the way to a mail host: what is configured, raised by what the domain publishes.

======================================================  =================================================
what is known                                           what is demanded, where ``may`` or ``encrypt`` is
                                                        configured
======================================================  =================================================
TLSA records that can be used (RFC 7672)                a certificate that fits them
TLSA records, none of which can be used                 encryption, with whomever
nobody knows whether there are TLSA records             the host is passed over; the mail waits
… none, or not vouched for by DNSSEC                    as MTA-STS says, else as configured
a policy of MTA-STS in force, with the host in it       a trusted certificate for the host's name
… without the host in it                                the host is passed over; the mail waits
a policy that is only tried (``testing``)               as configured; what would have failed is noted
======================================================  =================================================

What DNSSEC vouches for goes before MTA-STS (RFC 8461 §2), and nothing published lowers what is configured:
``verify`` and ``none`` are the administrator's last word. Under ``dane`` a host without usable TLSA records
is passed over.

A message with REQUIRETLS (RFC 8689 §4.2.1) goes to proven hosts only, whatever is configured: by TLSA records
or by a trusted certificate, and then for a name that is beyond doubt: by DNSSEC, by the domain's policy of
MTA-STS, or because it is the recipient's domain or in our configuration.
"""

from typing import Protocol

from mailserver.interfaces import IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import Demand, Exchanger, Security
from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.model.tlsa import DANE_TA, Anchors, usable
from mailserver.wire.mta_sts import Mode, Policy

__all__ = ["Assurance", "Policies", "decide"]

_RAISED = (Security.MAY, Security.ENCRYPT)


class Policies(Protocol):
    """Knows the policies of domains."""

    async def policy(self, domain: str) -> Policy | None:
        """The policy of MTA-STS that a domain has now; ``None``: none. Never raises."""


class Assurance:
    """Finds out what is known, and decides.

    :param dane: whether TLSA records are asked for also where ``dane`` is not what is configured.
    :param policies: of MTA-STS; ``None``: they are not asked for.
    :param are_ours: the hosts are the administrator's word, whatever the domain.
    """

    def __init__(
        self,
        resolver: IResolver,
        dane: bool = True,
        policies: Policies | None = None,
        are_ours: bool = False,
    ) -> None:
        self._resolver = resolver
        self._dane = dane
        self._policies = policies
        self._are_ours = are_ours

    async def demand(self, domain: str, exchanger: Exchanger, requiretls: bool) -> Demand | Delayed | Failed:
        """What TLS has to be on the way to this host with mail for ``domain``; or why there is no way.

        Never raises.
        """
        if exchanger.is_socket:
            return Demand(Security.NONE)
        wanted = exchanger.security
        is_open = wanted in _RAISED or requiretls
        anchors: Anchors | None = None
        if exchanger.bases and (wanted is Security.DANE or (is_open and self._dane)):
            next_hop = exchanger.host if self._are_ours else domain
            try:
                anchors = await self._anchors(exchanger, next_hop)
            except Unanswered as trouble:
                text = f"DNS does not answer whether there are TLSA records: {trouble}"
                return Delayed(Scope.HOST, text, "4.4.3", exchanger.host)
        policy = None
        if self._policies is not None and is_open and not (anchors and anchors.records):
            policy = await self._policies.policy(domain)
        return decide(exchanger, anchors, policy, requiretls)

    async def _anchors(self, exchanger: Exchanger, next_hop: str) -> Anchors | None:
        """The TLSA records that count (RFC 7672 §2.2.3), if there are any. Raises :class:`Unanswered`."""
        for base in exchanger.bases:
            try:
                records = await self._resolver.tlsa(f"_{exchanger.port}._tcp.{base}")
            except (NoSuchName, NoSuchData):
                continue
            if records.secure:
                found = usable(records)
                # Names that do not count would keep the connection from the mail of other domains.
                is_named = any(record.usage == DANE_TA for record in found)
                names = tuple(dict.fromkeys((base, next_hop))) if is_named else ()
                return Anchors(found, base, names)
        return None


def decide(
    exchanger: Exchanger, anchors: Anchors | None, policy: Policy | None, requiretls: bool = False
) -> Demand | Delayed | Failed:
    """The table, without a network.

    :param anchors: the TLSA records that were found; without any where none can be used.
    """
    wanted, host = exchanger.security, exchanger.host
    if anchors is not None and anchors.records and wanted is not Security.VERIFY:
        return Demand(Security.DANE, "" if wanted is Security.DANE else "DANE", anchors)
    if wanted is Security.DANE:
        return Delayed(Scope.HOST, f"{host} has no TLSA records that can be used", "4.7.5", host)
    named = policy is not None and policy.mode is not Mode.NONE and policy.names(host)
    if requiretls:
        if exchanger.is_vouched or named:
            return Demand(Security.VERIFY, "REQUIRETLS")
        text = "the message needs REQUIRETLS, and nothing vouches that this is a mail host of the domain"
        return Failed(Scope.HOST, text, "5.7.10", host)
    if wanted not in _RAISED:
        return Demand(wanted)
    unusable = Demand(Security.ENCRYPT, "DANE without a usable record") if anchors else Demand(wanted)
    if policy is None or policy.mode is Mode.NONE:
        return unusable
    if policy.mode is Mode.ENFORCE:
        if named:
            return Demand(Security.VERIFY, "MTA-STS")
        return Delayed(Scope.HOST, f"{host} is not in the domain's policy (MTA-STS)", "4.7.5", host)
    reason = "MTA-STS testing" if named else "MTA-STS testing: the host is not in the policy"
    return Demand(unusable.security, reason, is_trial=True)

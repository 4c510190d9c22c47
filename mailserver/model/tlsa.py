"""TLSA records, as DNS gives them, and those that mail hosts are authenticated by (RFC 6698, RFC 7672).

The numbers are the RFC's: the usages DANE-TA (2) and DANE-EE (3), the whole certificate (selector 0) or its
public key (1), as it is (matching 0) or as SHA-256 (1) or SHA-512 (2). The PKIX usages 0 and 1 say nothing
to mail (RFC 7672 §3.1.3).
"""

from collections.abc import Iterable

from attrs import field, frozen

__all__ = ["DANE_EE", "DANE_TA", "TLSA", "Anchors", "usable"]

DANE_TA, DANE_EE = 2, 3

_DIGESTS = {1: 32, 2: 64}
"""The octets of a digest, by matching type; the greater number is the stronger."""


@frozen
class TLSA:
    """One record."""

    usage: int
    selector: int
    matching: int
    data: bytes = field(repr=False)


@frozen
class Anchors:
    """What a host's certificate is held against instead of the roots that this machine trusts.

    :ivar base: the domain below which the records stand: the name that is asked for (SNI).
    :ivar names: those of which the certificate has to carry one, where the usage is DANE-TA.
    """

    records: tuple[TLSA, ...]
    base: str
    names: tuple[str, ...]


def usable(records: Iterable[TLSA]) -> tuple[TLSA, ...]:
    """Those that a mail host can be authenticated by; of several digests, the strongest (RFC 7671 §9)."""
    sound = [record for record in records if _is_sound(record)]
    strongest: dict[tuple[int, int], int] = {}
    for record in sound:
        kind = record.usage, record.selector
        strongest[kind] = max(record.matching, strongest.get(kind, 0))
    return tuple(
        record for record in sound if record.matching in (0, strongest[record.usage, record.selector])
    )


def _is_sound(record: TLSA) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (0, 1):
        return False
    if record.matching == 0:
        return bool(record.data)
    return len(record.data) == _DIGESTS.get(record.matching)

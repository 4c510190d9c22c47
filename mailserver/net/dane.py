"""Whether a mail host is the one DNS says it is: certificates held against TLSA (RFC 7671, RFC 7672).

One function of what the host has shown, :func:`flaw`; it is asked after the handshake, in which nothing was
verified. Any one record that fits is enough.

- DANE-EE(3): the host's own certificate, or its key, is in DNS. Nothing else about it counts: no name, no
  dates, no issuer (RFC 7672 §3.1.1).
- DANE-TA(2): a certificate that the host sends behind its own is in DNS, or its key is, or all of it stands
  in DNS and needs not be sent. The host's certificate has to be issued by it, be within its dates as all
  between the two, and carry one of the names (RFC 7672 §3.2.2).

Known limit: a trust anchor's bare key (2 1 0) is of use only where the certificate it belongs to is sent,
too.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname

from mailserver.model.tlsa import DANE_EE, DANE_TA, TLSA, Anchors

__all__ = ["flaw", "matches"]

_HASHES = {1: sha256, 2: sha512}


def flaw(anchors: Anchors, chain: Sequence[x509.Certificate]) -> str:
    """What is wrong with a host that has shown this chain, its own certificate first; empty: nothing is."""
    if not chain:
        return "the host has shown no certificate"
    if any(record.usage == DANE_EE and matches(record, chain[0]) for record in anchors.records):
        return ""
    found = list(_trust_anchors(anchors.records, chain))
    if not found:
        return "no TLSA record fits the certificate"
    if not any(_is_for(chain[0], name) for name in anchors.names):
        return f"the certificate is not for {' nor for '.join(anchors.names)}"
    troubles = [_path_trouble(anchor, chain) for anchor in found]
    return "" if "" in troubles else f"not issued by what the TLSA record names: {troubles[0]}"


def matches(record: TLSA, certificate: x509.Certificate) -> bool:
    """Whether a record is about this certificate (RFC 6698 §2.1)."""
    if record.selector:
        spelled = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        spelled = certificate.public_bytes(Encoding.DER)
    return record.data == (_HASHES[record.matching](spelled).digest() if record.matching else spelled)


def _trust_anchors(records: Sequence[TLSA], chain: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """The certificates that the records of usage DANE-TA name."""
    for record in records:
        if record.usage != DANE_TA:
            continue
        yield from (certificate for certificate in chain[1:] if matches(record, certificate))
        if (record.selector, record.matching) == (0, 0):
            try:
                yield x509.load_der_x509_certificate(record.data)
            except ValueError:
                continue


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    try:
        verify_certificate_hostname(certificate, name)
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def _path_trouble(anchor: x509.Certificate, chain: Sequence[x509.Certificate]) -> str:
    """What OpenSSL finds wrong on the way from the host's certificate to this one."""
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    own, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        store.add_cert(crypto.X509.from_cryptography(anchor))
        crypto.X509StoreContext(store, own, others).verify_certificate()
    except (crypto.X509StoreContextError, crypto.Error) as error:
        return str(error) or "a certificate that cannot be read"
    return ""

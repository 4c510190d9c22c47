"""Certificates held against TLSA records: every usage, selector and matching, and what fits none."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha512

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailserver.model.tlsa import TLSA, Anchors
from mailserver.net.dane import flaw

MX, DOMAIN = "mx.example.org", "example.org"
PAST = datetime.now(UTC) - timedelta(days=2)


def read(*blobs: trustme.Blob) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(blob.bytes()) for blob in blobs]


class World:
    """A root, one below it, and hosts of theirs."""

    def __init__(self) -> None:
        self.root = trustme.CA()
        self.below = self.root.create_child_ca()
        self.other = trustme.CA()
        (self.root_certificate,) = read(self.root.cert_pem)
        (self.below_certificate,) = read(self.below.cert_pem)
        (self.other_certificate,) = read(self.other.cert_pem)

    def chain(self, *names: str, ca: trustme.CA | None = None, **more: object) -> list[x509.Certificate]:
        """The host's own certificate, then what it sends behind it: all up to the root."""
        leaf = (ca or self.below).issue_cert(*names, **more)  # type: ignore[arg-type]
        return [*read(leaf.cert_chain_pems[0]), self.below_certificate, self.root_certificate]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def record(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> TLSA:
    data = certificate.public_bytes(Encoding.DER)
    if selector:
        data = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    data = {0: data, 1: sha256(data).digest(), 2: sha512(data).digest()}[matching]
    return TLSA(usage, selector, matching, data)


def anchors(*records: TLSA, names: tuple[str, ...] = (MX, DOMAIN)) -> Anchors:
    return Anchors(records, MX, names)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
class TestEveryKindOfRecord:
    def test_the_host_itself(self, world: World, selector: int, matching: int) -> None:
        chain = world.chain(MX)
        assert flaw(anchors(record(3, selector, matching, chain[0])), chain) == ""
        assert flaw(anchors(record(3, selector, matching, world.chain(MX)[0])), chain)

    def test_a_trust_anchor(self, world: World, selector: int, matching: int) -> None:
        chain = world.chain(MX)
        for anchor in chain[1:]:
            assert flaw(anchors(record(2, selector, matching, anchor)), chain) == ""
        assert flaw(anchors(record(2, selector, matching, world.other_certificate)), chain)


class TestTheHostItself:
    def test_neither_name_nor_dates_nor_issuer_count(self, world: World) -> None:
        for chain in (
            world.chain("elsewhere.example"),
            world.chain(MX, not_before=PAST - timedelta(days=2), not_after=PAST),
            world.chain(MX, ca=world.other)[:1],
        ):
            assert flaw(anchors(record(3, 1, 1, chain[0])), chain) == ""

    def test_what_it_sends_behind_does_not_count(self, world: World) -> None:
        chain = world.chain(MX)
        assert flaw(anchors(record(3, 1, 1, chain[1])), chain) == "no TLSA record fits the certificate"

    def test_no_certificate(self, world: World) -> None:
        assert flaw(anchors(record(3, 1, 1, world.chain(MX)[0])), []) == "the host has shown no certificate"


class TestTrustAnchors:
    def test_the_names(self, world: World) -> None:
        for carried, names, fits in [
            ([MX], (MX, DOMAIN), True),
            ([DOMAIN], (MX, DOMAIN), True),
            (["*.example.org"], (MX,), True),
            (["elsewhere.example"], (MX, DOMAIN), False),
            (["192.0.2.1"], (MX, DOMAIN), False),
        ]:
            chain = world.chain(*carried)
            found = flaw(anchors(record(2, 1, 1, chain[1]), names=names), chain)
            assert found == ("" if fits else f"the certificate is not for {' nor for '.join(names)}")

    def test_expired(self, world: World) -> None:
        chain = world.chain(MX, not_before=PAST - timedelta(days=2), not_after=PAST)
        assert "expired" in flaw(anchors(record(2, 1, 1, chain[1])), chain)

    def test_a_certificate_that_only_lies_beside(self, world: World) -> None:
        """Anybody can send the right trust anchor along with a certificate that it has not issued."""
        forged = [world.chain(MX, ca=world.other)[0], world.below_certificate]
        assert flaw(anchors(record(2, 1, 1, world.below_certificate)), forged).startswith("not issued by")

    def test_the_hosts_own_certificate_is_no_trust_anchor(self, world: World) -> None:
        chain = world.chain(MX)
        assert flaw(anchors(record(2, 1, 1, chain[0])), chain) == "no TLSA record fits the certificate"

    def test_one_that_stands_in_dns_needs_not_be_sent(self, world: World) -> None:
        chain = world.chain(MX)
        assert flaw(anchors(record(2, 0, 0, world.below_certificate)), chain[:1]) == ""
        assert flaw(anchors(record(2, 0, 0, world.root_certificate)), chain[:2]) == ""
        assert flaw(anchors(TLSA(2, 0, 0, b"nonsense")), chain) == "no TLSA record fits the certificate"


def test_one_record_that_fits_is_enough(world: World) -> None:
    chain = world.chain("elsewhere.example")
    wrong = [record(3, 1, 1, world.other_certificate), record(2, 1, 1, chain[1]), TLSA(2, 0, 0, b"x")]
    assert flaw(anchors(*wrong), chain)
    assert flaw(anchors(*wrong, record(3, 1, 1, chain[0])), chain) == ""

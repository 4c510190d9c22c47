"""Contexts of this server and connections to mail hosts."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from mailserver.net.tls import BadCertificate, Certificates, ClientTLS, Trust, ensure_self_signed, tls_facts

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def shake(server: SSL.Context, client: SSL.Connection) -> tuple[SSL.Connection, SSL.Connection]:
    """Play a handshake in memory; raises what either side raises."""
    accepting = SSL.Connection(server, None)
    accepting.set_accept_state()
    client.set_connect_state()
    done = [False, False]
    for _ in range(20):
        for number, (ours, theirs) in enumerate([(client, accepting), (accepting, client)]):
            try:
                ours.do_handshake()
                done[number] = True
            except SSL.WantReadError:
                pass
            finally:
                try:
                    while True:
                        theirs.bio_write(ours.bio_read(65536))
                except SSL.WantReadError:
                    pass
        if all(done):
            return client, accepting
    raise AssertionError("no end of the handshake")


def loaded(certificate: Path, key: Path) -> Certificates:
    certificates = Certificates()
    certificates.load(certificate, key)
    return certificates


def issued(ca: trustme.CA, directory: Path, *names: str, **more: object) -> tuple[Path, Path]:
    leaf = ca.issue_cert(*names, **more)  # type: ignore[arg-type]
    directory.mkdir(parents=True, exist_ok=True)
    chain, key = directory / "fullchain.pem", directory / "privkey.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return chain, key


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def roots(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "roots.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


class TestSelfSigned:
    def test_made_once(self, tmp_path: Path) -> None:
        certificate, key = ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW)
        before = certificate.read_bytes()
        assert ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW) == (certificate, key)
        assert certificate.read_bytes() == before

    def test_names_the_host_and_lasts(self, tmp_path: Path) -> None:
        certificate, _ = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        made = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName("mail.example.lan")]
        assert made.not_valid_after_utc > NOW + timedelta(days=3000)
        assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)

    def test_key_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            _, key = ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW)
        finally:
            os.umask(old)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700

    def test_nothing_else_is_left_behind(self, tmp_path: Path) -> None:
        certificate, _ = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        assert list(tmp_path.iterdir()) == [certificate]

    @pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", None])
    def test_a_damaged_file_is_replaced(self, tmp_path: Path, damage: bytes | None) -> None:
        certificate, key = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        whole = certificate.read_bytes()
        certificate.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
        ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        loaded(certificate, key)

    def test_another_name_or_its_end_replaces_it(self, tmp_path: Path) -> None:
        certificate, _ = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        first = certificate.read_bytes()
        ensure_self_signed(tmp_path, "other.example.lan", NOW)
        second = certificate.read_bytes()
        ensure_self_signed(tmp_path, "other.example.lan", NOW + timedelta(days=3640))
        assert len({first, second, certificate.read_bytes()}) == 3

    def test_a_name_longer_than_a_common_name(self, tmp_path: Path) -> None:
        name = f"{'a' * 60}.{'b' * 60}.example"
        certificate, key = ensure_self_signed(tmp_path, name, NOW)
        loaded(certificate, key)


class TestCertificates:
    def test_serves_the_chain(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        contexts = loaded(*issued(ca.create_child_ca(), tmp_path, "mail.example.lan"))
        creator = ClientTLS(Trust.PKIX, roots).creator("mail.example.lan")
        client, _ = shake(contexts.current().getContext(), creator.clientConnectionForTLS(None))
        assert tls_facts(client).startswith("TLSv1.3 TLS_")

    def test_old_versions_are_refused(self, ca: trustme.CA, tmp_path: Path) -> None:
        contexts = loaded(*issued(ca, tmp_path, "mail.example.lan"))
        old = SSL.Context(SSL.TLS_METHOD)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        with pytest.raises(SSL.Error):
            shake(contexts.current().getContext(), SSL.Connection(old, None))

    def test_without_forward_secrecy_is_refused(self, ca: trustme.CA, tmp_path: Path) -> None:
        contexts = loaded(*issued(ca, tmp_path, "mail.example.lan"))
        client = SSL.Context(SSL.TLS_METHOD)
        client.set_max_proto_version(SSL.TLS1_2_VERSION)
        client.set_cipher_list(b"RSA+AESGCM:RSA+AES:ECDHE+AES+SHA1:@SECLEVEL=0")
        with pytest.raises(SSL.Error):
            shake(contexts.current().getContext(), SSL.Connection(client, None))

    def test_reload_takes_the_renewed_one(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        contexts = loaded(*issued(ca, tmp_path, "old.example.lan"))
        before = contexts.current()
        before.getContext()
        contexts.load(*issued(ca, tmp_path, "new.example.lan"))
        assert contexts.current() is not before
        creator = ClientTLS(Trust.PKIX, roots).creator("new.example.lan")
        shake(contexts.current().getContext(), creator.clientConnectionForTLS(None))

    def test_for_implicit_tls(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        certificates = Certificates()
        assert verifyObject(IOpenSSLServerConnectionCreator, certificates)
        assert certificates.current() is None
        with pytest.raises(RuntimeError):
            certificates.serverConnectionForTLS(None)
        certificates.load(*issued(ca, tmp_path, "mail.example.lan"))
        accepting = certificates.serverConnectionForTLS(None)
        creator = ClientTLS(Trust.PKIX, roots).creator("mail.example.lan")
        shake(accepting.get_context(), creator.clientConnectionForTLS(None))

    def test_reload_of_bad_files_changes_nothing(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, key = issued(ca, tmp_path, "mail.example.lan")
        contexts = loaded(chain, key)
        before = contexts.current()
        chain.write_bytes(b"half written")
        with pytest.raises(BadCertificate, match=r"fullchain\.pem: no PEM certificate"):
            contexts.load(chain, key)
        assert contexts.current() is before

    def test_missing_file_is_named(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, _ = issued(ca, tmp_path, "mail.example.lan")
        with pytest.raises(BadCertificate, match=r"gone\.pem: No such file") as caught:
            loaded(chain, tmp_path / "gone.pem")
        assert caught.value.file == tmp_path / "gone.pem"

    def test_foreign_key_is_named(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, _ = issued(ca, tmp_path / "a", "mail.example.lan")
        _, key = issued(ca, tmp_path / "b", "mail.example.lan")
        with pytest.raises(BadCertificate, match="not the key of"):
            loaded(chain, key)

    def test_key_that_is_none(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, key = issued(ca, tmp_path, "mail.example.lan")
        with pytest.raises(BadCertificate, match="no PEM private key"):
            loaded(chain, chain)
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(BadCertificate, match="passphrase"):
            loaded(chain, key)


class TestClient:
    def serve(self, ca: trustme.CA, directory: Path, *names: str, **more: object) -> SSL.Context:
        return loaded(*issued(ca, directory, *names, **more)).current().getContext()

    def test_interface(self) -> None:
        assert verifyObject(IOpenSSLClientConnectionCreator, ClientTLS().creator("mx.example.org"))

    def test_name_is_always_sent(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        server = self.serve(ca, tmp_path, "mx.example.org")
        for tls in (ClientTLS(), ClientTLS(Trust.PKIX, roots)):
            _, accepting = shake(server, tls.creator("mx.example.org").clientConnectionForTLS(None))
            assert accepting.get_servername() == b"mx.example.org"

    def test_address_is_not_sent_as_name(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        server = self.serve(ca, tmp_path, "192.0.2.1")
        for tls in (ClientTLS(), ClientTLS(Trust.PKIX, roots)):
            _, accepting = shake(server, tls.creator("192.0.2.1").clientConnectionForTLS(None))
            assert accepting.get_servername() is None

    def test_any_takes_any(self, tmp_path: Path) -> None:
        server = self.serve(trustme.CA(), tmp_path, "wrong.example.org")
        shake(server, ClientTLS().creator("mx.example.org").clientConnectionForTLS(None))

    def test_any_takes_an_expired_one(self, ca: trustme.CA, tmp_path: Path) -> None:
        server = self.serve(ca, tmp_path, "mx.example.org", not_after=datetime(2020, 1, 1, tzinfo=UTC))
        shake(server, ClientTLS().creator("mx.example.org").clientConnectionForTLS(None))

    @pytest.mark.parametrize("name", ["wrong.example.org", "example.org", "mx.example.org.evil.example"])
    def test_pkix_wants_the_name(self, ca: trustme.CA, tmp_path: Path, roots: Path, name: str) -> None:
        server = self.serve(ca, tmp_path, name)
        with pytest.raises(SSL.Error):
            shake(server, ClientTLS(Trust.PKIX, roots).creator("mx.example.org").clientConnectionForTLS(None))

    def test_pkix_wants_a_trusted_issuer(self, tmp_path: Path, roots: Path) -> None:
        server = self.serve(trustme.CA(), tmp_path, "mx.example.org")
        with pytest.raises(SSL.Error):
            shake(server, ClientTLS(Trust.PKIX, roots).creator("mx.example.org").clientConnectionForTLS(None))

    def test_pkix_wants_a_valid_one(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        server = self.serve(ca, tmp_path, "mx.example.org", not_after=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(SSL.Error):
            shake(server, ClientTLS(Trust.PKIX, roots).creator("mx.example.org").clientConnectionForTLS(None))

    def test_name_that_no_certificate_can_have(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        server = self.serve(ca, tmp_path, "mx.example.org")
        with pytest.raises(SSL.Error):
            shake(server, ClientTLS(Trust.PKIX, roots).creator("mx_1..x").clientConnectionForTLS(None))

    def test_roots_of_the_system(self, ca: trustme.CA, tmp_path: Path) -> None:
        server = self.serve(ca, tmp_path, "mx.example.org")
        with pytest.raises(SSL.Error):
            shake(server, ClientTLS(Trust.PKIX).creator("mx.example.org").clientConnectionForTLS(None))

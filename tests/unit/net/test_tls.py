"""Handshakes of this server, and those with mail hosts."""

import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from attrs import evolve
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from mailserver.model.tlsa import TLSA, Anchors
from mailserver.net.session import Peer
from mailserver.net.tls import Certificates, ClientTLS, Trust, Version, tls_facts
from tests.support.certificates import credentials, loaded, shake, shown


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def roots(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "roots.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


class Wrapping:
    """What Twisted hands over: TLS around a session that knows its client."""

    def __init__(self, address: str) -> None:
        self.wrappedProtocol = self
        self.peer = Peer(address)


def client_of(version: int, ciphers: bytes = b"ALL:@SECLEVEL=0") -> SSL.Connection:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(ciphers)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    return SSL.Connection(context, None)


class TestCertificates:
    def test_interface(self) -> None:
        certificates = Certificates()
        assert verifyObject(IOpenSSLServerConnectionCreator, certificates)
        assert certificates.current() is None
        with pytest.raises(RuntimeError):
            certificates.serverConnectionForTLS(None)

    def test_serves_the_chain(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        certificates = loaded(credentials(ca.create_child_ca(), tmp_path, "mail.example.lan"))
        assert certificates.current() is certificates
        creator = ClientTLS(Trust.PKIX, roots).creator("mail.example.lan")
        connection = certificates.serverConnectionForTLS(None)
        client, _ = shake(connection, creator.clientConnectionForTLS(None))
        assert tls_facts(client).startswith("TLSv1.3 TLS_")

    @pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
    def test_old_versions_are_refused(self, ca: trustme.CA, tmp_path: Path, version: int) -> None:
        certificates = loaded(credentials(ca, tmp_path, "mail.example.lan"))
        with pytest.raises(SSL.Error):
            shake(certificates.serverConnectionForTLS(None), client_of(version))

    def test_without_forward_secrecy_is_refused(self, ca: trustme.CA, tmp_path: Path) -> None:
        certificates = loaded(credentials(ca, tmp_path, "mail.example.lan"))
        client = client_of(SSL.TLS1_2_VERSION, b"RSA+AESGCM:RSA+AES:ECDHE+AES+SHA1:@SECLEVEL=0")
        with pytest.raises(SSL.Error):
            shake(certificates.serverConnectionForTLS(None), client)

    def test_reload_takes_the_renewed_one(self, ca: trustme.CA, tmp_path: Path) -> None:
        certificates = loaded(credentials(ca, tmp_path, "old.example.lan"))
        assert shown(certificates, None) == "old.example.lan"
        certificates.load(credentials(ca, tmp_path, "new.example.lan"))
        assert shown(certificates, None) == "new.example.lan"


class TestNames:
    """The certificate is the one for the name that the client asks for."""

    @pytest.fixture
    def certificates(self, ca: trustme.CA, tmp_path: Path) -> Certificates:
        def named(name: str, *carried: str) -> object:
            return evolve(credentials(ca, tmp_path / name, *carried), name=name)

        return loaded(
            credentials(ca, tmp_path, "default.example.lan"),
            named("a.example.org", "a.example.org", "b.example.org"),  # type: ignore[arg-type]
            named("c.example.org", "c.example.org", "a.example.org"),  # type: ignore[arg-type]
            named("wild", "*.wild.example"),  # type: ignore[arg-type]
        )

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            (None, "default.example.lan"),
            ("elsewhere.example", "default.example.lan"),
            ("default.example.lan", "default.example.lan"),
            ("a.example.org", "a.example.org"),
            ("A.Example.ORG", "a.example.org"),
            ("b.example.org", "a.example.org"),
            ("mx.wild.example", "*.wild.example"),
            ("a.mx.wild.example", "default.example.lan"),
            ("wild.example", "default.example.lan"),
        ],
    )
    def test_chosen(self, certificates: Certificates, asked: str | None, expected: str) -> None:
        assert shown(certificates, asked) == expected

    def test_the_directory_goes_before_what_another_carries(self, certificates: Certificates) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        client = SSL.Connection(context, None)
        client.set_tlsext_host_name(b"c.example.org")
        shake(certificates.serverConnectionForTLS(None), client)
        chosen = client.get_peer_certificate(as_cryptography=True)
        assert chosen is not None
        # The one of c carries a as well, but who asks for a gets a's.
        assert shown(certificates, "a.example.org") == "a.example.org"
        assert shown(certificates, "b.example.org") == "a.example.org"

    def test_a_name_that_no_directory_can_have(self, certificates: Certificates) -> None:
        assert shown(certificates, "../" * 20) == "default.example.lan"
        assert shown(certificates, "\u00fc") == "default.example.lan"


class TestOldDevices:
    """A client may be let in with an older version, by its address; the others are not."""

    @pytest.fixture
    def certificates(self, ca: trustme.CA, tmp_path: Path) -> Certificates:
        named = evolve(credentials(ca, tmp_path / "n", "n.example.lan"), name="n.example.lan")
        certificates = loaded(credentials(ca, tmp_path, "mail.example.lan"), named)
        certificates.oldest = lambda client: (
            Version.TLS_1_0 if client == "192.168.7.9" else Version.TLS_1_1 if client else Version.TLS_1_2
        )
        return certificates

    @pytest.mark.parametrize("name", [None, b"n.example.lan"])
    @pytest.mark.parametrize(
        ("client", "version", "welcome"),
        [
            ("192.168.7.9", SSL.TLS1_VERSION, True),
            ("192.168.7.9", SSL.TLS1_1_VERSION, True),
            ("192.168.7.9", SSL.TLS1_3_VERSION, True),
            ("192.168.7.8", SSL.TLS1_VERSION, False),
            ("192.168.7.8", SSL.TLS1_1_VERSION, True),
            ("", SSL.TLS1_1_VERSION, False),
            ("", SSL.TLS1_2_VERSION, True),
        ],
    )
    def test_by_address(
        self, certificates: Certificates, name: bytes | None, client: str, version: int, welcome: bool
    ) -> None:
        connection, peer = certificates.serverConnectionForTLS(Wrapping(client)), client_of(version)
        if name:
            peer.set_tlsext_host_name(name)
        if welcome:
            shake(connection, peer)
        else:
            with pytest.raises(SSL.Error):
                shake(connection, peer)

    def test_only_1_3_where_that_is_the_minimum(self, certificates: Certificates) -> None:
        certificates.oldest = lambda client: Version.TLS_1_3
        shake(certificates.serverConnectionForTLS(None), client_of(SSL.TLS1_3_VERSION))
        with pytest.raises(SSL.Error):
            shake(certificates.serverConnectionForTLS(None), client_of(SSL.TLS1_2_VERSION))


class TestResumption:
    """A client that comes back saves the server the work, for as long as the keys of its ticket live."""

    @staticmethod
    def visit(
        certificates: Certificates, context: ssl.SSLContext, name: str | None, ticket: ssl.SSLSession | None
    ) -> ssl.SSLObject:
        """A client comes, with its ticket, and goes."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=name, session=ticket)
        accepting = certificates.serverConnectionForTLS(None)
        accepting.set_accept_state()
        for _ in range(5):
            for turn in (client.do_handshake, accepting.do_handshake, lambda: client.read(1)):
                with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
                    turn()
                if data := outgoing.read():
                    accepting.bio_write(data)
                with contextlib.suppress(SSL.WantReadError):
                    incoming.write(accepting.bio_read(65536))
        return client

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("name", [None, "n.example.lan"])
    def test_resumed_until_the_keys_are_made_anew(
        self, ca: trustme.CA, tmp_path: Path, version: ssl.TLSVersion, name: str | None
    ) -> None:
        now = [0.0]
        certificates = Certificates(seconds=lambda: now[0])
        named = evolve(credentials(ca, tmp_path / "n", "n.example.lan"), name="n.example.lan")
        certificates.load(credentials(ca, tmp_path, "mail.example.lan"), [named])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        first = self.visit(certificates, context, name, None)
        assert not first.session_reused
        second = self.visit(certificates, context, name, first.session)
        assert second.session_reused
        assert second.version() == str(version.name).replace("_", ".")
        now[0] = 12 * 3600.0
        assert not self.visit(certificates, context, name, second.session).session_reused


class TestClient:
    def serve(self, ca: trustme.CA, directory: Path, *names: str, **more: object) -> SSL.Context:
        return loaded(credentials(ca, directory, *names, **more)).serverConnectionForTLS(None).get_context()

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

    def test_any_says_what_is_wrong(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        past = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
        expired = {"not_before": past[0], "not_after": past[1]}
        for number, (issuer, name, more, flaw) in enumerate(
            [
                (ca, "mx.example.org", {}, ""),
                (ca, "*.example.org", {}, ""),
                (ca, "wrong.example.org", {}, "the certificate is not for mx.example.org"),
                (ca, "mx.example.org", expired, "the certificate has expired"),
                (trustme.CA(), "mx.example.org", {}, "the certificate's issuer is not trusted"),
            ]
        ):
            server = loaded(credentials(issuer, tmp_path / str(number), name, **more))
            creator = ClientTLS(Trust.ANY, roots).creator("mx.example.org")
            client, _ = shake(server.serverConnectionForTLS(None), creator.clientConnectionForTLS(None))
            creator.judge(client)
            assert creator.flaw.startswith(flaw), creator.flaw
            assert bool(creator.flaw) is bool(flaw)
            assert not creator.is_proven_by_dns

    def test_tlsa_records_are_all_that_counts(self, ca: trustme.CA, tmp_path: Path, roots: Path) -> None:
        served = credentials(trustme.CA(), tmp_path / "x", "elsewhere.example")
        other = credentials(ca, tmp_path / "y", "mx.example.org")
        for shown_to_dns, fits in [(served, True), (other, False)]:
            record = TLSA(3, 0, 1, shown_to_dns.chain[0].fingerprint(SHA256()))
            anchors = Anchors((record,), "base.example.org", ())
            creator = ClientTLS(Trust.ANY, roots).creator("mx.example.org", anchors)
            asked = creator.clientConnectionForTLS(None)
            client, server = shake(loaded(served).serverConnectionForTLS(None), asked)
            creator.judge(client)
            assert (creator.flaw == "") is fits
            assert creator.is_proven_by_dns
            assert server.get_servername() == b"base.example.org"

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

"""TLS on both sides: the certificate this server shows, and how it looks at those of mail hosts.

**Server.** :class:`Certificates` holds the context that new handshakes use. A context that has served
a handshake cannot be changed any more, so a renewed certificate is a *new* context put in the place of
the old one; sessions under way keep theirs. Files that do not hold together are refused with
:class:`BadCertificate`, which names the file, and the context of before stays in use. TLS 1.2 is the
oldest version and only suites with forward secrecy and authenticated encryption are offered
(RFC 8996, RFC 9325 §4.2). Where there is no certificate, :func:`ensure_self_signed` makes one.

**Client.** :class:`ClientTLS` makes the connections of the SMTP client. The name of the host is always
sent (SNI, RFC 6066 §3). Under ``Trust.ANY`` nothing is verified and whatever version OpenSSL knows is
taken: the other choice would be no TLS at all (RFC 7435). Under ``Trust.PKIX`` the chain has to end
in a trusted root and the certificate has to carry the host's name (RFC 5280, RFC 9525); if not, the
handshake fails with an alert, as OpenSSL's own checks do.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["BadCertificate", "Certificates", "ClientTLS", "Trust", "ensure_self_signed", "tls_facts"]

_log = Logger()

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VALIDITY = timedelta(days=3650)
_RENEW = timedelta(days=30)


class BadCertificate(ValueError):
    """A certificate or a key that cannot be used. ``str()`` is for the admin and names the file."""

    def __init__(self, file: Path, text: str) -> None:
        super().__init__(f"{file}: {text}")
        self.file = file
        self.text = text


# --- the certificate of this server ------------------------------------------------------------------


def ensure_self_signed(directory: Path, hostname: str, now: datetime | None = None) -> tuple[Path, Path]:
    """See that a self-signed certificate for ``hostname`` lies in ``directory``; make it if need be.

    One that is for another name, is about to expire, or cannot be read is replaced. Key and certificate
    are in one file, so that a crash cannot leave two that do not belong together. Blocks on the disk:
    for the start of the program. Raises ``OSError``.

    :returns: the certificate file and the key file, as :class:`Certificates` takes them.
    """
    now = now or datetime.now(UTC)
    file = directory / "self-signed.pem"
    if not _serves(file, hostname, now):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(file, _self_signed(hostname, now))
    return file, file


def _serves(file: Path, hostname: str, now: datetime) -> bool:
    try:
        chain, _ = _read_pair(file, file)
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (BadCertificate, x509.ExtensionNotFound):
        return False
    return x509.DNSName(hostname) in names and chain[0].not_valid_after_utc > now + _RENEW


def _self_signed(hostname: str, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    # RFC 5280 bounds a common name at 64 characters; the name that counts is the one in the SAN.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of clients are slow and fast
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def _replace(file: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``file``, whole or not at all, readable by the owner alone."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(handle)
    os.replace(beside, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """The certificate that new handshakes of this server show.

    Is itself what Twisted takes for implicit TLS (RFC 8314); STARTTLS and STLS take :meth:`current`.
    """

    def __init__(self) -> None:
        self._current: CertificateOptions | None = None

    def load(self, certificate: Path, key: Path) -> None:
        """Read the files, for the first time or anew, for the handshakes to come.

        Raises :class:`BadCertificate`, and then everything is as it was.

        :param certificate: PEM: this server's certificate first, then the intermediate ones.
        :param key: PEM, without a passphrase; may be the same file.
        """
        # By server name (SNI): a table of contexts made by load_context, one for each directory of
        # names, is swapped together with this one and looked up in ``contextForServerName``.
        self._current = load_context(certificate, key)

    def current(self) -> CertificateOptions | None:
        """The context factory for the next handshake; asked anew for each. ``None`` before ``load``."""
        return self._current

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        if self._current is None:
            raise RuntimeError("a TLS connection before the certificate was loaded")
        return SSL.Connection(self._current.getContext(), None)


def load_context(certificate: Path, key: Path) -> CertificateOptions:
    """A server's context from PEM files. Raises :class:`BadCertificate`."""
    chain, private = _read_pair(certificate, key)
    try:
        options = CertificateOptions(
            privateKey=crypto.PKey.from_cryptography_key(private),  # type: ignore[arg-type]
            certificate=crypto.X509.from_cryptography(chain[0]),
            extraCertChain=[crypto.X509.from_cryptography(link) for link in chain[1:]],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(_CIPHERS),
        )
        # Made now and not at the first handshake: what OpenSSL does not like is to be told at start.
        options.getContext()
    except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
        raise BadCertificate(certificate, f"not usable for TLS: {error}") from error
    return options


def _read_pair(certificate: Path, key: Path) -> tuple[list[x509.Certificate], PrivateKeyTypes]:
    chain_pem, key_pem = _read(certificate), _read(key)
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError as error:
        raise BadCertificate(certificate, "no PEM certificate in it") from error
    try:
        private = serialization.load_pem_private_key(key_pem, None)
    except TypeError as error:
        raise BadCertificate(key, "the key has a passphrase, which nobody here could type") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(key, "no PEM private key in it") from error
    if _spell(private.public_key()) != _spell(chain[0].public_key()):
        raise BadCertificate(key, f"not the key of the first certificate in {certificate}")
    return chain, private


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadCertificate(file, error.strerror or str(error)) from error


def _spell(key: object) -> bytes:
    spelled: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return spelled


# --- the certificates of mail hosts ------------------------------------------------------------------


class Trust(Enum):
    """What a mail host's certificate has to be."""

    ANY = "any"
    """Nothing: TLS against those who only listen (RFC 7435)."""

    PKIX = "pkix"
    """Issued by a trusted root for the host's name."""


class ClientTLS:
    """Makes TLS connections to mail hosts. One for each kind of trust; used for all hosts.

    :param roots: a PEM file of trusted roots; ``None``: those of the system.
    """

    def __init__(self, trust: Trust = Trust.ANY, roots: Path | None = None) -> None:
        self.trust = trust
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_options(SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if trust is Trust.ANY:
            context.set_min_proto_version(SSL.TLS1_VERSION)
        else:
            context.set_min_proto_version(SSL.TLS1_2_VERSION)
            if roots is None:
                context.set_default_verify_paths()
            else:
                context.load_verify_locations(str(roots))
        self._context = context

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """What ``startTLS`` takes for a connection to ``host``: a name (A-labels) or an IP address."""
        creator: IOpenSSLClientConnectionCreator = _Creator(self._context, self.trust, host)
        return creator


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context, trust: Trust, host: str) -> None:
        self._context = context
        self._trust = trust
        self._host = host

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not _is_ip_address(self._host):
            # RFC 6066 §3: no literal addresses in SNI.
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        if self._trust is Trust.ANY:
            connection.set_verify(SSL.VERIFY_NONE)
        else:
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _matching(self._host))
        return connection


def _matching(host: str) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """A verification callback that also holds the certificate against the host's name."""
    verify = verify_certificate_ip_address if _is_ip_address(host) else verify_certificate_hostname

    def matches(_: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, fine: int) -> bool:
        if depth or not fine:
            return bool(fine)
        # Nothing may be raised through OpenSSL; what is no match is a failed verification.
        try:
            verify(certificate.to_cryptography(), host)
        except (VerificationError, CertificateError, ValueError):
            return False
        except Exception:
            _log.failure("while verifying the certificate of {host}", host=host)
            return False
        return True

    return matches


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def tls_facts(connection: SSL.Connection) -> str:
    """Version and cipher of a connection, as ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
    return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"

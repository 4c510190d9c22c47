"""Certificates with their keys, as they lie in files: read, held against each other, and worried about.

:func:`read_pair` reads one chain and its key and lets OpenSSL try them; :func:`read_directory` reads a
directory in the layout that certbot keeps, ``NAME/fullchain.pem`` and ``NAME/privkey.pem``, symbolic links
included. Files that do not hold together are a :class:`BadCertificate`, which names the file. What can be
used but will not be for long, or is for other names, is for :func:`warnings` to say. Where there is no
certificate at all, :func:`ensure_self_signed` makes one.

A certificate is for the names that it carries (RFC 9525 §6) and for the name of its directory; one with
``*.example.org`` is for every name one label longer than ``example.org``.

Everything here blocks on the disk.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

from mailserver.files import put_file

__all__ = [
    "BadCertificate",
    "Credentials",
    "ensure_self_signed",
    "fits",
    "read_directory",
    "read_pair",
    "warnings",
]

_VALIDITY = timedelta(days=3650)
_RENEW = timedelta(days=30)
_SOON = timedelta(days=14)


class BadCertificate(ValueError):
    """A certificate or a key that cannot be used. ``str()`` is for the admin and names the file."""

    def __init__(self, file: Path, text: str) -> None:
        super().__init__(f"{file}: {text}")
        self.file = file
        self.text = text


@frozen(eq=False)
class Credentials:
    """A certificate with its chain, and its key: they belong together.

    :ivar file: where the certificate was read from.
    :ivar chain: this server's certificate first, then the intermediate ones.
    :ivar name: the directory that it was kept under; empty for one that was named by itself.
    """

    file: Path
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    key: PrivateKeyTypes = field(repr=False)
    name: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process of this server: in PEM, which is how they were read."""
        chain = b"".join(link.public_bytes(serialization.Encoding.PEM) for link in self.chain)
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _from_pem, (self.file, chain, key, self.name)

    @property
    def carried(self) -> frozenset[str]:
        """The names that the certificate carries, in lower case, wildcards as ``*.example.org``."""
        try:
            found = self.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return frozenset()
        return frozenset(name.lower() for name in found.value.get_values_for_type(x509.DNSName))

    @property
    def expiry(self) -> datetime:
        """When the first certificate of the chain to end ends."""
        return min(link.not_valid_after_utc for link in self.chain)

    def furnish(self, context: SSL.Context) -> None:
        """Have a context show them. Raises :class:`BadCertificate` where OpenSSL does not like them."""
        try:
            context.use_certificate(self.chain[0])
            context.use_privatekey(self.key)  # type: ignore[arg-type]
            for link in self.chain[1:]:
                context.add_extra_chain_cert(link)
        except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
            raise BadCertificate(self.file, f"not usable for TLS: {error}") from error


def _from_pem(file: Path, chain: bytes, key: bytes, name: str) -> Credentials:
    links = x509.load_pem_x509_certificates(chain)
    return Credentials(file, tuple(links), serialization.load_pem_private_key(key, None), name)


# --- reading -----------------------------------------------------------------------------------------


def read_pair(certificate: Path, key: Path, name: str = "") -> Credentials:
    """A PEM chain and the PEM key to it, without a passphrase; both may be in one file.

    Raises :class:`BadCertificate`.
    """
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
    credentials = Credentials(certificate, tuple(chain), private, name)
    # What OpenSSL does not like, a key that is too short, is told with all that is wrong with the files.
    credentials.furnish(SSL.Context(SSL.TLS_SERVER_METHOD))
    return credentials


def read_directory(directory: Path) -> tuple[tuple[Credentials, ...], tuple[BadCertificate, ...]]:
    """Every pair below ``directory``, sorted by name, and all that is wrong with the others.

    A directory that is not there holds none. Files, and names that begin with a dot, are passed over.
    """
    found: list[Credentials] = []
    bad: list[BadCertificate] = []
    try:
        homes = sorted(home for home in directory.iterdir() if home.is_dir() and home.name[0] != ".")
    except FileNotFoundError:
        return (), ()
    except OSError as error:
        return (), (BadCertificate(directory, error.strerror or str(error)),)
    for home in homes:
        try:
            found.append(read_pair(home / "fullchain.pem", home / "privkey.pem", home.name.lower()))
        except BadCertificate as error:
            bad.append(error)
    return tuple(found), tuple(bad)


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


# --- worrying ----------------------------------------------------------------------------------------


def fits(credentials: Credentials, name: str) -> bool:
    """Whether the certificate carries ``name`` (lower case), or a wildcard for it (RFC 9525 §6.3)."""
    return not credentials.carried.isdisjoint((name, f"*.{name.partition('.')[2]}"))


def warnings(credentials: Credentials, hostname: str, now: datetime) -> Iterator[str]:
    """What an admin should know of a certificate that can be used.

    :param hostname: the name that it has to be for, in lower case; empty when any will do.
    """
    left = credentials.expiry - now
    if left <= timedelta(0):
        yield f"expired on {credentials.expiry:%Y-%m-%d}: clients refuse it"
    elif left < _SOON:
        yield f"expires on {credentials.expiry:%Y-%m-%d}, in {left.days} days: renew it"
    if max(link.not_valid_before_utc for link in credentials.chain) > now:
        yield "is not valid yet: is this machine's clock right?"
    if hostname and not fits(credentials, hostname):
        carried = ", ".join(sorted(credentials.carried)) or "no name at all"
        yield f"is not for {hostname} but for {carried}"


# --- a certificate of our own ------------------------------------------------------------------------


def ensure_self_signed(directory: Path, hostname: str, now: datetime | None = None) -> Credentials:
    """See that a self-signed certificate for ``hostname`` lies in ``directory``; make it if need be.

    One that is for another name, is about to expire, or cannot be read is replaced. Key and certificate
    are in one file, so that a crash cannot leave two that do not belong together. Raises ``OSError``, or
    :class:`BadCertificate` for a disk that does not give back what was written.
    """
    now = now or datetime.now(UTC)
    file = directory / "self-signed.pem"
    if not _serves(file, hostname, now):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_file(file, _self_signed(hostname, now))
    return read_pair(file, file)


def _serves(file: Path, hostname: str, now: datetime) -> bool:
    try:
        credentials = read_pair(file, file)
    except BadCertificate:
        return False
    return hostname in credentials.carried and credentials.expiry > now + _RENEW


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

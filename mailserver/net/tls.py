"""TLS on both sides: how this server answers a handshake, and how it looks at those of mail hosts.

**Server.** :class:`Certificates` chooses for each handshake. The certificate is the one for the name that the
client asks for (SNI, RFC 6066 §3), or the default one; a name that nobody here has is no error. A context
that has served a handshake cannot be changed any more, so renewed certificates are *new* contexts put in
the place of the old ones; sessions under way keep theirs.

- TLS 1.2 is the oldest version, and below 1.3 only suites with forward secrecy and authenticated encryption
  are offered (RFC 8996, RFC 9325 §4.2). Clients that know nothing better can be let in with less, by address.
- Sessions are resumed with tickets (RFC 5077, RFC 8446 §4.6.1), which cost the server no memory. Their keys
  are OpenSSL's own, live in the context, and are made anew with it twice a day (RFC 9325 §3.4).
- No compression, no renegotiation, no early data.

**Client.** :class:`ClientTLS` makes the connections of the SMTP client. The name of the host is always
sent. Whether its chain ends in a trusted root and its certificate carries its name (RFC 5280, RFC 9525) is
found out in every handshake. Under ``Trust.PKIX`` it has to be so; if not, the handshake fails with an
alert, as OpenSSL's own checks do. Under ``Trust.ANY`` it is only told, by :attr:`HostTLS.flaw`, and whatever
version OpenSSL knows is taken: the other choice would be no TLS at all (RFC 7435). Where there are TLSA
records for a host, they alone count (:mod:`mailserver.net.dane`), and who asks looks at ``flaw``.
"""

import time
from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from mailserver.model.tlsa import Anchors
from mailserver.net import dane
from mailserver.net.certificates import Credentials

__all__ = ["Certificates", "ClientTLS", "HostTLS", "Trust", "Version", "tls_facts"]

_log = Logger()


# --- the certificates of this server -----------------------------------------------------------------


class Version(Enum):
    """A version of TLS, by the number that people know it by."""

    TLS_1_0 = "1.0"
    TLS_1_1 = "1.1"
    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


_PROTOCOLS = {
    Version.TLS_1_0: SSL.TLS1_VERSION,
    Version.TLS_1_1: SSL.TLS1_1_VERSION,
    Version.TLS_1_2: SSL.TLS1_2_VERSION,
    Version.TLS_1_3: SSL.TLS1_3_VERSION,
}
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OLD_CIPHERS = _CIPHERS + b":ECDHE+AES:AES128-SHA:AES256-SHA:@SECLEVEL=0"
"""For old devices: SHA-1 in the handshake, which OpenSSL has for security level 0 alone, and key transport by
RSA for those that know no elliptic curve."""

_KEYS_LAST = 12 * 3600.0


def _modern(client: str) -> Version:
    return Version.TLS_1_2


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """The certificates that new handshakes of this server show.

    Is itself what Twisted takes, for implicit TLS (RFC 8314) as for STARTTLS and STLS.

    :ivar oldest: the oldest version of TLS that a client, by its IP address, may speak; may be replaced at
        any time.
    :param seconds: the time.
    """

    def __init__(
        self,
        oldest: Callable[[str], Version] = _modern,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.oldest = oldest
        self._seconds = seconds
        self._contexts: _Contexts | None = None
        self._made = 0.0

    def load(self, default: Credentials, named: Iterable[Credentials] = ()) -> None:
        """Use these, for the first time or anew, for the handshakes to come.

        Raises :class:`BadCertificate` where OpenSSL does not take one of them, and then everything is as it
        was.

        :param default: for clients that ask for no name, or for one that none of ``named`` is for.
        """
        contexts = _Contexts(default, tuple(named))
        contexts.make(Version.TLS_1_2)
        self._contexts = contexts
        self._made = self._seconds()

    def current(self) -> "Certificates | None":
        """What ``startTLS`` takes; ``None`` before :meth:`load`."""
        return None if self._contexts is None else self

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        if self._contexts is None:
            raise RuntimeError("a TLS connection before the certificates were loaded")
        if self._seconds() - self._made >= _KEYS_LAST:
            self._contexts = self._contexts.anew()
            self._made = self._seconds()
        # The session that TLS is for knows its client, also where a proxy stands between.
        session = getattr(tlsProtocol, "wrappedProtocol", None)
        client: str = getattr(getattr(session, "peer", None), "address", "")
        return SSL.Connection(self._contexts.front(self.oldest(client)), None)


class _Contexts:
    """The contexts of one load: one for each certificate and oldest version, made when first wanted."""

    def __init__(self, default: Credentials, named: tuple[Credentials, ...]) -> None:
        self._default = default
        self._named = named
        self._by_name: dict[str, Credentials] = {}
        for credentials in named:
            for name in credentials.carried:
                self._by_name.setdefault(name, credentials)
        # The directory is what the admin chose it by; it goes before what another certificate carries.
        self._by_name.update((credentials.name, credentials) for credentials in named if credentials.name)
        self._made: dict[tuple[Credentials, Version], SSL.Context] = {}

    def anew(self) -> "_Contexts":
        """The same certificates in contexts that nobody has seen, with new keys for tickets."""
        return _Contexts(self._default, self._named)

    def make(self, oldest: Version) -> None:
        """Make all of one version now. Raises :class:`BadCertificate`."""
        for credentials in (self._default, *self._named):
            self._context(credentials, oldest)

    def front(self, oldest: Version) -> SSL.Context:
        """The context with which a handshake begins, before the client has named anybody."""
        return self._context(self._default, oldest)

    def _context(self, credentials: Credentials, oldest: Version) -> SSL.Context:
        context = self._made.get((credentials, oldest))
        if context is None:
            context = _make_context(credentials, oldest)
            context.set_tlsext_servername_callback(lambda connection: self._choose(connection, oldest))
            self._made[credentials, oldest] = context
        return context

    def _choose(self, connection: SSL.Connection, oldest: Version) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        credentials = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        if credentials is not None and credentials is not self._default:
            connection.set_context(self._context(credentials, oldest))


def _make_context(credentials: Credentials, oldest: Version) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    old = oldest in (Version.TLS_1_0, Version.TLS_1_1)
    context.set_cipher_list(_OLD_CIPHERS if old else _CIPHERS)
    context.set_min_proto_version(_PROTOCOLS[oldest])
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # An idle session holds no buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Tickets do without; a cache would hold the sessions of 20,000 clients.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mailserver")
    credentials.furnish(context)
    return context


# --- the certificates of mail hosts ------------------------------------------------------------------


class Trust(Enum):
    """What a mail host's certificate has to be."""

    ANY = "any"
    """Whatever it is: TLS against those who only listen (RFC 7435)."""

    PKIX = "pkix"
    """Issued by a trusted root for the host's name."""


_ERRORS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's root is not trusted",
    20: "the certificate's issuer is not trusted",
    21: "the certificate's issuer is not known",
}
"""What OpenSSL's commonest numbers mean, in words that help."""


class ClientTLS:
    """Makes TLS connections to mail hosts. One for each kind of trust; used for all hosts.

    :param roots: the trusted roots, a PEM file or its content; ``None``: those of the system.
    """

    def __init__(self, trust: Trust = Trust.ANY, roots: Path | bytes | None = None) -> None:
        self.trust = trust
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_options(SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_min_proto_version(SSL.TLS1_VERSION if trust is Trust.ANY else SSL.TLS1_2_VERSION)
        if roots is None:
            context.set_default_verify_paths()
        elif isinstance(roots, Path):
            context.load_verify_locations(str(roots))
        else:
            _trust(context, roots)
        self._context = context

    def creator(self, host: str, anchors: Anchors | None = None) -> "HostTLS":
        """What ``startTLS`` takes for a connection to ``host``: a name (A-labels) or an IP address.

        :param anchors: what the host is held against instead of the trusted roots.
        """
        return HostTLS(self._context, self.trust, host, anchors)


def _trust(context: SSL.Context, roots: bytes) -> None:
    store = context.get_cert_store()
    assert store is not None
    for certificate in load_pem_x509_certificates(roots):
        store.add_cert(crypto.X509.from_cryptography(certificate))


@implementer(IOpenSSLClientConnectionCreator)
class HostTLS:
    """The TLS of one connection to one host.

    :ivar flaw: once the handshake is complete, and :meth:`judge` was called: why the host is not proven to be
        the one that was meant; empty: it is.
    """

    def __init__(self, context: SSL.Context, trust: Trust, host: str, anchors: Anchors | None) -> None:
        self._context = context
        self._trust = trust
        self._host = host if anchors is None else anchors.base
        self._anchors = anchors
        self.flaw = ""

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not _is_ip_address(self._host):
            # RFC 6066 §3: no literal addresses in SNI.
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        if self._anchors is None:
            connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verified)
        else:
            connection.set_verify(SSL.VERIFY_NONE)
        return connection

    def judge(self, connection: SSL.Connection) -> None:
        """Hold the host against its TLSA records, if that is what counts. Raises nothing."""
        if self._anchors is None:
            return
        try:
            chain = connection.get_peer_cert_chain(as_cryptography=True)
            self.flaw = dane.flaw(self._anchors, chain or ())
        except Exception:  # certificates are strangers' data, and what is not proven is not proven
            _log.failure("while holding the certificate of {host} against DNS", host=self._host)
            self.flaw = "the certificate cannot be read"

    @property
    def is_proven_by_dns(self) -> bool:
        """Whether TLSA records are what counts."""
        return self._anchors is not None

    def _verified(
        self, _: SSL.Connection, certificate: crypto.X509, error: int, depth: int, fine: int
    ) -> bool:
        """What OpenSSL asks about each certificate: whether to go on."""
        if not fine:
            self.flaw = self.flaw or _ERRORS.get(
                error, f"the certificate does not verify (OpenSSL error {error})"
            )
        elif not (depth or self.flaw):
            self.flaw = self._name_flaw(certificate)
        return not self.flaw or self._trust is Trust.ANY

    def _name_flaw(self, certificate: crypto.X509) -> str:
        verify = verify_certificate_ip_address if _is_ip_address(self._host) else verify_certificate_hostname
        # Nothing may be raised through OpenSSL; what is no match is a failed verification.
        try:
            verify(certificate.to_cryptography(), self._host)
        except (VerificationError, CertificateError, ValueError):
            return f"the certificate is not for {self._host}"
        except Exception:
            _log.failure("while verifying the certificate of {host}", host=self._host)
            return "the certificate cannot be read"
        return ""


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def tls_facts(connection: SSL.Connection) -> str:
    """Version and cipher of a connection, as ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
    return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"

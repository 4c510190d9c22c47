"""What binds a login to the TLS connection it is made on: channel bindings, seen from the server (RFC 5056).

``tls-exporter`` (RFC 9266) is known to both ends of this very connection and to nobody else; it is given for
TLS 1.3, where nothing more is asked of the handshake. ``tls-server-end-point`` (RFC 5929 §4) is the hash of
the certificate that this server has shown.
"""

from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm

__all__ = ["channel_bindings"]

_WEAK = frozenset({"md5", "sha1"})


def channel_bindings(transport: Any) -> dict[str, bytes]:
    """The channel bindings of a connection, by type; empty where the handshake is not complete."""
    connection = transport.getHandle()
    bindings = {}
    if connection.get_protocol_version_name() == "TLSv1.3":
        bindings["tls-exporter"] = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    certificate = connection.get_certificate()
    if certificate is not None:
        shown = certificate.to_cryptography()
        algorithm: HashAlgorithm | None = shown.signature_hash_algorithm
        if algorithm is not None:
            bindings["tls-server-end-point"] = shown.fingerprint(
                SHA256() if algorithm.name in _WEAK else algorithm
            )
    return bindings

"""Channel bindings: both ends of a connection know the same, and nobody else does."""

import hashlib
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL

from mailserver.net.binding import channel_bindings
from tests.support.certificates import credentials, loaded, shake


class Transport:
    """As much of a transport as is asked for."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def getHandle(self) -> SSL.Connection:
        return self._connection


def connect(tmp_path: Path, version: int) -> tuple[SSL.Connection, SSL.Connection]:
    certificates = loaded(credentials(trustme.CA(), tmp_path, "mail.example.lan"))
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(version)
    client = SSL.Connection(context, None)
    return shake(certificates.serverConnectionForTLS(None), client)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_the_certificate_shown(tmp_path: Path, version: int) -> None:
    client, server = connect(tmp_path, version)
    shown = client.get_peer_certificate(as_cryptography=True)
    assert shown is not None
    # RFC 5929 §4.1: the hash of the certificate's own signature, here SHA-256.
    from cryptography.hazmat.primitives.serialization import Encoding

    wanted = hashlib.sha256(shown.public_bytes(Encoding.DER)).digest()
    assert channel_bindings(Transport(server))["tls-server-end-point"] == wanted


def test_the_exporter(tmp_path: Path) -> None:
    client, server = connect(tmp_path, SSL.TLS1_3_VERSION)
    wanted = client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    assert channel_bindings(Transport(server))["tls-exporter"] == wanted
    _, another = connect(tmp_path, SSL.TLS1_3_VERSION)
    assert channel_bindings(Transport(another))["tls-exporter"] != wanted


def test_no_exporter_before_tls_1_3(tmp_path: Path) -> None:
    _, server = connect(tmp_path, SSL.TLS1_2_VERSION)
    assert set(channel_bindings(Transport(server))) == {"tls-server-end-point"}

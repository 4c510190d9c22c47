"""Certificates for tests, in certbot's layout, and handshakes in memory."""

from pathlib import Path

import trustme
from OpenSSL import SSL

from mailserver.net.certificates import Credentials, read_pair
from mailserver.net.tls import Certificates

__all__ = ["credentials", "issued", "loaded", "shake", "shown"]


def issued(ca: trustme.CA, directory: Path, *names: str, **more: object) -> tuple[Path, Path]:
    """A pair of files in ``directory``."""
    leaf = ca.issue_cert(*names, **more)  # type: ignore[arg-type]
    directory.mkdir(parents=True, exist_ok=True)
    chain, key = directory / "fullchain.pem", directory / "privkey.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return chain, key


def credentials(ca: trustme.CA, directory: Path, *names: str, **more: object) -> Credentials:
    """The same, read."""
    return read_pair(*issued(ca, directory, *names, **more))


def loaded(default: Credentials, *named: Credentials) -> Certificates:
    certificates = Certificates()
    certificates.load(default, named)
    return certificates


def shake(
    accepting: SSL.Connection | SSL.Context, client: SSL.Connection
) -> tuple[SSL.Connection, SSL.Connection]:
    """Play a handshake in memory; raises what either side raises."""
    if isinstance(accepting, SSL.Context):
        accepting = SSL.Connection(accepting, None)
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


def shown(certificates: Certificates, name: str | None, session: object = None) -> str:
    """The first name of the certificate that a client sees who asks for ``name``."""
    context = SSL.Context(SSL.TLS_METHOD)
    client = SSL.Connection(context, None)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    shake(certificates.serverConnectionForTLS(session), client)
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return sorted(Credentials(Path(), (certificate,), None).carried)[0]  # type: ignore[arg-type]

"""A SCRAM-SHA-256 client, written from RFC 5802 alone, for tests of the server's side."""

import base64
import hashlib
import hmac
import smtplib

__all__ = ["Client", "login"]


class Client:
    """One exchange, seen from the client.

    :param gs2: the flag and the authorisation identity, as ``n,,``.
    :param binding: the channel binding data; empty if none.
    """

    def __init__(
        self,
        name: str,
        password: str,
        nonce: str = "rOprNGfwEbeRWgbNEkqO",
        gs2: str = "n,,",
        binding: bytes = b"",
    ) -> None:
        self._password = password.encode()
        self._gs2 = gs2.encode()
        self._binding = binding
        self._bare = f"n={name.replace('=', '=3D').replace(',', '=2C')},r={nonce}".encode()
        self._server_key = self._signed = b""
        self.first = self._gs2 + self._bare

    def final(self, challenge: bytes) -> bytes:
        """The answer to the server's first message."""
        fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
        salt, iterations = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        self._server_key = hmac.digest(salted, b"Server Key", "sha256")
        channel = base64.b64encode(self._gs2 + self._binding)
        bare = b"c=%b,r=%b" % (channel, fields[b"r"])
        self._signed = b",".join((self._bare, challenge, bare))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), self._signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return bare + b",p=" + base64.b64encode(proof)

    def trusts(self, final: bytes) -> bool:
        """Whether the server has proven itself, too."""
        wanted = hmac.digest(self._server_key, self._signed, "sha256")
        return final == b"v=" + base64.b64encode(wanted)


def login(session: smtplib.SMTP, name: str, password: str, shown: bytes = b"") -> tuple[int, bytes]:
    """Log in, and return the last reply.

    :param shown: the hash of the server's certificate, to which the login is bound; empty: it is not.
    """
    gs2, mechanism = "n,,", "SCRAM-SHA-256"
    if shown:
        gs2, mechanism = "p=tls-server-end-point,,", "SCRAM-SHA-256-PLUS"
    client = Client(name, password, gs2=gs2, binding=shown)
    code, said = session.docmd("AUTH", f"{mechanism} {base64.b64encode(client.first).decode()}")
    if code == 334:
        code, said = session.docmd(base64.b64encode(client.final(base64.b64decode(said))).decode())
    if code == 334:
        assert client.trusts(base64.b64decode(said))
        code, said = session.docmd("")
    return code, said

"""What somebody shows at the door, as ``twisted.cred`` credentials: a password, or a proof of knowing it.

Both carry the facts of the connection they came by, for the journal and for the lock-out.
"""

import hmac

from attrs import field, frozen
from twisted.cred.credentials import ICredentials, IUsernamePassword
from zope.interface import Attribute, implementer

__all__ = ["IProof", "Login", "Proven"]


class IProof(ICredentials):
    """A name, and whether its password has been proven to be known (RFC 5802)."""

    username: bytes = Attribute("The name, as it came.")
    right: bool = Attribute("Whether the proof was right.")


@implementer(IUsernamePassword)
@frozen
class Login:
    """A name and a password.

    :ivar service: the name of the service, as ``pop3``.
    :ivar client: the client's IP address.
    :ivar tls: whether the connection is encrypted.
    """

    username: bytes
    password: bytes = field(repr=False)
    service: str = ""
    client: str = ""
    tls: bool = False

    def checkPassword(self, password: bytes) -> bool:
        """Whether a password in clear is this one: what :class:`IUsernamePassword` asks for."""
        return hmac.compare_digest(self.password, password)


@implementer(IProof)
@frozen
class Proven:
    """A name and the outcome of a SCRAM exchange. Fields as of :class:`Login`."""

    username: bytes
    right: bool
    service: str = ""
    client: str = ""
    tls: bool = False

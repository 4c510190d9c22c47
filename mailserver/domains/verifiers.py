"""What SCRAM checks proofs against: the users' verifiers, and decoys for everybody else.

Which mechanisms there are is told before the name is known. So SCRAM is offered only where every user has a
verifier: a client that prefers it, and has the right password, must not be turned away. One that asks for a
name that does not exist is shown a salt, too, and the same one each time, also after a restart.
"""

from collections.abc import Callable

from mailserver.domains.directory import Directory
from mailserver.wire.sasl import Mechanisms
from mailserver.wire.scram import Bindings, Verifier, decoy

__all__ = ["Verifiers"]


class Verifiers:
    """The verifiers of a directory.

    :ivar key: what decoys are made from; a secret that outlives the process.
    """

    def __init__(self, directory: Directory, key: bytes) -> None:
        self.key = key
        self._directory = directory

    def mechanisms(self, bindings: Callable[[], Bindings] | None) -> Mechanisms:
        """What a session can offer now.

        :param bindings: gives the channel bindings of its connection; ``None`` without TLS.
        """
        return Mechanisms(self.find if self._directory.has_verifiers else None, bindings)

    def find(self, name: bytes) -> Verifier:
        """The verifier of a name, or a decoy."""
        login = name.decode("utf-8", "replace")
        user = self._directory.user(login)
        if user is not None and user.scram is not None:
            return user.scram
        return decoy(self.key, self._directory.login_key(login).encode())

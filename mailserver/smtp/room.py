"""Whether a message is worth taking: is there room for it with any of its recipients?

One recipient with room, or one elsewhere, is enough: whoever is full then gets it later, or the sender a
report. Only a message that nobody here could get is refused, before it is this server's (RFC 5321 §3.7.1).
"""

from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen

from mailserver.interfaces import Account, IDirectory
from mailserver.model.envelope import Recipient

__all__ = ["Ask", "Room", "always"]

Ask = Callable[[Sequence[Recipient], int], Awaitable[bool] | bool]
"""Whether any of these recipients could get a message of so many octets; may take a while to find out."""


def always(recipients: Sequence[Recipient], octets: int) -> bool:
    """Where nobody keeps quotas."""
    return True


@frozen
class Room:
    """Asks the mail store.

    :ivar room: :meth:`mailserver.interfaces.IMailStore.room`.
    """

    directory: IDirectory
    room: Callable[[Account, int], Awaitable[bool] | bool]

    def __call__(self, recipients: Sequence[Recipient], octets: int) -> Awaitable[bool] | bool:
        """See :data:`Ask`. At once where it is known."""
        unsure: list[Awaitable[bool]] = []
        for recipient in recipients:
            account = self.directory.find(recipient.address)
            answer = not isinstance(account, Account) or self.room(account, octets)
            if answer is True:
                return True
            if not isinstance(answer, bool):
                unsure.append(answer)
        return _any(unsure) if unsure else not recipients


async def _any(answers: Sequence[Awaitable[bool]]) -> bool:
    for answer in answers:
        if await answer:
            return True
    return False

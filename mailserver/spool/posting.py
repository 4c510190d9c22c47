"""A letter of the server's own, by the same door as all mail (law 7): from nobody, through the spool."""

from collections.abc import Callable, Sequence

from mailserver.interfaces import ISpool
from mailserver.model.address import NULL_SENDER
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient

__all__ = ["post"]


async def post(
    spool: ISpool, recipients: Sequence[Recipient], when: float, spell: Callable[[QueueID], str]
) -> None:
    """Have a letter delivered. Raises :class:`~mailserver.interfaces.StorageTrouble`.

    :param when: it is written, in seconds since 1970.
    :param spell: makes the message of its queue ID; lines end in ``\\n``.
    """
    draft = spool.draft(NULL_SENDER, recipients)
    content = spell(draft.id).replace("\n", "\r\n").encode()
    plain = content.isascii()
    envelope = Envelope(
        id=draft.id,
        sender=NULL_SENDER,
        recipients=tuple(recipients),
        origin=Origin(),
        arrived=when,
        size=len(content),
        body="7BIT" if plain else "8BITMIME",
        smtputf8=not plain,
    )
    waiting = draft.write(content)
    if waiting is not None:
        await waiting
    await draft.commit(envelope)

"""Duties as the spool has them: what is to be done, and where it stands in the database."""

from collections.abc import Collection, Iterator
from math import inf

from attrs import frozen

from mailserver.interfaces import Duty, Waiting
from mailserver.model.envelope import Envelope, Recipient

__all__ = ["Taken", "fresh_duties"]


@frozen
class Taken:
    """Where a taken duty stands in the database: what is needed to settle it.

    :ivar message: the message's number.
    :ivar file: of its content, if it is large.
    :ivar numbers: of its recipients, by value.
    :ivar message_id: of the message, empty where it has none.
    :ivar since: when it was taken. Whoever is due later than that by the end was ordered so meanwhile.
    """

    message: int
    file: str | None
    numbers: dict[Recipient, list[int]]
    message_id: str = ""
    since: float = inf


def fresh_duties(
    message: int, envelope: Envelope, held: Collection[int], file: str | None, message_id: str, since: float
) -> Iterator[tuple[Duty, Taken]]:
    """The duties of a message that is being stored, all of whose recipients are due but those held.

    :param held: the numbers of recipients, counted from 0.
    """
    waiting: dict[str, list[Waiting]] = {}
    numbers: dict[str, dict[Recipient, list[int]]] = {}
    for number, recipient in enumerate(envelope.recipients):
        if number not in held:
            destination = recipient.address.domain
            waiting.setdefault(destination, []).append(Waiting(recipient))
            numbers.setdefault(destination, {}).setdefault(recipient, []).append(number)
    for destination, some in waiting.items():
        taken = Taken(message, file, numbers[destination], message_id, since)
        yield Duty(envelope, destination, tuple(some)), taken

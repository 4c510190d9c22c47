"""Envelopes and queue IDs."""

from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient, make_queue_id

DIGITS = set("0123456789BCDFGHJKLMNPQRSTVWXYZ")


def test_queue_ids_are_sorted_by_time() -> None:
    times = [0.0, 0.001, 1.0, 1_000_000_000.0, 1_700_000_000.0, 1_700_000_000.002, 4_000_000_000.0]
    ids = [make_queue_id(now, 2**40 - 1) for now in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_queue_ids_are_letters_and_digits() -> None:
    for entropy in (0, 1, 2**40 - 1, 2**64):
        made = make_queue_id(1_700_000_000.0, entropy)
        assert len(made) == 17
        assert set(made) <= DIGITS


def test_entropy_tells_two_of_one_millisecond_apart() -> None:
    assert len({make_queue_id(1.0, entropy) for entropy in range(1000)}) == 1000
    assert make_queue_id(1.0, 2**39) != make_queue_id(1.0, 0)


def test_marks_do_not_make_an_envelope_another_one() -> None:
    def envelope(**marks: str) -> Envelope:
        recipients = (Recipient(Address("a", "d")),)
        return Envelope(QueueID("X"), NULL_SENDER, recipients, Origin(), 0.0, marks=marks)

    assert envelope() == envelope(spam="no")
    assert hash(envelope()) == hash(envelope(spam="no"))

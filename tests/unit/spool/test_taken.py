"""Duties of what is being stored, and where they stand."""

from mailserver.interfaces import Duty, Waiting
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.spool.taken import Taken, fresh_duties

A, B, C = (Recipient(Address(*text.split("@"))) for text in ("a@x.example", "b@y.example", "c@x.example"))


def test_each_destination_has_one_with_all_that_settling_it_takes():
    envelope = Envelope(QueueID("Q"), NULL_SENDER, (A, B, C, A), Origin(), 1.0)
    assert list(fresh_duties(7, envelope, (), "FILE", "id@x", 2.0)) == [
        (
            Duty(envelope, "x.example", (Waiting(A), Waiting(C), Waiting(A))),
            Taken(7, "FILE", {A: [0, 3], C: [2]}, "id@x", 2.0),
        ),
        (Duty(envelope, "y.example", (Waiting(B),)), Taken(7, "FILE", {B: [1]}, "id@x", 2.0)),
    ]


def test_who_is_held_is_in_none():
    envelope = Envelope(QueueID("Q"), NULL_SENDER, (A, B, C), Origin(), 1.0)
    ((duty, taken),) = fresh_duties(7, envelope, {0, 1}, None, "", 2.0)
    assert duty.waiting == (Waiting(C),)
    assert taken.numbers == {C: [2]}
    assert list(fresh_duties(7, envelope, {0, 1, 2}, None, "", 2.0)) == []

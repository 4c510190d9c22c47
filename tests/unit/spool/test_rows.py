"""Envelopes survive the way to rows and back, whatever they hold; so do outcomes."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.interfaces import Settlement, Waiting
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from mailserver.spool.rows import (
    envelope_row,
    read_address,
    read_envelope,
    read_waiting,
    recipient_row,
    settlement_row,
    spell_address,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
domains = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="@"), max_size=20)
addresses = st.one_of(st.just(NULL_SENDER), st.builds(Address, texts, domains))
words = st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"])
recipients = st.builds(Recipient, addresses, texts, st.none() | st.frozensets(words))
envelopes = st.builds(
    Envelope,
    st.just(QueueID("ABC")),
    addresses,
    st.lists(recipients, max_size=4).map(tuple),
    st.builds(Origin, texts, st.integers(0, 65535), texts, texts, texts, texts),
    st.floats(0, 4e9),
    st.integers(0, 1 << 40),
    st.sampled_from(["7BIT", "8BITMIME"]),
    st.booleans(),
    st.sampled_from(["", "FULL", "HDRS"]),
    texts,
    st.dictionaries(texts, texts, max_size=3),
)


@given(addresses)
def test_an_address_comes_back(address):
    assert read_address(spell_address(address)) == address


@given(envelopes)
def test_an_envelope_comes_back(envelope):
    rows = [
        (*recipient_row(1, number, each, 5.0)[2:5], 3, 1, None)
        for number, each in enumerate(envelope.recipients)
    ]
    back = read_envelope(envelope_row(envelope), rows)
    assert back == envelope
    assert back.marks == envelope.marks
    assert [read_waiting(row) for row in rows] == [Waiting(each, 3, True) for each in envelope.recipients]


def test_the_state_says_what_became_of_a_recipient():
    delayed = Delayed(Scope.HOST, "busy", "4.3.2", "mx", 421)
    table = [
        (Settlement(Delivered("ok")), ("delivered", None, False, 9.0, None, "2.0.0", "ok", "", 0)),
        (Settlement(delayed, 70.0, True), ("waiting", 70.0, True, 9.0, "host", "4.3.2", "busy", "mx", 421)),
        (Settlement(delayed), ("failed", None, False, 9.0, "host", "4.3.2", "busy", "mx", 421)),
        (
            Settlement(Failed(Scope.MESSAGE, "no", "5.7.1", "mx", 550)),
            ("failed", None, False, 9.0, "message", "5.7.1", "no", "mx", 550),
        ),
    ]
    for settlement, row in table:
        assert settlement_row(settlement, 9.0) == row

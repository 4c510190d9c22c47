"""The listings that are made of a snapshot."""

import pytest

from mailserver.mailboxes.contents import Contents, Message

CONTENTS = Contents([Message("cur", f"{n}.x", n * 10, b"uid%d" % n) for n in range(1, 4)])


def test_a_sequence_of_messages() -> None:
    assert len(CONTENTS) == 3
    assert [message.size for message in CONTENTS] == [10, 20, 30] == list(CONTENTS.sizes)
    assert CONTENTS[-1].uid == b"uid3"
    assert CONTENTS.octets == 60


@pytest.mark.parametrize(
    ("what", "without", "rows"),
    [
        ("size", set(), b"1 10\r\n2 20\r\n3 30\r\n"),
        ("uid", set(), b"1 uid1\r\n2 uid2\r\n3 uid3\r\n"),
        ("size", {1}, b"1 10\r\n3 30\r\n"),
        ("uid", {0, 2}, b"2 uid2\r\n"),
        ("uid", {0, 1, 2}, b""),
    ],
)
def test_listings(what: str, without: set[int], rows: bytes) -> None:
    assert CONTENTS.listing(what, without) == rows


def test_a_listing_is_made_once() -> None:
    assert CONTENTS.listing("uid") is CONTENTS.listing("uid")
    assert Contents().listing("size") == b""
    assert Contents().listing("size", set()) == b""

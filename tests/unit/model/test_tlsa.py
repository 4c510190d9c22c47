"""Which TLSA records count."""

import pytest

from mailserver.model.tlsa import TLSA, usable

KEY, SHA256, SHA512 = b"key", b"2" * 32, b"5" * 64


@pytest.mark.parametrize(
    ("records", "left"),
    [
        ([], []),
        ([(3, 1, 1, SHA256)], [0]),
        ([(2, 0, 2, SHA512)], [0]),
        ([(3, 0, 0, KEY)], [0]),
        # PKIX usages, and numbers that nobody has given a meaning (RFC 7672 §3.1.3)
        ([(0, 1, 1, SHA256), (1, 1, 1, SHA256), (4, 1, 1, SHA256)], []),
        ([(3, 2, 1, SHA256), (3, 1, 3, SHA256), (3, 1, 255, SHA256)], []),
        # digests that are none, and nothing at all
        ([(3, 1, 1, b"short"), (3, 1, 2, SHA256), (3, 1, 0, b"")], []),
        # one that cannot be used takes nothing from one that can
        ([(1, 1, 1, SHA256), (3, 1, 1, SHA256)], [1]),
        # of several digests of one kind the strongest, and what is no digest beside it (RFC 7671 §9)
        ([(3, 1, 1, SHA256), (3, 1, 2, SHA512), (3, 1, 0, KEY)], [1, 2]),
        ([(3, 1, 1, SHA256), (3, 0, 2, SHA512), (2, 1, 2, SHA512)], [0, 1, 2]),
    ],
)
def test_usable(records: list[tuple[int, int, int, bytes]], left: list[int]) -> None:
    found = [TLSA(*record) for record in records]
    assert usable(found) == tuple(found[number] for number in left)

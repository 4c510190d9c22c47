"""Random bits, each given once."""

import os

import pytest

from mailserver import entropy
from mailserver.entropy import Entropy


def test_as_many_as_were_asked_for() -> None:
    bits = Entropy()
    for count in (1, 7, 8, 31, 40, 64, 4096 * 8 + 1):
        numbers = [bits(count) for _ in range(50)]
        assert max(number.bit_length() for number in numbers) <= count
        if count >= 31:
            assert len(set(numbers)) == 50
            assert max(number.bit_length() for number in numbers) > count - 20


def test_every_octet_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[bytes] = []

    def fetch(count: int) -> bytes:
        fetched.append(os.getrandom(count))
        return fetched[-1]

    monkeypatch.setattr(entropy, "_FETCHED", 12)
    monkeypatch.setattr(entropy.os, "urandom", fetch)
    bits = Entropy()
    given = [bits(40) for _ in range(6)]
    assert given == [
        int.from_bytes(octets[begin : begin + 5], "big") for octets in fetched for begin in (0, 5)
    ]

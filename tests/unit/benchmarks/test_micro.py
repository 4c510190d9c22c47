"""The hot functions can be called with what they are given, and cost something."""

import pytest

from benchmarks.micro import MICRO, Micro, main, price


@pytest.mark.parametrize("micro", MICRO, ids=lambda micro: micro.name)
def test_a_price_is_found(micro: Micro) -> None:
    found = price(micro, shortest=0.0)
    assert found.microseconds >= 0
    micro.call()


def test_the_price_of_octets_is_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    work = Micro("work", lambda: b"x" * 100_000, 100_000)
    found = price(work, shortest=0.001)
    assert found.rate == pytest.approx(100_000 / found.microseconds)
    assert main(["dots: 64 KB of a file"]) == 0
    assert capsys.readouterr().out.count("MB/s") == 1

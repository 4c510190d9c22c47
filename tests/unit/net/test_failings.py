"""Hosts that failed lately go last."""

from mailserver.model.exchanger import Exchanger
from mailserver.net.failings import Failings

A, B, C = (Exchanger(f"mx{n}", f"192.0.2.{n}", 25, n * 10) for n in (1, 2, 3))


class Now:
    now = 0.0

    def __call__(self):
        return self.now


def test_who_failed_goes_last_for_a_minute():
    now = Now()
    failings = Failings(now)
    failings.failed(A)
    assert failings.order([A, B, C]) == (B, C, A)
    now.now = 59.9
    assert failings.order([A, B, C]) == (B, C, A)
    now.now = 60.0
    assert failings.order([A, B, C]) == (A, B, C)


def test_longer_each_time_but_ten_minutes_at_most():
    now = Now()
    failings = Failings(now)
    for lasts in (60, 120, 240, 480, 600, 600):
        failings.failed(A)
        now.now += lasts - 1
        assert failings.order([A, B]) == (B, A)
        now.now += 1
        assert failings.order([A, B]) == (A, B)


def test_an_answer_puts_it_back():
    failings = Failings(Now())
    failings.failed(A)
    failings.answered(A)
    assert failings.order([A, B]) == (A, B)


def test_all_that_failed_keep_their_order():
    failings = Failings(Now())
    for exchanger in (B, A):
        failings.failed(exchanger)
    assert failings.order([A, B, C]) == (C, A, B)


def test_bounded():
    failings = Failings(Now(), most=1)
    failings.failed(A)
    failings.failed(B)
    assert failings.order([A, B, C]) == (A, C, B)


def test_a_family_without_a_way_goes_last_within_each_host():
    failings = Failings(Now())
    six, four = Exchanger("mx", "2001:db8::9", 25), Exchanger("mx", "192.0.2.9", 25)
    for n in range(4):
        assert failings.order([six, four]) == ((six, four) if n < 3 else (four, six))
        failings.failed(Exchanger("x", f"2001:db8::{n}", 25))
    failings.answered(Exchanger("x", "2001:db8::1", 25))
    assert failings.order([six, four]) == (six, four)

"""Claims of messages, from two threads; played in one."""

import threading

from mailserver.spool.claims import Claims


def test_what_is_taken_is_known_until_it_is_dropped():
    claims = Claims()
    claims.add("x.example", 1)
    claims.add("x.example", 2)
    claims.add("y.example", 1)
    assert claims.of("x.example") == {1, 2}
    claims.drop([("x.example", 1), ("y.example", 1), ("z.example", 9)])
    assert claims.of("x.example") == {2}
    assert claims.of("y.example") == set()


def test_a_claim_counts_once_it_is_heeded_and_ends_as_any_other():
    claims = Claims()
    claims.claim([("x.example", 1), ("y.example", 1)])
    assert claims.of("x.example") == set()
    claims.heed()
    assert claims.of("x.example") == claims.of("y.example") == {1}
    claims.drop([("x.example", 1)])
    assert claims.of("x.example") == set()


def test_what_ended_before_its_claim_was_heeded_is_not_claimed_for_ever():
    claims = Claims()
    claims.claim([("x.example", 1)])
    claims.drop([("x.example", 1)])
    claims.heed()
    assert claims.of("x.example") == set()


def test_a_number_that_was_renounced_may_be_claimed_again():
    claims = Claims()
    claims.claim([("x.example", 1), ("x.example", 2)])
    claims.renounce([("x.example", 1), ("x.example", 2)])
    claims.claim([("y.example", 1), ("x.example", 2)])
    claims.heed()
    assert claims.of("x.example") == {2}
    assert claims.of("y.example") == {1}


def test_no_claim_of_another_thread_is_missed():
    claims = Claims()

    def claim():
        for number in range(20_000):
            claims.claim([("x.example", number)])

    thread = threading.Thread(target=claim)
    thread.start()
    while thread.is_alive():
        claims.heed()
    thread.join()
    claims.heed()
    assert len(claims.of("x.example")) == 20_000

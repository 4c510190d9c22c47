"""Collapsed stacks, counted for the part of the server on whose behalf there was work."""

from benchmarks.profile import shares

_LOOP = "run (x/site-packages/twisted/internet/base.py:10)"
_SERVER = "lineReceived (/srv/mailserver/smtp/server.py:20)"


def test_a_sample_counts_for_our_innermost_function_and_for_the_innermost_of_all() -> None:
    found = shares(
        [
            f"{_LOOP};{_SERVER};loads (/usr/lib/python3.11/json/__init__.py:30) 3",
            f"{_LOOP};{_SERVER};match (/srv/mailserver/access/networks.py:5) 2",
            f"{_LOOP};doPoll (x/site-packages/twisted/internet/epollreactor.py:7) 3",
            f"main (/srv/mailserver/workers/worker.py:9);{_LOOP};doPoll (x/site-packages/twisted/internet/epollreactor.py:7) 1",
            f"{_LOOP};iterate (/srv/mailserver/net/reactor.py:27);doRead (x/site-packages/twisted/internet/tcp.py:7) 1",
            "start (/usr/lib/python3.11/site.py:1);fire (/srv/mailserver/journal.py:9) 1",
            "collect (/usr/lib/python3.11/gc.py:1) 1",
        ]
    )
    assert found.parts == {"smtp": 3, "access": 2, "Twisted": 5, "journal": 1, "other": 1}
    assert found.functions == {
        "__init__.py: loads": 3,
        "access/networks.py: match": 2,
        "twisted/internet/epollreactor.py: doPoll": 4,
        "twisted/internet/tcp.py: doRead": 1,
        "journal.py: fire": 1,
        "gc.py: collect": 1,
    }


def test_threads_that_wait_and_lines_that_are_no_stacks_do_not_count() -> None:
    waiting = f"{_SERVER};get (/srv/mailserver/threads.py:1);Condition.wait (/usr/lib/python3.11/threading.py:320) 90"
    assert not shares([waiting, "", "no stack at all"]).parts

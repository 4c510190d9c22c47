"""LOGIN-DELAY: what counts as a login, and what is kept."""

from typing import Any

import pytest
from twisted.internet.task import Clock

from mailserver.interfaces import MaildropInUse
from mailserver.pop3.delay import LoginDelay, LoginTooEarly


async def maildrop() -> str:
    return "maildrop"


async def in_use() -> str:
    raise MaildropInUse


def run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def test_too_early_then_in_time_and_a_refusal_starts_no_clock() -> None:
    clock = Clock()
    delay = LoginDelay(60, clock.seconds)
    assert run(delay.open("alice", maildrop)) == "maildrop"
    for _ in range(5):
        clock.advance(11)
        with pytest.raises(LoginTooEarly) as early:
            run(delay.open("alice", maildrop))
        assert early.value.seconds == 60
    assert run(delay.open("bob", maildrop)) == "maildrop"
    clock.advance(5)
    assert run(delay.open("alice", maildrop)) == "maildrop"


def test_a_maildrop_in_use_is_no_login() -> None:
    clock = Clock()
    delay = LoginDelay(60, clock.seconds)
    with pytest.raises(MaildropInUse):
        run(delay.open("alice", in_use))
    assert run(delay.open("alice", maildrop)) == "maildrop"


def test_it_may_be_changed_at_any_time() -> None:
    clock = Clock()
    delay = LoginDelay(0, clock.seconds)
    for _ in range(3):
        run(delay.open("alice", maildrop))
    delay.seconds = 60
    run(delay.open("alice", maildrop))
    with pytest.raises(LoginTooEarly):
        run(delay.open("alice", maildrop))
    delay.seconds = 0
    assert run(delay.open("alice", maildrop)) == "maildrop"


def test_memory_is_bounded_and_what_is_past_is_forgotten() -> None:
    clock = Clock()
    delay = LoginDelay(60, clock.seconds, most=10)
    for number in range(100):
        run(delay.open(f"user{number}", maildrop))
    assert len(delay._logins) == 10
    clock.advance(60)
    run(delay.open("alice", maildrop))
    assert list(delay._logins) == ["alice"]


def test_a_reload_ends_it_while_somebody_comes_in() -> None:
    clock = Clock()
    delay = LoginDelay(60, clock.seconds)

    async def reloaded_meanwhile() -> str:
        delay.seconds = 0
        return await maildrop()

    # A maildrop that was opened and not handed out would stay locked.
    assert run(delay.open("alice", reloaded_meanwhile)) == "maildrop"
    # Another process, which has not reloaded yet, tells of one.
    delay.hear(["bob", clock.seconds()], 1)
    delay.seconds = 60
    assert run(delay.open("alice", maildrop)) == "maildrop"

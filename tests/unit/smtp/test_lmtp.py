"""LMTP in one transaction: an answer for each recipient, and what its lack means (RFC 2033 §4.2)."""

from collections.abc import Callable
from typing import Any

import pytest

from mailserver.model.outcome import Delayed, Delivered, Failed, Scope
from tests.unit.smtp.test_transaction import ALL, STUFFED, A, B, C, Play, envelope


def at_the_dot(extensions: dict[str, str] | None = None) -> Play:
    """A and C are accepted, B is not, the content has been sent."""
    play = Play((A, B, C), ALL if extensions is None else extensions, lmtp=True)
    play.says("250 ok", "250 ok", "550 5.1.1 no B", "250 ok")
    assert play.says("354 go") == STUFFED
    return play


def test_each_accepted_recipient_has_its_answer() -> None:
    play = at_the_dot()
    play.says("250 2.0.0 <a> saved", "552 5.2.2 <c> is full")
    assert play.outcomes() == {
        A: Delivered("250 2.0.0 <a> saved", "2.0.0", "mx"),
        B: Failed(Scope.RECIPIENT, "550 5.1.1 no B", "5.1.1", "mx", 550),
        C: Failed(Scope.RECIPIENT, "552 5.2.2 <c> is full", "5.2.2", "mx", 552),
    }
    assert play.conversation.is_idle


def test_the_answers_come_one_by_one() -> None:
    play = at_the_dot()
    play.says("451 4.3.0 later")
    assert not play.results
    assert not play.conversation.is_idle
    play.says("250 taken")
    outcomes = play.outcomes()
    assert outcomes[A] == Delayed(Scope.RECIPIENT, "451 4.3.0 later", "4.3.0", "mx", 451)
    assert outcomes[C] == Delivered("250 taken", "2.0.0", "mx")


def test_it_is_delivery_and_not_relaying() -> None:
    play = at_the_dot()
    play.says("250 taken", "250 taken")
    outcome: Any = play.outcomes()[A]
    assert outcome.final


@pytest.mark.parametrize("happening", [Play.hangs_up, lambda play: play.clock.advance(601)])
@pytest.mark.parametrize("answers", [0, 1])
def test_who_is_not_answered_for_is_in_doubt(happening: Callable[[Play], object], answers: int) -> None:
    play = at_the_dot()
    play.says(*["250 taken"] * answers)
    happening(play)
    outcomes: Any = play.outcomes()
    assert isinstance(outcomes[A], Delivered) is bool(answers)
    if not answers:
        assert outcomes[A].scope is Scope.DOUBT
    assert outcomes[C].scope is Scope.DOUBT
    assert outcomes[B] == Failed(Scope.RECIPIENT, "550 5.1.1 no B", "5.1.1", "mx", 550)


def test_421_to_one_leaves_the_others_in_doubt() -> None:
    play = at_the_dot()
    play.says("421 4.3.2 closing")
    outcomes: Any = play.outcomes()
    assert outcomes[A] == Delayed(Scope.RECIPIENT, "421 4.3.2 closing", "4.3.2", "mx", 421)
    assert outcomes[C].scope is Scope.DOUBT


def test_what_came_with_421_counts() -> None:
    play = at_the_dot()
    play.says("421 4.3.2 closing", "250 taken")
    assert isinstance(play.outcomes()[C], Delivered)


@pytest.mark.parametrize("answer", ["354 more?", "nonsense"])
def test_an_answer_without_sense(answer: str) -> None:
    play = at_the_dot()
    play.says("250 taken", answer)
    outcomes: Any = play.outcomes()
    assert isinstance(outcomes[A], Delivered)
    assert outcomes[C].scope is Scope.DOUBT


def test_one_answer_too_many_ends_the_connection() -> None:
    play = at_the_dot()
    play.says("250 taken", "250 taken", "250 taken")
    assert all(isinstance(play.outcomes()[one], Delivered) for one in (A, C))
    assert not play.conversation.is_idle


def test_nobody_accepted_and_354_all_the_same() -> None:
    """A dot would have no answer."""
    play = Play((A,), ALL, lmtp=True)
    play.says("250 ok", "550 5.1.1 no", "354 go")
    assert play.outcomes() == {A: Failed(Scope.RECIPIENT, "550 5.1.1 no", "5.1.1", "mx", 550)}
    assert not play.conversation.is_idle


def test_a_full_mailbox_is_not_too_many_recipients() -> None:
    play = Play((A, B), ALL, lmtp=True)
    play.says("250 ok", "250 ok", "552 5.2.2 full", "354 go")
    play.says("250 taken")
    assert play.outcomes()[B] == Failed(Scope.RECIPIENT, "552 5.2.2 full", "5.2.2", "mx", 552)
    assert not play.transaction.surplus


def test_requiretls_to_a_socket() -> None:
    """There is no network between that TLS could protect from, and the word is not said to who knows it not."""
    play = Play((A,), ALL, mail=envelope(requiretls=True), lmtp=True)
    assert isinstance(play.outcomes()[A], Failed)
    play = Play((A,), ALL, mail=envelope(requiretls=True), lmtp=True, private=True)
    assert b"REQUIRETLS" not in play.heard()
    play.says("250 ok", "250 ok", "354 go")
    play.says("250 taken")
    assert isinstance(play.outcomes()[A], Delivered)

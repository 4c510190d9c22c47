"""What is noticed of mail that goes less protected than before."""

from mailserver.model.exchanger import Level
from mailserver.smtp.levels import Levels

CLEAR, ENCRYPTED, VERIFIED = Level.CLEAR, Level.ENCRYPTED, Level.VERIFIED


def test_the_table() -> None:
    for went, told in [
        ([CLEAR, CLEAR], [None, None]),
        ([CLEAR, ENCRYPTED, VERIFIED, VERIFIED], [None] * 4),
        ([ENCRYPTED, CLEAR], [None, ENCRYPTED]),
        ([VERIFIED, ENCRYPTED], [None, VERIFIED]),
        # once, and once more when it gets worse still
        ([VERIFIED, CLEAR, CLEAR], [None, VERIFIED, None]),
        ([VERIFIED, ENCRYPTED, CLEAR], [None, VERIFIED, VERIFIED]),
        # a little better is not good, and again when it was at its best meanwhile
        ([VERIFIED, CLEAR, ENCRYPTED], [None, VERIFIED, None]),
        ([VERIFIED, CLEAR, VERIFIED, CLEAR], [None, VERIFIED, None, VERIFIED]),
    ]:
        levels = Levels()
        assert [levels.fell_from("example.org", level) for level in went] == told, went


def test_each_domain_by_itself() -> None:
    levels = Levels()
    assert levels.fell_from("a.example", VERIFIED) is None
    assert levels.fell_from("b.example", CLEAR) is None


def test_bounded() -> None:
    levels = Levels(2)
    for domain in ("a.example", "b.example", "c.example"):
        levels.fell_from(domain, VERIFIED)
    assert levels.fell_from("b.example", CLEAR) is VERIFIED
    assert levels.fell_from("a.example", CLEAR) is None

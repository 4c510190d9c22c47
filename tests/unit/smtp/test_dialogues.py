"""The golden dialogues of the SMTP server, in memory: in as few segments as they allow, and byte by byte."""

import pytest

from mailserver.model.envelope import Envelope
from tests.support.dialogue import Cut, Dialogue, MemoryWire, byte_by_byte, check_stored, load, play, whole
from tests.support.reception import Premises

DIALOGUES = load("smtp")


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=[dialogue.name for dialogue in DIALOGUES])
def test_dialogue(dialogue: Dialogue, cut: Cut) -> None:
    premises = Premises(dialogue.settings)
    wire = MemoryWire(premises.factory.buildProtocol(None), premises.client, cut)
    play(dialogue, wire)
    wire.drop()
    check_stored(dialogue, map(_facts, premises.spool.messages))
    assert all(draft.ended for draft in premises.spool.drafts), "a draft was left behind"
    assert not premises.clock.getDelayedCalls()


def _facts(message: tuple[Envelope, bytes]) -> tuple[str, list[str], bytes]:
    envelope, content = message
    assert envelope.size == len(content)
    return str(envelope.sender), [str(recipient.address) for recipient in envelope.recipients], content


def test_there_are_enough() -> None:
    assert len(DIALOGUES) >= 30

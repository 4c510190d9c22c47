"""What an attempt's outcome means for one recipient: wait, until when, or wait no more. Pure functions.

A delay becomes a failure when the message's lifetime is over (RFC 5321 §4.5.4.1): status 4.4.7, and the
last reply as it was, so that the report says what the trouble has been.
"""

from mailserver.interfaces import Settlement, Waiting
from mailserver.model.envelope import Envelope
from mailserver.model.outcome import Delayed, Failed, Outcome
from mailserver.model.retry import Schedule

__all__ = ["settlement"]

_SPREAD = 0.1


def settlement(
    envelope: Envelope, waiting: Waiting, outcome: Outcome, schedule: Schedule, now: float, chance: float
) -> Settlement:
    """What is to be recorded about a recipient after an attempt that ended now.

    :param now: in seconds since 1970.
    :param chance: from 0 to 1: shortens the wait by up to a tenth, so that what failed together does not come
        back together.
    """
    if not isinstance(outcome, Delayed):
        return Settlement(outcome)
    if schedule.is_over(envelope.arrived, now):
        return Settlement(Failed(outcome.scope, outcome.reply, "4.4.7", outcome.host, outcome.code))
    due = schedule.next_attempt(waiting.attempts + 1, envelope.arrived, now)
    if due != envelope.arrived + schedule.lifetime:  # the last attempt is at the end, not before
        due -= (due - now) * _SPREAD * chance
    return Settlement(outcome, due, waiting.warned)

"""What a worker does not keep itself: it tells its parent, or asks it.

Who uses the relay (:class:`~mailserver.access.devices.Devices`), and who has written to whom before
(:class:`~mailserver.access.acquaintances.Acquaintances`), stand in files, which one process keeps. What
clients of the relay have sent is told once a second, in numbers; what was refused them, as it happens.
"""

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailserver.access.profiles import Profile
from mailserver.machine.counters import Ledger
from mailserver.model.envelope import Origin
from mailserver.workers.channel import Channel
from mailserver.workers.sharing import Say

__all__ = ["Answering", "Asking"]


_MOMENT = 1.0
"""Seconds for which what was sent is added up."""

_Client = tuple[str, str, str, str]
"""Its address, its HELO, its network's name, and that one's owner."""


class Unanswered(Exception):
    """The parent could not say."""


class Asking:
    """The worker's end."""

    def __init__(self, channel: Channel, clock: IReactorTime) -> None:
        self._channel = channel
        self._clock = clock
        self._sent: dict[_Client, list[int]] = {}  # messages and recipients, not told yet
        self._telling: IDelayedCall | None = None
        self._numbers = count(1)
        self._asked: dict[int, Deferred[bool]] = {}

    async def meet(self, user: str, recipient: str, most: int, now: float) -> bool:
        """See :meth:`mailserver.machine.counters.Ledger.meet`. Raises :class:`Unanswered`."""
        number = next(self._numbers)
        # Whoever asked may be gone when the answer comes.
        answer = self._asked[number] = Deferred(lambda _: None)
        self._channel.say("meet", number, user, recipient, most, now)
        return await answer

    def answered(self, number: int, met: bool, trouble: str) -> None:
        """An answer has come."""
        answer = self._asked.pop(number)
        if answer.called:
            return
        if trouble:
            answer.errback(Unanswered(trouble))
        else:
            answer.callback(met)

    def sent(self, origin: Origin, profile: Profile, recipients: int) -> None:
        """See :meth:`mailserver.access.devices.Devices.sent`."""
        client = _spell(origin, profile)
        numbers = self._sent.get(client)
        if numbers is None:
            self._sent[client] = [1, recipients]
            if self._telling is None:
                self._telling = self._clock.callLater(_MOMENT, self.tell)
        else:
            numbers[0] += 1
            numbers[1] += recipients

    def refused(self, origin: Origin, profile: Profile, error: str) -> None:
        """See :meth:`mailserver.access.devices.Devices.refused`."""
        self.tell()
        self._channel.mention("device", *_spell(origin, profile), 0, 0, error)

    def tell(self) -> None:
        """Tell what was sent so far; also at the end."""
        if self._telling is not None and self._telling.active():
            self._telling.cancel()
        self._telling = None
        sent, self._sent = self._sent, {}
        for client, numbers in sent.items():
            self._channel.mention("device", *client, *numbers, "")


def _spell(origin: Origin, profile: Profile) -> _Client:
    return origin.address, origin.helo, profile.name, profile.owner


class Answering:
    """The parent's end.

    :param say: speaks to the worker.
    """

    def __init__(self, ledger: Ledger, say: Say) -> None:
        self._ledger = ledger
        self._say = say

    def heard(self) -> dict[str, Any]:
        """What a worker's messages are for."""
        return {"meet": self._meet, "device": self._note_device}

    def _meet(self, number: int, user: str, recipient: str, most: int, now: float) -> None:
        _ = Deferred.fromCoroutine(self._answer(number, user, recipient, most, now))

    async def _answer(self, number: int, user: str, recipient: str, most: int, now: float) -> None:
        try:
            met = await self._ledger.meet(user, recipient, most, now)
        except Exception as error:
            self._say("answer", number, False, str(error) or type(error).__name__)
        else:
            self._say("answer", number, met, "")

    def _note_device(
        self, address: str, helo: str, name: str, owner: str, messages: int, recipients: int, error: str
    ) -> None:
        origin, profile = Origin(address, helo=helo), Profile(name, owner)
        if error:
            self._ledger.devices.refused(origin, profile, error)
        else:
            self._ledger.devices.sent(origin, profile, recipients, messages)

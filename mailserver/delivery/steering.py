"""Steering the queue: what the administrator may order, as verbs of the control socket.

=================  ==================================================================================
``queue.hold``     whoever waits is held: not tried, and kept however long
``queue.release``  whoever is held waits again, and is due at once
``queue.retry``    whoever waits is due at once
``queue.reroute``  whoever is queued goes to this host instead of where it is routed; to none: as routed
``queue.bounce``   ended, with a report to the sender as for any failure (status 5.7.0)
``queue.drop``     ended, and nobody is told
``queue.edit``     another sender, other recipients
``queue.pause``    nothing more is begun for a destination, or for all, until …
``queue.resume``   … it is resumed
``rule.add``       mail that comes is held where the rule says so, until …
``rule.remove``    … the rule is removed
``queue.troubles`` nothing: it tells of the destinations where nobody can be spoken to
=================  ==================================================================================

All but the last five concern what the filters of the request select (:mod:`mailserver.spool.selecting`); a
request without any is declined unless it says ``all``. Long work is done in portions, each one durable, and
tells its progress; interrupted, what was done stays done. Each message concerned is in the journal.

A delivery that is under way is not cut off. Who is held meanwhile stays held if it does not succeed. An
end or an edit first holds what it selects, then waits up to a minute for what is under way. What is still
not ended then stays held, with the reason, and the answer counts it: ``under_way``.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from twisted.internet.task import deferLater

from mailserver import journal
from mailserver.delivery.recording import Recorder
from mailserver.delivery.runner import Runner
from mailserver.delivery.timing import Time
from mailserver.delivery.together import together
from mailserver.domains.hops import parse_reroute, spell_hop
from mailserver.domains.naming import parse_domain, parse_mailbox
from mailserver.interfaces import Declined, Duty, Settlement, StorageTrouble
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import QueueID
from mailserver.model.outcome import Failed, Scope
from mailserver.spool import orders
from mailserver.spool.listing import Key
from mailserver.spool.orders import NoSuchMessage, Portion
from mailserver.spool.selecting import Selection
from mailserver.spool.store import Spool

__all__ = ["Steering"]

_PORTION = 500
_ENDED_AT_ONCE = 100
_PATIENCE = 60.0
_PAUSE = 0.25
_CANCELLED = Failed(Scope.MESSAGE, "cancelled by the administrator", "5.7.0")

Request = Mapping[str, Any]
Tell = Callable[[object], None]
Verb = Callable[[Request, Tell], Awaitable[object]]


class Steering:
    """The verbs."""

    def __init__(self, spool: Spool, recorder: Recorder, runner: Runner, time: Time) -> None:
        self._spool = spool
        self._recorder = recorder
        self._runner = runner
        self._time = time
        self._number = count(1)

    def verbs(self) -> dict[str, Verb]:
        """By the names under which they are said."""
        return {
            "queue.hold": self._hold,
            "queue.release": partial(self._make_due, "release"),
            "queue.retry": partial(self._make_due, "retry"),
            "queue.reroute": self._reroute,
            "queue.bounce": partial(self._end, "bounce", self._bounce),
            "queue.drop": partial(self._end, "drop", self._drop),
            "queue.edit": self._edit,
            "queue.pause": self._pause,
            "queue.resume": self._resume,
            "rule.add": self._add_rule,
            "rule.remove": self._remove_rule,
            "queue.troubles": self._troubles,
        }

    # --- states

    async def _hold(self, request: Request, tell: Tell) -> object:
        reason = _text(request, "reason") or "by the administrator"
        done = await self._steer("hold", _selection(request), tell, reason)
        self._runner.give_back()
        return done

    async def _make_due(self, order: str, request: Request, tell: Tell) -> object:
        done = await self._steer(order, _selection(request), tell)
        self._runner.destinations.wake()
        self._runner.wake()
        return done

    async def _reroute(self, request: Request, tell: Tell) -> object:
        host = _text(request, "host")
        spelled = spell_hop(_sound(parse_reroute, host)) if host else None
        done = await self._steer("reroute", _selection(request), tell, spelled)
        self._runner.destinations.wake()
        self._runner.give_back()
        return done

    async def _steer(
        self, order: str, selection: Selection, tell: Tell, value: str | None = None
    ) -> dict[str, int]:
        """An order, portion by portion."""
        messages = recipients = 0
        after: Key | None = (-1, -1)
        while after is not None:
            portion: Portion = await self._spool.order(
                partial(
                    orders.steer,
                    order=order,
                    selection=selection,
                    after=after,
                    limit=_PORTION,
                    now=self._time.now(),
                    value=value,
                )
            )
            for id, number in portion.messages.items():
                journal.steered(order, id, number, value or "")
            messages += len(portion.messages)
            recipients += portion.recipients
            after = portion.last
            if after is not None:
                tell({"recipients": recipients})
        return {"messages": messages, "recipients": recipients}

    # --- ends

    async def _end(
        self, order: str, end: Callable[[Duty], Awaitable[None]], request: Request, tell: Tell
    ) -> object:
        """Hold what is selected, then end it as it becomes free."""
        reason = f"{order} by the administrator ({self._time.now():.0f}.{next(self._number)})"
        selected = await self._steer("arrest", _selection(request), tell, reason)
        self._runner.give_back()
        ended = 0

        async def all_of(duties: list[Duty]) -> None:
            nonlocal ended
            await together(self._or_give_back(end, duty) for duty in duties)
            ended += sum(len(duty.waiting) for duty in duties)
            tell({"recipients": ended, "of": selected["recipients"]})

        under_way = await self._once_free(reason, all_of)
        self._runner.wake()
        return {"messages": selected["messages"], "recipients": ended, "under_way": under_way}

    async def _once_free(self, hold: str, work: Callable[[list[Duty]], Awaitable[None]]) -> int:
        """Do something to all that is held for a reason, once it is not under way; how much still is."""
        until = self._time.timers.seconds() + _PATIENCE
        while True:
            busy = 0
            after: int | None = -1
            while after is not None:
                duties, taken, after = await self._spool.seize(hold, after, _ENDED_AT_ONCE)
                busy += taken
                if duties:
                    await work(duties)
            if not busy or self._time.timers.seconds() >= until:
                return busy
            await deferLater(self._time.timers, _PAUSE)

    async def _or_give_back(self, end: Callable[[Duty], Awaitable[None]], duty: Duty) -> None:
        try:
            await end(duty)
        except BaseException:
            self._spool.release(duty)
            raise

    async def _bounce(self, duty: Duty) -> None:
        try:
            content = await self._spool.content(duty.envelope.id)
        except StorageTrouble as trouble:
            journal.trouble("the stored message cannot be read", trouble, id=duty.envelope.id)
            content = None
        outcomes = dict.fromkeys((waiting.recipient for waiting in duty.waiting), _CANCELLED)
        await self._recorder.record(duty, outcomes, content)

    async def _drop(self, duty: Duty) -> None:
        dropped = Failed(Scope.MESSAGE, "dropped by the administrator", "5.7.0")
        settlements = {waiting.recipient: Settlement(dropped) for waiting in duty.waiting}
        await self._spool.settle(duty, settlements, ())
        for recipient in settlements:
            journal.failed(duty.envelope.id, recipient.address, dropped)

    # --- one message's envelope

    async def _edit(self, request: Request, tell: Tell) -> object:
        id = QueueID(_text(request, "id").upper())
        change = _sound(partial(_change, id, self._time.now()), request)
        reason = f"edit by the administrator ({self._time.now():.0f}.{next(self._number)})"
        held = await self._steer("hold", Selection(ids=(id,)), tell, reason)
        self._runner.give_back()
        duties: list[Duty] = []
        try:
            if not await self._seize_all(reason, held["recipients"], duties):
                raise Declined(f"{id} is being delivered now: look again in a while")
            await self._spool.order(change)
            self._spool.changed(id)
        except NoSuchMessage as refusal:
            raise Declined(str(refusal)) from None
        finally:
            for duty in duties:
                self._spool.release(duty)
            if held["recipients"]:
                await self._steer("release", Selection(hold=reason), tell)
            self._runner.wake()
        journal.steered("edit", id, len(duties), _spell_change(request))
        return {"messages": 1}

    async def _seize_all(self, reason: str, number: int, duties: list[Duty]) -> bool:
        """Take all that is held for an edit of one message; whether nothing of it is under way any more."""
        until = self._time.timers.seconds() + _PATIENCE
        while number:
            more, busy, _ = await self._spool.seize(reason, -1, 1)
            duties.extend(more)
            # Who is in a duty of ours counts as taken, too.
            if busy + len(more) == len(duties):
                break
            if self._time.timers.seconds() >= until:
                return False
            await deferLater(self._time.timers, _PAUSE)
        return True

    # --- what stands

    async def _pause(self, request: Request, tell: Tell) -> object:
        name = _destination(request)
        await self._spool.order(partial(orders.pause, name=name, now=self._time.now()))
        journal.steered("pause", "", 0, name)
        self._runner.give_back()
        return {"paused": name}

    async def _resume(self, request: Request, tell: Tell) -> object:
        name = _destination(request)
        if not await self._spool.order(partial(orders.resume, name=name)):
            raise Declined(f"{'the queue' if name == orders.EVERYTHING else name} is not paused")
        journal.steered("resume", "", 0, name)
        self._runner.wake()
        return {"resumed": name}

    async def _add_rule(self, request: Request, tell: Tell) -> object:
        field, value = _text(request, "field"), _text(request, "value")
        if field not in orders.FIELDS:
            raise Declined(f"a rule looks at one of {', '.join(orders.FIELDS)}")
        spelled = _sound(partial(_rule_value, field), value)
        now = self._time.now()
        number = await self._spool.order(partial(orders.add_rule, field=field, value=spelled, now=now))
        journal.steered("rule add", "", 0, f"{number}: hold {field} {spelled}")
        return {"rule": number}

    async def _remove_rule(self, request: Request, tell: Tell) -> object:
        number = request.get("number")
        if not isinstance(number, int) or not await self._spool.order(
            partial(orders.remove_rule, number=number)
        ):
            raise Declined(f"there is no rule {number}")
        journal.steered("rule remove", "", 0, str(number))
        return {"rule": number}

    async def _troubles(self, request: Request, tell: Tell) -> object:
        return self._runner.destinations.told()


def _sound(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise Declined(str(error)) from None


def _text(request: Request, name: str) -> str:
    value = request.get(name) or ""
    if not isinstance(value, str):
        raise Declined(f"{name} is not text")
    return value


def _selection(request: Request) -> Selection:
    selection: Selection = _sound(Selection.from_request, request)
    if selection.is_everything and request.get("all") is not True:
        raise Declined("name queue IDs or filters, or say that all of the queue is meant")
    return selection


def _destination(request: Request) -> str:
    name = _text(request, "domain")
    return orders.EVERYTHING if name in ("", orders.EVERYTHING) else str(_sound(parse_domain, name))


def _address(text: str) -> Address:
    return NULL_SENDER if text == "<>" else parse_mailbox(text.strip("<>"))


def _rule_value(field: str, text: str) -> str:
    if field == "domain" or "@" not in text.lstrip("@"):
        return "<>" if text == "<>" and field == "sender" else parse_domain(text.lstrip("@"))
    return _address(text).key


def _change(id: str, now: float, request: Request) -> Callable[..., Portion]:
    """The change that an edit asks for. Raises ``ValueError``."""
    replaced, added, removed = (request.get(name) or () for name in ("replace", "add", "remove"))
    sender = _text(request, "sender")
    if not (sender or replaced or added or removed):
        raise ValueError("nothing to change is named")
    return partial(
        orders.edit,
        id=id,
        sender=_address(sender) if sender else None,
        replaced={str(old).strip("<>"): parse_mailbox(str(new)) for old, new in replaced},
        added=[parse_mailbox(str(one)) for one in added],
        removed=[str(one).strip("<>") for one in removed],
        now=now,
    )


def _spell_change(request: Request) -> str:
    parts = [f"sender {request['sender']}"] if request.get("sender") else []
    parts += [f"{old} becomes {new}" for old, new in request.get("replace") or ()]
    parts += [f"with {one}" for one in request.get("add") or ()]
    parts += [f"without {one}" for one in request.get("remove") or ()]
    return ", ".join(parts)

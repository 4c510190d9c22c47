"""Which of the mail in the spool is meant: the filters of the queue tools, as SQL.

A selection is a conjunction; one that names nothing selects everything. It selects recipients: a message to
two domains is there twice, and ``--domain`` means only the one. Addresses are compared without regard to
case; where a filter names no local part (``example.org`` or ``@example.org``) it means the whole domain, and
``<>`` is the null sender.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

__all__ = ["JOINED", "OPEN", "Selection"]

JOINED = "recipient AS r CROSS JOIN message AS m ON m.number = r.message"
"""What a selection's condition is about. The recipients are walked in the order of their key."""

OPEN = ("waiting", "held")

_TEXTS = ("sender", "recipient", "domain", "error", "state", "hold")


@frozen
class Selection:
    """Some of the recipients in the spool.

    :ivar ids: queue IDs; empty: of any message.
    :ivar sender: an address, a domain or ``<>``.
    :ivar recipient: an address or a domain.
    :ivar domain: the destination.
    :ivar error: words of the last reply, or its status code.
    :ivar state: ``waiting`` or ``held``; empty: both.
    :ivar hold: the very reason of those that are held.
    :ivar before: arrived before that time; 0: whenever.
    """

    ids: tuple[str, ...] = ()
    sender: str = ""
    recipient: str = ""
    domain: str = ""
    error: str = ""
    state: str = ""
    hold: str = ""
    before: float = 0.0

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> "Selection":
        """Take one out of a request made of JSON. Raises ``ValueError`` for what is none."""
        ids = request.get("ids", [])
        texts = {name: request.get(name, "") for name in _TEXTS}
        before = request.get("before", 0.0)
        sound = isinstance(ids, list) and all(isinstance(one, str) for one in (*ids, *texts.values()))
        if not sound or not isinstance(before, int | float) or texts["state"] not in ("", *OPEN):
            raise ValueError("these are not filters")
        return cls(ids=tuple(ids), before=before, **texts)

    @property
    def is_everything(self) -> bool:
        """Whether it names nothing."""
        return self == Selection()

    def of(self, states: Sequence[str]) -> "Selection | None":
        """Only those in one of the states; ``None`` when there can be none."""
        if self.state and self.state not in states:
            return None
        return self if len(states) > 1 else evolve(self, state=states[0])

    def condition(self) -> tuple[str, list[object]]:
        """As an SQL condition about :data:`JOINED`, and its parameters."""
        terms = ["r.state = ?"] if self.state else ["r.state IN ('waiting', 'held')"]
        values: list[object] = [self.state] if self.state else []
        if self.ids:
            terms.append("m.id IN (SELECT value FROM json_each(?))")
            values.append("[" + ",".join(f'"{_only_plain(one)}"' for one in self.ids) + "]")
        for column, filter in (("m.sender", self.sender), ("r.address", self.recipient)):
            if filter:
                term, value = _address(column, filter)
                terms.append(term)
                values.append(value)
        for term, text in (("r.destination = ?", self.domain.lower()), ("r.hold = ?", self.hold)):
            if text:
                terms.append(term)
                values.append(text)
        if self.error:
            terms.append("(instr(lower(r.reply), lower(?)) OR r.status = ? OR r.code = ?)")
            values += [self.error, self.error, self.error]
        if self.before:
            terms.append("m.arrived < ?")
            values.append(self.before)
        return " AND ".join(terms), values


def _only_plain(id: str) -> str:
    # Queue IDs are letters and digits; anything else can only be a mistake, and matches nothing.
    return id.upper() if id.isascii() and id.isalnum() else ""


def _address(column: str, filter: str) -> tuple[str, str]:
    filter = filter.lower()
    if filter == "<>":
        return f"{column} = ?", ""
    filter = filter.removeprefix("<").removesuffix(">")
    local, at, domain = filter.rpartition("@")
    if local:
        return f"lower({column}) = ?", filter
    suffix = "@" + domain if at or domain else ""
    return f"substr(lower({column}), -{len(suffix)}) = ?", suffix

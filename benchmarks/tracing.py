"""What strace saw, as values; and the law that is held against it: durable before 250.

A call is known by the lines of the trace between which it ran. A sync covers what had ended before it
began, and a reply may lean on what had ended before the reply was begun: so two threads that run at once
prove nothing for each other.

The law: of every message that was acknowledged,

- every file that it was written to before the reply, history and log aside, was synced after the write;
- a file in a Maildir's ``tmp/`` was given another name, and the directory of every such name was synced
  after;
- the directory of any other file that was made for it was synced after.

The file is synced by ``fsync`` or ``fdatasync`` of itself, under whichever name, or by ``syncfs``. In a
database's log there is more than one message, and more is written all the time: there the first write that
holds the message's ID counts. In any other file it is the last one.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

__all__ = ["CALLS", "Audit", "Call", "audit", "calls"]

_WRITES = frozenset({"write", "pwrite64", "writev", "pwritev"})
_SAYS = _WRITES | {"sendto", "sendmsg"}
_SYNCS = frozenset({"fsync", "fdatasync", "syncfs"})
_NAMES = frozenset({"link", "linkat", "rename", "renameat", "renameat2"})

CALLS = tuple(sorted(_SAYS | _SYNCS | _NAMES | {"openat"}))
"""What has to be traced."""

_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)")
_RESULT = re.compile(r"\) += (-?\d+)[^\"]*$")
_DESCRIPTOR = re.compile(r"\d+<([^>]*(?:->[^>]*)?)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ACKNOWLEDGED = re.compile(r"250 2\.0\.0 Ok: queued as (\w+)")
_BESIDE = ("history", ".log", "etilqs_")
"""In names of files that are written beside the mail and are no home to it; the last are SQLite's scratch."""


@frozen
class Call:
    """One system call that has succeeded.

    :ivar path: of the file, or of the socket, that its first argument is open on.
    :ivar texts: its arguments that are texts: what is written, or the names of files.
    :ivar begun: the line of the trace on which it began; ``ended``: the one on which it had ended.
    """

    name: str
    path: str
    texts: tuple[str, ...]
    arguments: str
    begun: int
    ended: int


@define
class Audit:
    """What came of it.

    :ivar acknowledged: messages for which a 250 was seen.
    :ivar syncs: how many of each kind there were.
    :ivar broken: what the law was broken by, in words.
    """

    acknowledged: int = 0
    syncs: Counter[str] = field(factory=Counter)
    broken: list[str] = field(factory=list)


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a trace by ``strace -f -y`` that did not fail, in the order in which they ended."""
    pending: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, name, rest = found.groups()
        if rest.endswith("<unfinished ...>"):
            pending[thread] = number, rest.removesuffix("<unfinished ...>")
            continue
        begun, before = pending.pop(thread, (number, "")) if "resumed>" in line else (number, "")
        arguments = before + rest
        result = _RESULT.search(arguments)
        if result is not None and not result[1].startswith("-"):
            descriptor = _DESCRIPTOR.match(arguments)
            path = descriptor[1] if descriptor else ""
            yield Call(name, path, tuple(_TEXT.findall(arguments)), arguments, begun, number)


def audit(trace: Iterable[Call]) -> Audit:
    """Hold the law against a trace."""
    seen = list(trace)
    replies = [(id, call) for call in seen for id in _acknowledged(call)]
    known = _Files(seen, frozenset(id for id, _ in replies))
    result = Audit(len(replies), Counter(call.name for call in seen if call.name in _SYNCS))
    for id, reply in replies:
        result.broken += [f"{id}: {trouble}" for trouble in known.troubles(id, reply.begun)]
    return result


def _acknowledged(call: Call) -> Iterator[str]:
    """The IDs of messages that the call tells a client, not a file, are taken."""
    if call.name in _SAYS and not call.path.startswith("/"):
        for text in call.texts:
            yield from _ACKNOWLEDGED.findall(text)


class _Files:
    """What was done to files, found by message and by path.

    :param ids: the messages that matter.
    """

    def __init__(self, seen: Iterable[Call], ids: frozenset[str]) -> None:
        self._writes: dict[str, list[Call]] = {}
        self._homes: dict[str, dict[str, list[Call]]] = {}  # by message, then by path
        self._syncs: dict[str, list[Call]] = {}
        self._made: dict[str, Call] = {}
        self._names: dict[str, list[tuple[str, Call]]] = {}
        # IDs begin with the time: what they have in common finds them fast.
        common = os.path.commonprefix(list(ids))  # noqa: RUF071 - of characters, as it says
        length = max(map(len, ids), default=0) - len(common)
        self._candidate = re.compile(f"(?=({re.escape(common)}\\w{{{length}}}))")
        self._ids = ids
        for call in seen:
            self._take(call)

    def _take(self, call: Call) -> None:
        if call.name in _WRITES and call.path.startswith("/"):
            self._take_write(call)
        elif call.name in _SYNCS:
            self._syncs.setdefault("" if call.name == "syncfs" else call.path, []).append(call)
        elif call.name in _NAMES and len(call.texts) == 2:
            self._names.setdefault(call.texts[0], []).append((call.texts[1], call))
        elif call.name == "openat" and "O_CREAT" in call.arguments and call.texts:
            self._made.setdefault(call.texts[0], call)

    def _take_write(self, call: Call) -> None:
        if any(word in os.path.basename(call.path) for word in _BESIDE):
            return
        self._writes.setdefault(call.path, []).append(call)
        for text in call.texts:
            for id in self._ids.intersection(self._candidate.findall(text)):
                self._homes.setdefault(id, {}).setdefault(call.path, []).append(call)

    def troubles(self, id: str, reply: int) -> Iterator[str]:
        """What the law says against a reply that began on this line."""
        homes = {path: writes for path, writes in self._homes.get(id, {}).items() if writes[0].ended < reply}
        if not homes:
            yield "was acknowledged and written nowhere"
        for path, writes in homes.items():
            last = [write for write in self._writes[path] if write.ended < reply][-1]
            write = writes[0] if path.endswith("-wal") else last
            if not any(self._covered(name, write.ended, reply) for name in self._known_as(path)):
                yield f"{path} was not synced before the reply"
            yield from self._unnamed(path, reply)

    def _unnamed(self, path: str, reply: int) -> Iterator[str]:
        names = [(name, call) for name, call in self._names.get(path, ()) if call.ended < reply]
        if not names and os.path.basename(os.path.dirname(path)) == "tmp":
            yield f"{path} had no other name before the reply"
        elif not names and path in self._made:
            names = [(path, self._made[path])]
        for name, call in names:
            directory = os.path.dirname(name)
            if not self._covered(directory, call.ended, reply):
                yield f"{directory} was not synced before the reply"

    def _known_as(self, path: str) -> list[str]:
        """A file that was moved is shown by its new name where it is synced."""
        return [path, *(name for name, _ in self._names.get(path, ()))]

    def _covered(self, path: str, since: int, reply: int) -> bool:
        syncs = [*self._syncs.get(path, ()), *self._syncs.get("", ())]
        return any(since < sync.begun and sync.ended < reply for sync in syncs)

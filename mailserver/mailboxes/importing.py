"""Mail from elsewhere into a mailbox, and a mailbox's mail out of it: Maildir and mbox.

Messages come in like deliveries: written to ``tmp/``, made durable, then linked; a running server and mail
programs may use the mailbox meanwhile. Flags and the times of arrival are kept. No quota is asked, but what
comes counts. An mbox is read and written in its "rd" form: a line that is ``From`` behind any number of ``>``
has one ``>`` more in the file than in the mail.

Blocks. Raises ``OSError``, and :class:`NotMail` for what is neither.
"""

import calendar
import mailbox
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from attrs import frozen

from mailserver.interfaces import StorageTrouble
from mailserver.mailboxes import filenames
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.mailboxes.incoming import Copy, Incoming, commit
from mailserver.mailboxes.maildir import PARTS, Disk
from mailserver.mailboxes.quota import Limit
from mailserver.mailboxes.snapshot import open_message
from mailserver.wire.trace import field_values

__all__ = ["Letter", "NotMail", "Source", "export_maildir", "export_mbox", "groups", "open_source", "take_in"]

_GROUP = 64
_GROUP_OCTETS = 16 * 2**20
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_FLAGS = re.compile(r"[A-Za-z]*")
_STATUS_FLAGS = {"R": "S", "A": "R", "F": "F", "T": "D", "D": "T"}
_STATUS = re.compile(rb"^(?:X-)?Status:.*\n", re.MULTILINE | re.IGNORECASE)
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")


class NotMail(Exception):
    """Neither a Maildir nor an mbox."""


@frozen
class Letter:
    """A message from elsewhere.

    :ivar flags: those of its Maildir name; ``None``: it is new.
    :ivar arrived: in seconds since 1970, if that is known.
    """

    content: bytes
    flags: str | None
    arrived: float | None


@frozen
class Source:
    """Where mail comes from: how many messages, and the messages one by one."""

    count: int
    letters: Iterator[Letter]


def open_source(path: Path) -> Source:
    """A Maildir's inbox or an mbox. Raises :class:`NotMail`."""
    if (path / "cur").is_dir():
        found = [file for part in ("cur", "new") for file in sorted((path / part).iterdir())]
        files = [file for file in found if filenames.is_message(file.name) and file.is_file()]
        files.sort(key=lambda file: filenames.facts(file.name).arrival)
        return Source(len(files), map(_read, files))
    if not path.is_file():
        raise NotMail(f"{path} is neither a Maildir nor an mbox")
    with path.open("rb") as file:
        beginning = file.read(5)
    if beginning and beginning != b"From ":
        raise NotMail(f"{path} is not an mbox: it does not begin with a From line")
    box = mailbox.mbox(path, create=False)
    return Source(len(box), _unpack_all(box))


def groups(source: Source, directory: Path, names: UniqueNames, disk: Disk) -> Iterator[Sequence[Incoming]]:
    """All messages, on their way into a mailbox, as many at a time as are made durable together."""
    waiting: list[Incoming] = []
    octets = 0
    for letter in source.letters:
        copy = Copy(directory, names.make(), Limit(), letter.flags)
        waiting.append(Incoming([copy], disk, letter.content, letter.arrived))
        octets += len(letter.content)
        if len(waiting) >= _GROUP or octets >= _GROUP_OCTETS:
            yield waiting
            waiting, octets = [], 0
    if waiting:
        yield waiting


def take_in(group: Sequence[Incoming], disk: Disk, prepare: Callable[[Path], None]) -> int:
    """Put a group of messages where they go; how many it was.

    Raises :class:`StorageTrouble`: some of the group may be in, then.
    """
    for (failure,) in commit(group, disk, prepare):
        if failure is not None:
            raise failure if isinstance(failure, StorageTrouble) else StorageTrouble(repr(failure))
    return len(group)


def export_maildir(messages: Sequence[Path], target: Path) -> Iterator[int]:
    """Copy messages into a Maildir of their own, names and times as they are."""
    for part in PARTS:
        (target / part).mkdir(parents=True, exist_ok=True)
    for path in messages:
        shutil.copy2(path, target / path.parent.name / path.name)
        yield 1


def export_mbox(messages: Sequence[Path], target: Path) -> Iterator[int]:
    """Append messages to an mbox, with lines that say when each arrived and from whom, and its flags."""
    with target.open("ab") as file:
        for path in messages:
            letter = _read(path)
            (sender, *_) = (*field_values(_header(letter.content), "Return-Path"), b"")
            who = sender.strip(b"<> ").replace(b" ", b"") or b"MAILER-DAEMON"
            when = time.asctime(time.gmtime(letter.arrived or 0)).encode("ascii")
            content = _FROM.sub(rb">\1", _with_status(letter))
            file.write(b"From " + who + b" " + when + b"\n" + content + b"\n")
            yield 1
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Letter:
    fd = open_message(path)
    with open(fd, "rb") as file:
        content, arrived = file.read(), os.fstat(fd).st_mtime
    info = path.name.partition(":2,")[2]
    flags = info if _FLAGS.fullmatch(info) else ""
    return Letter(content, flags if path.parent.name == "cur" else None, arrived)


def _unpack_all(box: mailbox.mbox) -> Iterator[Letter]:
    with closing(box):
        for key in box.iterkeys():
            yield _unpack(box.get_bytes(key, from_=True))


def _unpack(text: bytes) -> Letter:
    """A message of an mbox, with its From line."""
    first, _, content = text.partition(b"\n")
    content = _QUOTED_FROM.sub(rb"\1", content)
    header = _header(content)
    fields = (*field_values(header, "Status"), *field_values(header, "X-Status"))
    status = b"".join(fields).decode("ascii", "replace")
    flags = "".join(sorted({_STATUS_FLAGS[letter] for letter in status if letter in _STATUS_FLAGS}))
    return Letter(_without_status(content), flags if flags or "O" in status else None, _when(first))


def _when(line: bytes) -> float | None:
    """When a message came, by its From line."""
    words = line.decode("ascii", "replace").split()[-5:]
    try:
        return float(calendar.timegm(time.strptime(" ".join(words), "%a %b %d %H:%M:%S %Y")))
    except ValueError:
        return None


def _header(content: bytes) -> bytes:
    end = _END_OF_HEADER.search(content)
    header = content[: end.end()] if end else content[: 64 * 1024]
    return header.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _with_status(letter: Letter) -> bytes:
    """The content, with Status fields that say its flags, in the place of any that are in it."""
    content = _without_status(letter.content)
    if letter.flags is None:
        return content
    back = {flag: status for status, flag in _STATUS_FLAGS.items()}
    first = b"Status: RO\n" if "S" in letter.flags else b"Status: O\n"
    rest = "".join(back[flag] for flag in letter.flags if flag in back and flag != "S")
    return first + (f"X-Status: {rest}\n".encode() if rest else b"") + content


def _without_status(content: bytes) -> bytes:
    """Without the fields in which mail programs keep flags in an mbox; they are no part of the mail."""
    end = _END_OF_HEADER.search(content)
    at = end.start() + 1 if end else len(content)
    return _STATUS.sub(b"", content[:at]) + content[at:]

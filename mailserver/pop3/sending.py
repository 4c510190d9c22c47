"""Bulk on its way to a POP3 client: listings and messages, in pieces, while the client reads.

No more than a piece is in memory beside a listing that is there anyway. What is small goes out in one write
with its status line.
"""

from collections.abc import Awaitable
from typing import Any

from twisted.internet.task import deferLater

from mailserver.net.session import Session
from mailserver.pop3.excerpt import Excerpt
from mailserver.wire.dots import Stuffer

__all__ = ["NotReceived", "Unfinished", "send_listing", "send_message", "until_received"]

_CHUNK = 64 * 1024
_HEADER = 8 * 1024  # octets in which most headers end


class Unfinished(Exception):
    """Part of a message has gone out and the rest cannot: the connection must end. The cause says why."""


class NotReceived(Exception):
    """The peer has not taken what it was sent, and time is up."""


def send_listing(session: Session, status: bytes, rows: bytes) -> Awaitable[None] | None:
    """Send a status line, rows and the final dot."""
    if len(rows) <= _CHUNK:
        session.reply(b"".join([status, rows, b".\r\n"]))
        return None
    return _send_pieces(session, status, rows)


async def _send_pieces(session: Session, status: bytes, rows: bytes) -> None:
    session.reply(status)
    for start in range(0, len(rows), _CHUNK):
        await session.send(rows[start : start + _CHUNK])
    session.reply(b".\r\n")


async def send_message(session: Session, status: bytes, message: Any, excerpt: Excerpt | None) -> None:
    """Send a status line and a message, or an excerpt of it.

    :param message: read with ``await read(octets)`` until it is empty, and closed in any case.

    Raises what reading raises, while nothing has been sent; after that :class:`Unfinished`.
    """
    stuffer, out, begun = Stuffer(), status, False
    length = _CHUNK if excerpt is None else _HEADER
    try:
        # Nothing is promised before the file has been read from: it may have gone.
        while data := await message.read(length):
            if out is not status:
                begun = True
                await session.send(out)
                out = b""
            out += stuffer.feed(excerpt.feed(data) if excerpt else data)
            if excerpt and excerpt.complete:
                break
            # An excerpt that goes on is read in larger pieces: no more than twice what it needs.
            length = min(2 * length, _CHUNK)
    except Exception as trouble:
        if begun:
            raise Unfinished from trouble
        raise
    finally:
        message.close()
    session.reply(out + stuffer.finish())


async def until_received(session: Session, mark: int) -> None:
    """Wait until the peer's kernel has all that was said up to a mark, a value of ``session.said``.

    Also what is behind us, in the kernel's buffers, is lost with a connection: megabytes of it. Raises
    :class:`NotReceived` when it takes longer than a session may be idle.
    """
    if session.tls:
        # TLS passes small writes on in the reactor's next turn.
        await deferLater(session.clock, 0)
    await session.send(b"")
    deadline, pause = session.clock.seconds() + session.bounds.idle, 0.0
    # What was said behind the mark is shorter than the octets it became, if anything: an error means a wait.
    while session.isBehind(session.said - mark):
        if session.clock.seconds() >= deadline:
            raise NotReceived
        await deferLater(session.clock, pause)
        pause = min(2 * pause + 0.005, 1.0)

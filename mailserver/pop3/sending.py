"""Bulk on its way to a POP3 client: listings and messages, in pieces, while the client reads.

No more than a piece is in memory. What is small goes out in one write with its status line.
"""

from collections.abc import Awaitable, Iterator
from itertools import islice
from typing import Any

from mailserver.net.session import Session
from mailserver.pop3.excerpt import Excerpt
from mailserver.wire.dots import Stuffer

__all__ = ["Unfinished", "send_listing", "send_message"]

_CHUNK = 64 * 1024
_LINES = 1000  # of a listing in one piece


class Unfinished(Exception):
    """Part of a message has gone out and the rest cannot: the connection must end. The cause says why."""


def send_listing(session: Session, status: bytes, lines: Iterator[bytes]) -> Awaitable[None] | None:
    """Send a status line, lines and the final dot."""
    first = list(islice(lines, _LINES))
    if len(first) < _LINES:
        session.reply(b"".join([status, *first, b".\r\n"]))
        return None
    return _send_pieces(session, b"".join([status, *first]), lines)


async def _send_pieces(session: Session, piece: bytes, lines: Iterator[bytes]) -> None:
    while piece:
        await session.send(piece)
        piece = b"".join(islice(lines, _LINES))
    session.reply(b".\r\n")


async def send_message(session: Session, status: bytes, message: Any, excerpt: Excerpt | None) -> None:
    """Send a status line and a message, or an excerpt of it.

    :param message: read with ``await read(octets)`` until it is empty, and closed in any case.

    Raises what reading raises, while nothing has been sent; after that :class:`Unfinished`.
    """
    stuffer, out, begun = Stuffer(), status, False
    try:
        # Nothing is promised before the file has been read from: it may have gone.
        while data := await message.read(_CHUNK):
            if out is not status:
                begun = True
                await session.send(out)
                out = b""
            out += stuffer.feed(excerpt.feed(data) if excerpt else data)
            if excerpt and excerpt.complete:
                break
    except Exception as trouble:
        if begun:
            raise Unfinished from trouble
        raise
    finally:
        message.close()
    session.reply(out + stuffer.finish())

"""The part of an SMTP session that takes a message's content: DATA and BDAT (RFC 5321 §4.1.1.4, RFC 3030).

Promises:

- Only CRLF.CRLF ends what follows DATA. A message that cannot be accepted is read to its real end and
  answered there, so that no part of it is ever taken for commands.
- As many octets as BDAT announces are read before it is answered, whether they are wanted or not. Where it
  does not say how many follow, nobody knows where the next command is: the session is closed.
- A chunk with which it is certain that the message cannot be accepted is answered with the reason, and the
  transaction is over; chunks that were already on their way are read, dropped and answered with 503.
- DATA and BDAT do not mix in one transaction, and neither RCPT nor MAIL comes between chunks.
"""

from collections.abc import Awaitable

from mailserver.model import reply as replies
from mailserver.smtp.answering import AnsweringSession
from mailserver.smtp.commands import BadCommand, refuse_argument
from mailserver.smtp.message import Message
from mailserver.smtp.reception import Reception, Refused
from mailserver.wire.dots import Chunks, Unstuffer
from mailserver.wire.smtp import BadSyntax, Chunk, parse_bdat, spell_reply

__all__ = ["ContentSession"]

_TRANSACTION = 30 * 60.0
_LONGEST_TEXT_LINE = 64 * 1024

_GO_AHEAD = spell_reply(replies.GO_AHEAD_354)
_LOST_STEP = replies.BAD_ARGUMENT_501.saying("Syntax error in chunk size, closing connection")


class ContentSession(AnsweringSession):
    """The mixin. The class with it gives the method at the end.

    :ivar delivery: the transaction that MAIL began, until its content begins; ``None`` outside of one.
    """

    delivery: Reception | None

    def __init__(self) -> None:
        self._tried = False  # a MAIL came since the last message
        self._message: Message | None = None
        self._unstuffer: Unstuffer | None = None  # while the octets behind DATA come in
        self._chunks: Chunks | None = None  # from the first BDAT of a message to its last
        self._chunk: Chunk | None = None  # while its octets come in
        self._unwanted: Refused | None = None  # why they are dropped

    @property
    def inTransaction(self) -> bool:
        """Whether MAIL was accepted and the message is not complete."""
        return self.delivery is not None or self._message is not None

    def do_DATA(self, rest: bytes) -> None:
        """RFC 5321 §4.1.1.4."""
        refuse_argument(rest)
        if self.delivery is None:
            raise self._outOfPlace()
        if not self.delivery.hasRecipients:
            raise Refused(replies.NO_RECIPIENTS_554)
        self._unstuffer = Unstuffer(_LONGEST_TEXT_LINE, self.delivery.sloppy)
        self._begin(self.delivery)
        self.reply(_GO_AHEAD)
        self.setPhase(_TRANSACTION)
        self.beginRaw()

    def do_BDAT(self, rest: bytes) -> Awaitable[None] | None:
        """RFC 3030 §2."""
        try:
            chunk = parse_bdat(rest)
        except BadSyntax:
            self._sayFarewell("BDAT without a size", _LOST_STEP)
            self.closeSession()
            return None
        self._chunk = chunk
        self._unwanted = self._whyUnwanted(chunk)
        if chunk.size:
            # First of all: whatever goes wrong from here on, what follows is no command.
            self.setPhase(_TRANSACTION)
            self.beginRaw(chunk.size)
        if self._unwanted is not None:
            self._abandonMessage()
        elif self.delivery is not None:
            chunks = Chunks(_LONGEST_TEXT_LINE, self.delivery.sloppy)
            self._begin(self.delivery)
            self._chunks = chunks
        return None if chunk.size else self._endChunk(b"")

    def rawReceived(self, data: bytes) -> Awaitable[None] | None:
        return self._dataReceived(data) if self._chunk is None else self._chunkReceived(data)

    def commandFailed(self) -> None:
        if self.isRaw:
            # In the middle of the content: nothing may be said before its end.
            if self._message is not None:
                self._message.spoil(replies.TROUBLE_451)
            else:
                self._unwanted = Refused(replies.TROUBLE_451)
            return
        self._abandon()
        self._say(replies.TROUBLE_451)

    # --- inside -----------------------------------------------------------------------------------

    def _begin(self, delivery: Reception) -> None:
        self._message = delivery.message()
        self.delivery = None

    def _dataReceived(self, data: bytes) -> Awaitable[None] | None:
        message, unstuffer = self._message, self._unstuffer
        assert message is not None
        assert unstuffer is not None
        content = unstuffer.feed(data)
        if unstuffer.flawed:
            message.spoil()
        if not unstuffer.finished:
            return message.write(content) if content else None
        # First of all: whatever goes wrong from here on, what is behind the end is commands.
        self._unstuffer = None
        self.endRaw(unstuffer.rest)
        self.setPhase(None)
        return self._conclude(message, message.write(content) if content else None)

    def _chunkReceived(self, data: bytes) -> Awaitable[None] | None:
        if self.isRaw:
            return self._take(data)
        self.setPhase(None)
        return self._endChunk(data)

    def _take(self, data: bytes, last: bool = False) -> Awaitable[None] | None:
        """Pass octets of a chunk on, if they are wanted."""
        message, chunks = self._message, self._chunks
        if message is None or chunks is None:
            return None
        content = chunks.feed(data) + (chunks.finish() if last else b"")
        if chunks.flawed:
            message.spoil()
        return message.write(content) if content else None

    def _endChunk(self, data: bytes) -> Awaitable[None] | None:
        """Take the end of a chunk and answer it."""
        chunk, unwanted = self._chunk, self._unwanted
        self._chunk = self._unwanted = None
        assert chunk is not None
        if unwanted is not None:
            self._refuse(unwanted)
            return None
        waiting, message = self._take(data, chunk.last), self._message
        assert message is not None
        if chunk.last or message.objection is not None:
            return self._conclude(message, waiting)
        taken = spell_reply(replies.OK_250.saying(f"{chunk.size} octets taken"))
        return self._answer(waiting, taken)

    def _whyUnwanted(self, chunk: Chunk) -> Refused | None:
        if not self.inTransaction:
            return self._outOfPlace()
        if self.delivery is not None and not self.delivery.hasRecipients:
            return Refused(replies.BAD_SEQUENCE_503.saying("No valid recipients"))
        return None if chunk.valid else BadCommand(replies.BAD_ARGUMENT_501)

    def _outOfPlace(self) -> Refused:
        """Why RCPT, DATA or BDAT is refused where no transaction waits for it."""
        if self._message is not None:
            return BadCommand(replies.BAD_SEQUENCE_503.saying("The content has begun"))
        reply = replies.BAD_SEQUENCE_503.saying("MAIL first")
        # Where MAIL or a chunk was refused, this was sent before that could be known (RFC 2920 §3.1).
        return Refused(reply) if self._tried else BadCommand(reply)

    async def _conclude(self, message: Message, waiting: Awaitable[None] | None) -> None:
        """The message has ended, and is complete when what there is to wait for is over: answer it."""
        if waiting is not None:
            await waiting
        self.outlastPeer()  # the commit goes on without its client
        reply = await message.conclude()
        # More chunks of a message that is refused may be on their way.
        self._tried = self._chunks is not None and not reply.is_positive
        self._message = self._chunks = None
        self.reply(spell_reply(reply))

    def _abandonMessage(self) -> None:
        """There is no message any more, unless it is being committed."""
        self._unstuffer = self._chunks = None
        message, self._message = self._message, None
        if message is not None:
            message.connectionLost()

    # --- given by the class -----------------------------------------------------------------------

    def _abandon(self) -> None:
        """Forget the transaction."""
        raise NotImplementedError

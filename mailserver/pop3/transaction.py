"""The TRANSACTION and UPDATE states of a POP3 session (RFC 1939 §5, §6): what is done with a maildrop.

Numbers, sizes and unique-ids are the snapshot's and stand still; deleted messages vanish from STAT, LIST and
UIDL. QUIT commits, and nothing else does; the maildrop is let go exactly once.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger
from twisted.mail import pop3
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.interfaces import StorageTrouble
from mailserver.net.session import Session
from mailserver.pop3.commands import Refused
from mailserver.pop3.excerpt import Excerpt
from mailserver.pop3.language import phrase
from mailserver.pop3.sending import NotReceived, Unfinished, send_listing, send_message, until_received
from mailserver.threads import Busy
from mailserver.wire.dots import stuffed
from mailserver.wire.pop3 import err, line_count, message_number, ok

__all__ = ["Transaction"]


class Transaction(Session, pop3.POP3):
    """The part of a session that has a maildrop, :attr:`mbox`; it is ``None`` before the login.

    :ivar mbox: an :class:`IMailboxPOP3` as :class:`~mailserver.mailboxes.maildrop.Maildrop` is.
    """

    factory: Any
    mbox: Any
    language: str

    _log = Logger()

    def beginTransactions(self) -> None:
        """Nobody has logged in yet."""
        self._account = ""
        self._logout: Callable[[], object] | None = None
        self._deleted: set[int] = set()
        self._deleted_octets = 0
        self._message_end: int | None = None
        self._fetched = self._fetched_octets = self._removed = 0

    def replyOK(self, key: str, **facts: object) -> None:
        """Reply ``+OK`` and a text."""
        self.reply(ok(phrase(self.language, key, **facts)) if facts else _plain_ok(self.language, key))

    def replyError(self, key: str, code: str = "", **facts: object) -> None:
        """Reply ``-ERR``, a response code if there is one, and a text."""
        self.reply(err(phrase(self.language, key, **facts), code))

    def do_STAT(self) -> None:
        """How many messages, how many octets (RFC 1939 §5)."""
        contents = self.mbox.contents
        self.reply(ok(f"{len(contents) - len(self._deleted)} {contents.octets - self._deleted_octets}"))

    def do_LIST(self, number: bytes | None = None) -> Awaitable[None] | None:
        """Sizes (RFC 1939 §5)."""
        if number is not None:
            index = self._index(number)
            self.reply(ok(f"{index + 1} {self._size(index)}"))
            return None
        return send_listing(self, ok(), self.mbox.contents.listing("size", self._deleted))

    def do_UIDL(self, number: bytes | None = None) -> Awaitable[None] | None:
        """Unique-ids (RFC 1939 §7)."""
        if number is not None:
            index = self._index(number)
            self.reply(ok(f"{index + 1} {self.mbox.getUidl(index).decode('ascii')}"))
            return None
        return send_listing(self, ok(), self.mbox.contents.listing("uid", self._deleted))

    def do_RETR(self, number: bytes) -> Awaitable[None] | None:
        """A message (RFC 1939 §5)."""
        index = self._index(number)
        status = ok(phrase(self.language, "octets", count=self._size(index)))
        text = self.mbox.readAhead(index)
        if text is None:
            return self._send(index, status, None)
        self.reply(status + stuffed(text))
        self._fetch_ended(index)
        return None

    def do_TOP(self, number: bytes, lines: bytes) -> Awaitable[None]:
        """The header of a message and some lines (RFC 1939 §7)."""
        excerpt = Excerpt(line_count(lines))
        return self._send(self._index(number), ok(phrase(self.language, "top")), excerpt)

    def do_DELE(self, number: bytes) -> None:
        """Mark a message (RFC 1939 §5)."""
        index = self._index(number)
        self.mbox.deleteMessage(index)
        self._deleted.add(index)
        self._deleted_octets += self._size(index)
        self.replyOK("deleted")

    def do_NOOP(self) -> None:
        """Nothing (RFC 1939 §5)."""
        self.reply(ok())

    def do_RSET(self) -> None:
        """Take the marks away (RFC 1939 §5)."""
        self.mbox.undeleteMessages()
        self._deleted.clear()
        self._deleted_octets = 0
        self.replyOK("messages", count=len(self.mbox.contents))

    def do_QUIT(self) -> Awaitable[None] | None:
        """Remove what is marked, and go (RFC 1939 §6)."""
        if self.mbox is not None and self._deleted:
            return self._commit()
        self.replyOK("bye")
        self._leave()
        self.closeSession()
        return None

    async def _commit(self) -> None:
        try:
            if self._message_end is not None:
                # QUIT may have been said long before: what may still get lost on its way is not deleted.
                await until_received(self, self._message_end)
            # Counted before it is known: once begun it goes on, though the peer may be gone by its end.
            self._removed = len(self._deleted)
            await maybeDeferred(self.mbox.sync)
        except (CancelledError, ConnectionClosed):
            raise
        except NotReceived:
            self.closeSession()
            self.transport.abortConnection()
            return
        except Exception as trouble:
            self._tell(trouble, "at QUIT")
            self.replyError("not-removed", "SYS/TEMP")
        else:
            self.replyOK("bye-removed", count=self._removed)
        self._leave()
        self.closeSession()

    def _leave(self) -> None:
        """Let the maildrop go."""
        logout, self._logout, self.mbox = self._logout, None, None
        if logout is None:
            return
        self._left = maybeDeferred(logout).addErrback(self._logout_failed)
        journal.fetched(self.peer.address, self._account, self._fetched, self._fetched_octets, self._removed)

    def _logout_failed(self, failure: Failure) -> None:
        self._log.failure("at logout, of {account}", failure, account=self._account)

    def _tell(self, trouble: BaseException, when: str) -> None:
        """Log a trouble: one line for a known kind, the trace for an unknown one."""
        if isinstance(trouble, StorageTrouble | Busy):
            what = str(trouble) or type(trouble).__name__
            journal.trouble("pop3", what, when=when, account=self._account, client=self.peer.address)
        else:
            self._log.failure("{when}, of {account}", Failure(trouble), when=when, account=self._account)

    def _size(self, index: int) -> int:
        size: int = self.mbox.contents.sizes[index]
        return size

    def _index(self, number: bytes) -> int:
        index = message_number(number) - 1
        if index >= len(self.mbox.contents):
            raise Refused("no-such-message")
        if index in self._deleted:
            raise Refused("is-deleted")
        return index

    async def _send(self, index: int, status: bytes, excerpt: Excerpt | None) -> None:
        try:
            await send_message(self, status, self.mbox.getMessage(index), excerpt)
        except Exception as trouble:
            if self.isOpen:
                self._cannot_send(trouble)
        else:
            if excerpt is None:
                self._fetch_ended(index)
            else:
                self._message_end = self.said

    def _fetch_ended(self, index: int) -> None:
        self._message_end = self.said
        self._fetched += 1
        self._fetched_octets += self._size(index)

    def _cannot_send(self, trouble: Exception) -> None:
        if isinstance(trouble, Unfinished):
            self._tell(trouble.__cause__ or trouble, "in a message")
            # First of all no command behind it is looked at: a QUIT would delete.
            self.closeSession()
            self.transport.abortConnection()
        else:
            self._tell(trouble, "before a message")
            self.replyError("unreadable", "SYS/TEMP")


@cache
def _plain_ok(language: str, key: str) -> bytes:
    return ok(phrase(language, key))

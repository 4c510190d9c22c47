"""The TRANSACTION and UPDATE states of a POP3 session (RFC 1939 §5, §6): what is done with a maildrop.

Numbers, sizes and unique-ids are the snapshot's and stand still; deleted messages vanish from STAT, LIST and
UIDL. QUIT commits, and nothing else does; the maildrop is let go exactly once.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.logger import Logger
from twisted.mail import pop3
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.interfaces import StorageTrouble
from mailserver.net.session import Session
from mailserver.pop3.commands import Refused
from mailserver.pop3.excerpt import Excerpt
from mailserver.pop3.sending import Unfinished, send_listing, send_message
from mailserver.threads import Busy
from mailserver.wire.pop3 import err, line_count, message_number, ok

__all__ = ["Transaction"]


class Transaction(Session, pop3.POP3):
    """The part of a session that has a maildrop, :attr:`mbox`; it is ``None`` before the login."""

    factory: Any
    mbox: Any

    _log = Logger()

    def beginTransactions(self) -> None:
        """Nobody has logged in yet."""
        self._account = ""
        self._logout: Callable[[], object] | None = None
        self._sizes: list[int] = []
        self._deleted: set[int] = set()
        self._fetched = self._fetched_octets = self._removed = 0

    def do_STAT(self) -> None:
        """How many messages, how many octets (RFC 1939 §5)."""
        sizes = [size for _, size in self._present()]
        self.reply(ok(f"{len(sizes)} {sum(sizes)}"))

    def do_LIST(self, number: bytes | None = None) -> Awaitable[None] | None:
        """Sizes (RFC 1939 §5)."""
        if number is not None:
            index = self._index(number)
            self.reply(ok(f"{index + 1} {self._sizes[index]}"))
            return None
        return send_listing(self, ok(), (b"%d %d\r\n" % (index + 1, size) for index, size in self._present()))

    def do_UIDL(self, number: bytes | None = None) -> Awaitable[None] | None:
        """Unique-ids (RFC 1939 §7)."""
        uid = self.mbox.getUidl
        if number is not None:
            index = self._index(number)
            self.reply(ok(f"{index + 1} {uid(index).decode('ascii')}"))
            return None
        return send_listing(
            self, ok(), (b"%d %b\r\n" % (index + 1, uid(index)) for index, _ in self._present())
        )

    def do_RETR(self, number: bytes) -> Awaitable[None]:
        """A message (RFC 1939 §5)."""
        index = self._index(number)
        return self._send(index, ok(f"{self._sizes[index]} octets"), None)

    def do_TOP(self, number: bytes, lines: bytes) -> Awaitable[None]:
        """The header of a message and some lines (RFC 1939 §7)."""
        return self._send(self._index(number), ok("Top of message follows"), Excerpt(line_count(lines)))

    def do_DELE(self, number: bytes) -> None:
        """Mark a message (RFC 1939 §5)."""
        index = self._index(number)
        self.mbox.deleteMessage(index)
        self._deleted.add(index)
        self.reply(ok("Deleted"))

    def do_NOOP(self) -> None:
        """Nothing (RFC 1939 §5)."""
        self.reply(ok())

    def do_RSET(self) -> None:
        """Take the marks away (RFC 1939 §5)."""
        self.mbox.undeleteMessages()
        self._deleted.clear()
        self.reply(ok(f"{len(self._sizes)} messages"))

    def do_QUIT(self) -> Awaitable[None] | None:
        """Remove what is marked, and go (RFC 1939 §6)."""
        if self.mbox is not None and self._deleted:
            return self._commit()
        self.reply(ok("Bye"))
        self._leave()
        self.closeSession()
        return None

    async def _commit(self) -> None:
        # Counted before it is known: once begun it goes on, though the peer may be gone by its end.
        self._removed = len(self._deleted)
        try:
            await maybeDeferred(self.mbox.sync)
        except CancelledError:
            raise
        except Exception as trouble:
            self._tell(trouble, "at QUIT")
            self.reply(err("Some deleted messages could not be removed", "SYS/TEMP"))
        else:
            self.reply(ok(f"Bye, {self._removed} removed"))
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

    def _present(self) -> Iterator[tuple[int, int]]:
        """Index and size of the messages that are not deleted."""
        deleted = self._deleted
        return ((index, size) for index, size in enumerate(self._sizes) if index not in deleted)

    def _index(self, number: bytes) -> int:
        index = message_number(number) - 1
        if index >= len(self._sizes):
            raise Refused("No such message")
        if index in self._deleted:
            raise Refused("That message is deleted")
        return index

    async def _send(self, index: int, status: bytes, excerpt: Excerpt | None) -> None:
        try:
            await send_message(self, status, self.mbox.getMessage(index), excerpt)
        except Exception as trouble:
            if self.isOpen:
                self._cannot_send(trouble)
        else:
            self._fetched += excerpt is None
            self._fetched_octets += self._sizes[index] if excerpt is None else 0

    def _cannot_send(self, trouble: Exception) -> None:
        if isinstance(trouble, Unfinished):
            self._tell(trouble.__cause__ or trouble, "in a message")
            # First of all no command behind it is looked at: a QUIT would delete.
            self.closeSession()
            self.transport.abortConnection()
        else:
            self._tell(trouble, "before a message")
            self.reply(err("Message cannot be read", "SYS/TEMP"))

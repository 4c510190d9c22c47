"""A letter to postmaster: somebody sends too much, and what comes is held in the queue until it is looked at.

A spool that will not take it is journal trouble, no more.
"""

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.interfaces import IDirectory, ISpool, StorageTrouble, Verdict
from mailserver.model.address import Address
from mailserver.model.envelope import Origin, QueueID, Recipient
from mailserver.spool.posting import post
from mailserver.wire.trace import date, message_id

__all__ = ["Alarm"]

_log = Logger()

_LETTER = """\
From: Mail server <postmaster@{host}>
To: postmaster@{host}
Subject: Mail is held: {who}
Date: {date}
Message-ID: {id}
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

This is the mail server {host}.

Mail from {who} is held in the queue:

  {reason}
  rule: {rule}
  client: {client}

Nothing is lost. "mailctl queue list" shows what is held; release it, or
remove it. If it is spam, a password is stolen or a machine is infected.
You are told once, until the rate has come down again.
"""


@frozen
class Alarm:
    """Writes the letters.

    :ivar hostname: this server's name.
    :ivar now: seconds since 1970.
    """

    hostname: str
    directory: IDirectory
    spool: ISpool
    now: Callable[[], float]

    def sound(self, origin: Origin, verdict: Verdict) -> None:
        """Tell postmaster, and the journal; returns at once and never raises."""
        journal.trouble("held", verdict.reason, rule=verdict.source, client=origin.address)
        _ = Deferred.fromCoroutine(self.send(origin, verdict)).addErrback(_broken)

    async def send(self, origin: Origin, verdict: Verdict) -> None:
        """Tell postmaster why mail of this origin is held."""
        if not self.directory.domains():
            return  # nobody lives here, postmaster neither
        recipients = self.directory.expand(Recipient(Address("postmaster", "")))
        when = self.now()

        def spell(id: QueueID) -> str:
            return _LETTER.format(
                host=self.hostname,
                who=_plain(origin.login or origin.address),
                date=date(when),
                id=message_id(id, self.hostname),
                reason=_plain(verdict.reason),
                rule=_plain(str(verdict.source)),
                client=_plain(origin.address),
            )

        try:
            await post(self.spool, recipients, when, spell)
        except StorageTrouble as trouble:
            journal.trouble("alarm", trouble)


def _plain(text: str) -> str:
    """Text from outside, for a header and for 7 bit."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:200])


def _broken(failure: Failure) -> None:
    _log.failure("letter to postmaster", failure)

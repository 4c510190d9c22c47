"""A letter to postmaster: somebody sends too much, and what comes is held in the queue until it is looked at.

It comes in by the same door as all mail (law 7). A spool that will not take it is journal trouble, no more.
"""

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailserver import journal
from mailserver.interfaces import IDirectory, ISpool, StorageTrouble, Verdict
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
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
        recipients = self.directory.expand(Recipient(Address("postmaster", "")))
        if not recipients:
            return  # no domain is hosted
        draft = self.spool.draft(NULL_SENDER, recipients)
        when = self.now()
        text = _LETTER.format(
            host=self.hostname,
            who=_plain(origin.login or origin.address),
            date=date(when),
            id=message_id(draft.id, self.hostname),
            reason=_plain(verdict.reason),
            rule=_plain(str(verdict.source)),
            client=_plain(origin.address),
        )
        content = text.replace("\n", "\r\n").encode("ascii")
        envelope = Envelope(draft.id, NULL_SENDER, recipients, Origin(), when, len(content))
        try:
            waiting = draft.write(content)
            if waiting is not None:
                await waiting
            await draft.commit(envelope)
        except StorageTrouble as trouble:
            journal.trouble("alarm", trouble)


def _plain(text: str) -> str:
    """Text from outside, for a header and for 7 bit."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:200])


def _broken(failure: Failure) -> None:
    _log.failure("letter to postmaster", failure)

"""A letter to a user whose mailbox fills up, before mail is turned away.

A spool that will not take it is journal trouble and nothing else: the letter is a courtesy.
"""

from collections.abc import Callable

from attrs import frozen

from mailserver import journal
from mailserver.domains.units import spell_size
from mailserver.interfaces import Account, ISpool, StorageTrouble
from mailserver.model.address import Address
from mailserver.model.envelope import QueueID, Recipient
from mailserver.spool.posting import post
from mailserver.wire.trace import date, message_id

__all__ = ["QuotaNotices"]

_LETTER = """\
From: Mail server <postmaster@{host}>
To: <{to}>
Subject: Your mailbox is {level} % full
Date: {date}
Message-ID: {id}
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the mail server {host}.

The mailbox {to} is {level} % full. It may hold {limit}.
When it is full, mail for you will be turned away.

Please make room: delete what you no longer need, or have your mail
program remove it from the server once it has fetched it.
"""


@frozen
class QuotaNotices:
    """Writes the letters.

    :ivar hostname: this server's name.
    :ivar now: seconds since 1970.
    """

    hostname: str
    spool: ISpool
    now: Callable[[], float]

    async def send(self, account: Account, level: int) -> None:
        """Tell a user that the mailbox has come to so many percent of its quota."""
        local, _, domain = account.name.rpartition("@")
        recipient = Recipient(Address(local, domain))
        when = self.now()

        def spell(id: QueueID) -> str:
            return _LETTER.format(
                host=self.hostname,
                to=recipient.address,
                level=level,
                date=date(when),
                id=message_id(id, self.hostname),
                limit=_spell_limit(account),
            )

        try:
            await post(self.spool, [recipient], when, spell)
        except StorageTrouble as trouble:
            journal.trouble("quota notice", trouble, account=account.name)


def _spell_limit(account: Account) -> str:
    octets = spell_size(account.quota) if account.quota else ""
    messages = f"{account.messages} messages" if account.messages else ""
    return " and ".join(filter(None, (octets, messages)))

"""As whom a user may send: the addresses that are the user's own (RFC 6409 §6.1).

Own is what mail to it reaches the user, alone or among others: the login itself, tagged or not, aliases that
lead to it, ``postmaster`` for the first user of a domain, all names that nobody has for whom the catch-all
leads to; and what the user's line in ``users`` lists beside. The null sender is everybody's: receipts have it
(RFC 8098 §3).

Who sends without a login is not asked here: networks have rules of their own.
"""

from collections.abc import Callable

from mailserver.interfaces import Account, Forward, SenderRights, Standing, Verdict
from mailserver.model.address import Address

__all__ = ["may_send_as"]


def may_send_as(
    login: str, sender: Address, rights: SenderRights, find: Callable[[Address], Standing]
) -> Verdict:
    """Decide whether an account may use an address as its own.

    :param login: the account that logged in.
    :param rights: what is listed for it.
    :param find: what an address means here: :meth:`mailserver.interfaces.IDirectory.find`.
    """
    if sender.is_null:
        return Verdict(True, "the null sender")
    standing = find(sender)
    if _is(standing, login):
        return Verdict(True, f"is {login}", rights.source)
    if isinstance(standing, Forward) and any(_is(find(target), login) for target in standing.targets):
        return Verdict(True, f"leads to {login}", standing.source)
    if sender.key in rights.extra or f"@{sender.domain}" in rights.extra:
        return Verdict(True, f"is listed for {login}", rights.source)
    return Verdict(False, f"{sender} is not an address of {login}", rights.source)


def _is(standing: Standing, login: str) -> bool:
    return isinstance(standing, Account) and standing.name == login

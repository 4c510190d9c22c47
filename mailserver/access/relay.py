"""Who may send what to whom: the one rule that keeps this server from being an open relay.

Mail for somebody who lives here is taken from anybody (RFC 5321 §3.6.1); mail for a user whom a hosted domain
does not have, or has disabled, from nobody, whoever asks; likewise for a domain that a route hands on for
anybody, as a backup MX does, and who is listed there, or is not; mail for any other domain only from those
the server relays for: users who logged in, and networks as their profiles say. ``postmaster`` needs no rule
of its own: the directory knows one in every hosted domain, and a bare one (RFC 5321 §4.5.1). An address that
leads back to the sender of forwarded mail takes reports, from the null sender, and nothing else.

What counts is what an address *means*, never how it is spelled: a local part such as ``user%other.example``
is a name to look up and nothing else (RFC 5321 §3.9, appendix C; RFC 5321 §2.3.11).
"""

from mailserver.access.profiles import Profile, may_relay
from mailserver.interfaces import Account, Forward, Nobody, NotHosted, Relayed, Standing, Verdict
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.reply import MAILBOX_DISABLED_550, NO_SUCH_USER_550, RELAYING_DENIED_550, Reply
from mailserver.model.source import BUILT_IN

__all__ = ["may_send", "refusal"]


def may_send(
    profile: Profile | None,
    login: str,
    standing: Standing,
    recipient: Address,
    sender: Address = NULL_SENDER,
) -> Verdict:
    """Decide whether this client may send to this recipient.

    :param profile: of the network the client is in; ``None`` when it is in none.
    :param login: the account that logged in; empty without.
    :param standing: what the directory says about ``recipient``.
    """
    if isinstance(standing, Nobody):
        return Verdict(False, f"no user {recipient} in a domain hosted here", standing.source)
    if isinstance(standing, Account) and standing.disabled:
        return Verdict(False, f"{standing.name} is disabled", standing.source)
    if isinstance(standing, Forward) and standing.reports_only and not sender.is_null:
        return Verdict(False, f"{recipient} takes reports only", standing.source)
    if isinstance(standing, Relayed):
        if standing.known:
            return Verdict(True, f"mail for {recipient.domain} is handed on for anybody", standing.source)
        return Verdict(False, f"{recipient} is not among the recipients of the route", standing.source)
    if not isinstance(standing, NotHosted):
        return Verdict(True, "the recipient lives here", standing.source)
    if login:
        return Verdict(True, f"relayed for {login}", BUILT_IN)
    return may_relay(profile, sender, recipient)


def refusal(standing: Standing) -> Reply:
    """What a client is told whom :func:`may_send` refused a recipient of this standing."""
    if isinstance(standing, Account):
        return MAILBOX_DISABLED_550
    return NO_SUCH_USER_550 if isinstance(standing, Nobody | Forward | Relayed) else RELAYING_DENIED_550

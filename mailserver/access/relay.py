"""Who may send what to whom: the one rule that keeps this server from being an open relay.

Mail for somebody who lives here is taken from anybody (RFC 5321 §3.6.1); mail for a user whom a hosted domain
does not have, from nobody, whoever asks; mail for any other domain only from those the server relays for: the
listed networks, and users who logged in. ``postmaster`` needs no rule of its own: the directory knows one in
every hosted domain, and a bare one (RFC 5321 §4.5.1).

What counts is what an address *means*, never how it is spelled: a local part such as ``user%other.example``
is a name to look up and nothing else (RFC 5321 §3.9, appendix C; RFC 5321 §2.3.11).
"""

from mailserver.interfaces import Nobody, NotHosted, Standing, Verdict
from mailserver.model.address import Address
from mailserver.model.reply import NO_SUCH_USER_550, RELAYING_DENIED_550, Reply
from mailserver.model.source import BUILT_IN, Source

__all__ = ["may_send", "refusal"]


def may_send(relay: Source | None, login: str, standing: Standing, recipient: Address) -> Verdict:
    """Decide whether this client may send to this recipient.

    :param relay: the rule of the relay network the client is in; ``None`` when it is in none.
    :param login: the account that logged in; empty without.
    :param standing: what the directory says about ``recipient``.
    """
    if isinstance(standing, Nobody):
        return Verdict(False, f"no user {recipient} in a domain hosted here", standing.source)
    if not isinstance(standing, NotHosted):
        return Verdict(True, "the recipient lives here", standing.source)
    if login:
        return Verdict(True, f"relayed for {login}", BUILT_IN)
    if relay is not None:
        return Verdict(True, "relayed for a relay network", relay)
    where = recipient.domain or "no domain"
    return Verdict(False, f"{where} is not hosted here, and the client is in no relay network", BUILT_IN)


def refusal(standing: Standing) -> Reply:
    """What a client is told whom :func:`may_send` refused a recipient of this standing."""
    return NO_SUCH_USER_550 if isinstance(standing, Nobody) else RELAYING_DENIED_550

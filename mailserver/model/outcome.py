"""What became of one recipient in one attempt, and whether another host may help (RFC 3464 §2.3.3).

Failures are named by reach. The reach and the kind of an outcome, and nothing else, decide whether the
next mail host is asked in the same run: :func:`another_host_may_help` is the whole of MX fallback.
"""

from enum import Enum

from attrs import field, frozen

__all__ = ["Delayed", "Delivered", "Failed", "Outcome", "Scope", "another_host_may_help"]


class Scope(Enum):
    """How far a trouble reaches."""

    HOST = "host"
    """This host, now: no connection, bad banner, EHLO, TLS, 421."""

    MESSAGE = "message"
    """This message: the answer to MAIL or to DATA."""

    RECIPIENT = "recipient"
    """This recipient: the answer to RCPT, or to one recipient's share of the message."""

    DOUBT = "doubt"
    """The final dot was sent and its answer lost: the mail may be in."""


@frozen
class Delivered:
    """The next hop, or the mailbox, has taken responsibility for the message.

    :ivar status: the enhanced status code, as ``2.0.0`` (RFC 3463).
    :ivar reply: what the other side said, one line, controls removed, without a type prefix.
    :ivar host: the name of the host that took it; empty for a mailbox here.
    :ivar reports: who took it will tell the sender of success, where that is wanted (RFC 3461 §5.2.2).
    :ivar final: whoever took it puts it into the mailbox: this is delivery, not relaying (LMTP).
    :ivar expanded: it went to the several targets of an alias (RFC 3464 §2.3.3).
    """

    reply: str
    status: str = "2.0.0"
    host: str = ""
    reports: bool = field(default=False, eq=False)
    expanded: bool = field(default=False, eq=False)
    final: bool = field(default=False, eq=False)


@frozen
class Delayed:
    """Not now: to be tried again. Fields as in :class:`Delivered`; ``scope`` is the reach.

    :ivar code: the SMTP code the other side sent, or 0 when the trouble was found here (connect, DNS,
        TLS, disk): it decides the type of the Diagnostic-Code (RFC 3464 §2.3.6).
    """

    scope: Scope
    reply: str
    status: str = "4.0.0"
    host: str = ""
    code: int = 0


@frozen
class Failed:
    """Never: the sender is to be told. Fields as in :class:`Delayed`."""

    scope: Scope
    reply: str
    status: str = "5.0.0"
    host: str = ""
    code: int = 0


Outcome = Delivered | Delayed | Failed

_ASK_NEXT_HOST = {
    (Delayed, Scope.HOST): True,
    (Delayed, Scope.MESSAGE): True,
    (Delayed, Scope.RECIPIENT): True,
    # The mail may be in: asking another host would deliver it twice. The next run may.
    (Delayed, Scope.DOUBT): False,
    # A host that refuses everybody does not speak for the domain; one that refuses this message does.
    (Failed, Scope.HOST): True,
    (Failed, Scope.MESSAGE): False,
    (Failed, Scope.RECIPIENT): False,
    (Failed, Scope.DOUBT): False,
}


def another_host_may_help(outcome: Outcome) -> bool:
    """Whether the next host is asked for this recipient in the same run (RFC 5321 §5.1)."""
    if isinstance(outcome, Delivered):
        return False
    return _ASK_NEXT_HOST[type(outcome), outcome.scope]

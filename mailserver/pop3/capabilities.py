"""What CAPA says, as a function of the session's state (RFC 2449 §5, §6)."""

from collections.abc import Sequence
from math import ceil

from attrs import frozen

__all__ = ["Abilities", "capability_lines"]


@frozen
class Abilities:
    """What decides.

    :ivar tls: STLS would be taken now.
    :ivar login: a login would be taken now, or has been.
    :ivar mechanisms: of AUTH, the strongest first.
    :ivar login_delay: seconds between two logins to one account; 0: as often as one likes.
    """

    tls: bool
    login: bool
    mechanisms: Sequence[str]
    login_delay: float = 0.0


def capability_lines(abilities: Abilities) -> list[str]:
    """The lines, without their ends.

    What cannot be used now is not listed: no way to log in where TLS has to come first, no STLS where it is
    on or the login is over. The server never removes mail by itself, hence ``EXPIRE NEVER`` (§6.7).
    """
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8 USER", "LANG"]
    if abilities.login_delay > 0:
        lines.append(f"LOGIN-DELAY {ceil(abilities.login_delay)}")
    if abilities.login:
        lines += ["USER", " ".join(["SASL", *abilities.mechanisms])]
    if abilities.tls:
        lines.append("STLS")
    return [*lines, "IMPLEMENTATION mailserver"]

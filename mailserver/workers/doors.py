"""Who of several workers takes what comes at a door, and how long the others leave it to them."""

from collections.abc import Callable

from mailserver.listening import Wait

__all__ = ["takers", "wait_before"]

_POP3 = frozenset({"pop3", "pop3s"})
_EVENLY, _HELPING = 0.001, 0.1  # seconds: of who has more than its share, and of who only helps


def takers(workers: int | str, count: int, service: str) -> int:
    """How many of the workers, from the first on, take a service's connections; the others help.

    With ``"auto"`` the last one leaves mail to the others: what they take is stored and delivered by the
    parent, which wants a core. POP3 is for all: the parent has no part in it.

    :param workers: the key of the configuration.
    :param count: how many there are.
    """
    return count - 1 if workers == "auto" and service not in _POP3 and count > 1 else count


def wait_before(number: int, those: int, exceeds_share: Callable[[int], bool]) -> Wait | None:
    """How long a worker waits before it takes what comes at a door; ``None``: nobody else is to take it.

    :param number: which worker it is, from 1 on.
    :param those: how many, from the first on, it is for (:func:`takers`).
    :param exceeds_share: whether it has more than its share of all sessions, among so many workers.
    """
    if number > those:
        return lambda: _HELPING
    if those == 1:
        return None
    return lambda: _EVENLY if exceeds_share(those) else 0.0

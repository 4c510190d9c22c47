"""How well mail to each domain was protected at best, so that less than that is noticed.

Where nothing demands TLS, mail goes on in clear if need be, and to a host that proves nothing (RFC 7435).
Once a domain's mail has gone better protected, somebody may stand between when it does not any more. It goes
all the same, and is told of once, until it has gone at its best again.

The memory is bounded: the domain that was written to longest ago is forgotten first. It ends with the
process: who could take the protection away before the first message could do so before all others, too, and
what must not go without it needs a policy.
"""

from collections import OrderedDict

from mailserver.model.exchanger import Level

__all__ = ["Levels"]


class Levels:
    """The memory.

    :param most: the domains remembered.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._best: OrderedDict[str, tuple[Level, Level]] = OrderedDict()

    def fell_from(self, domain: str, level: Level) -> Level | None:
        """The best level, where this one is less and has not been told of; ``None`` otherwise.

        :param level: how the mail goes now.
        """
        best, told = self._best.get(domain, (level, level))
        self._best[domain] = max(best, level), level
        self._best.move_to_end(domain)
        if len(self._best) > self._most:
            self._best.popitem(last=False)
        return best if level < best and level < told else None

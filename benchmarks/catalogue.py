"""All scenarios, in the order of the table, with what each is expected to reach beside the peers."""

from attrs import frozen

from benchmarks.scenarios import (
    KB,
    Acceptance,
    Crowd,
    Delivery,
    Drain,
    Handshakes,
    Idle,
    IdlePop3,
    Login,
    LongQueue,
    ManyRecipients,
    Poll,
    Relay,
    Scenario,
)

__all__ = ["SCENARIOS", "TARGETS", "Target", "select"]

SCENARIOS: tuple[Scenario, ...] = (
    *(
        Delivery(f"deliver-4k-{n}", f"accept and deliver, 4 KB, {n} session{'s' * (n > 1)}", 2000, 4 * KB, n)
        for n in (1, 10, 50)
    ),
    *(
        Delivery(
            f"deliver-100k-{n}", f"accept and deliver, 100 KB, {n} session{'s' * (n > 1)}", 300, 100 * KB, n
        )
        for n in (1, 10, 50)
    ),
    ManyRecipients("recipients", "a message to 100 local recipients, 4 KB, 10 sessions", 50, 4 * KB, 10, 100),
    *(Acceptance(f"accept-4k-{n}", f"accept only, 4 KB, {n} sessions", 2000, 4 * KB, n) for n in (10, 50)),
    *(Relay(f"relay-4k-{n}", f"relay, 4 KB, {n} sessions", 2000, 4 * KB, n) for n in (20, 50)),
    *(
        LongQueue(f"queue-{n}", f"relay, 4 KB, beside {n:,} messages that wait", 4000, 4 * KB, 20, n)
        for n in (1_000, 10_000, 100_000)
    ),
    Handshakes("handshakes", "STARTTLS handshakes, 10 sessions at once", 1000, 10),
    Idle("idle-smtp", "an idle SMTP session", "smtp", 10_000, 500),
    Idle("idle-starttls", "an idle SMTP session in TLS", "starttls", 10_000, 500),
    IdlePop3("idle-pop3", "an idle POP3 session before login", "pop3", 10_000, 500),
    Drain("drain-1", "POP3: 100-message maildrops fetched and emptied, 1 session", 20, 100, 1),
    *(
        Drain(f"drain-{n}", f"POP3: 100-message maildrops fetched and emptied, {n} sessions", 100, 100, n)
        for n in (10, 50)
    ),
    *(Login(f"login-{n}", f"POP3: login, STAT, QUIT, {n} sessions", 500, n) for n in (10, 50)),
    Poll("poll-20000", "POP3: poll of an unchanged maildrop of 20,000", 20_000, 20),
    Crowd("crowd-10000", "POP3: 10,000 users poll maildrops of 5, 50 sessions", 10_000, 5, 50),
)


@frozen
class Target:
    """What is to be reached.

    :ivar shipped: times the peer as it ships.
    :ivar tuned: times the peer in its other setting.
    :ivar most: the largest value that is good enough.
    """

    shipped: float | None = None
    tuned: float | None = None
    most: float | None = None


TARGETS = {
    "deliver-4k-10": Target(4, 4),
    "deliver-4k-50": Target(5, 5),
    "deliver-100k-10": Target(2.5, 2.5),
    "deliver-100k-50": Target(2.5, 2.5),
    "accept-4k-50": Target(6, 6),
    "relay-4k-20": Target(2.5, 2.5),
    "relay-4k-50": Target(2.5, 2.5),
    "drain-10": Target(1.2, 0.9),
    "drain-50": Target(1.2, 0.9),
    "login-10": Target(8, 1),
    "login-50": Target(8, 1),
    "poll-20000": Target(4, 4),
    "handshakes": Target(1.2),
    "idle-smtp": Target(most=12),
    "idle-pop3": Target(most=12),
    "idle-starttls": Target(most=60),
}


def select(names: tuple[str, ...]) -> tuple[Scenario, ...]:
    """The scenarios whose names begin with one of these; without any, all but those apart.

    Raises ``LookupError``.
    """
    for name in names:
        if not any(scenario.name.startswith(name) for scenario in SCENARIOS):
            raise LookupError(
                f"no scenario begins with {name!r}; there are: {', '.join(s.name for s in SCENARIOS)}"
            )
    return tuple(s for s in SCENARIOS if (s.name.startswith(names) if names else not s.apart))

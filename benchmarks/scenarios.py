"""What is measured: each scenario prepares a server once and measures it as often as there are rounds.

A measurement counts from the first connection until all of the work is done and durable: the last message
lies in a Maildir, was counted by the sink, or was acknowledged, as each scenario says. Whatever fails ends
the measurement with an exception: a figure of a run in which something failed says nothing.
"""

import os
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from attrs import define, evolve, frozen

from benchmarks.load import Load, Sink
from benchmarks.maildirs import await_count, count, empty, fill
from benchmarks.peers.server import CROWD, HERE, QUEUE, SINK, USERS, Server
from benchmarks.processes import cpu_seconds, memory

__all__ = ["KB", "Sample", "Scenario", "Stage"]

KB = 1024

_SETTLE = 0.3
"""Seconds in which a server finishes what its clients do not wait for, before it is measured and after."""

_WARMING = 200


@frozen
class Stage:
    """What every measurement has at hand."""

    load: Load
    sink: Sink


@frozen
class Sample:
    """One measurement.

    :ivar value: in the scenario's unit.
    :ivar cpu: user and system time of all of the server's processes for one message or session, in µs; none
        where that says nothing.
    """

    value: float
    cpu: float | None = None


@define
class Scenario(ABC):
    """One line of the table.

    :cvar unit: of the values.
    :cvar service: which peers it is played on, ``smtp`` or ``pop3``; none: on this server alone.
    :cvar less_is_better: of the values.
    :cvar rounds: how many make sense at most.
    :cvar tuned: whether the peer's other setting makes a difference to it.
    :cvar company: neighbours with the same are compared with each other; none: with nobody.
    :cvar apart: whether it takes so long that it is only played where it is asked for.
    """

    name: str
    title: str

    unit: ClassVar[str] = "messages/s"
    service: ClassVar[str] = "smtp"
    less_is_better: ClassVar[bool] = False
    rounds: ClassVar[int] = 100
    tuned: ClassVar[bool] = True
    company: ClassVar[str] = ""
    apart: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, server: Server, stage: Stage) -> None:
        """What is done once, after the start."""

    @abstractmethod
    def measure(self, server: Server, stage: Stage) -> Sample:
        """Play one round."""

    @abstractmethod
    def shorter(self) -> "Scenario":
        """The same with so little work that it only shows that it can be played."""


def timed(server: Server, work: Callable[[], object], quantity: int) -> Sample:
    """Quantity a second, and the processor time of one, over all that ``work`` does."""
    settle()
    cpu = cpu_seconds(server.pid)
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    time.sleep(_SETTLE)
    return Sample(quantity / seconds, (cpu_seconds(server.pid) - cpu) / quantity * 1e6)


def _most_open() -> int:
    """How many sessions a process may hold, with some files left for everything else."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most - 200


def settle() -> None:
    """Bring the disk and the servers to rest, so that a measurement pays for nothing that came before it."""
    os.sync()
    time.sleep(_SETTLE)


@define
class Delivery(Scenario):
    """Accept and deliver: until the last message lies in a Maildir.

    :ivar recipients: of each message; messages are counted once for each.
    """

    messages: int
    octets: int
    sessions: int
    recipients: int = 1

    def prepare(self, server: Server, stage: Stage) -> None:
        empty(server, USERS)
        self._send(server, stage, min(_WARMING, self.messages))

    def measure(self, server: Server, stage: Stage) -> Sample:
        empty(server, USERS)
        return timed(
            server, lambda: self._send(server, stage, self.messages), self.messages * self.recipients
        )

    def shorter(self) -> "Delivery":
        return Delivery(self.name, self.title, 20, self.octets, min(self.sessions, 10), self.recipients)

    def _send(self, server: Server, stage: Stage, messages: int) -> None:
        stage.load.smtp(server.smtp_port, self.sessions, messages, self.octets, HERE, self.recipients)
        await_count(lambda: count(server, USERS), messages * self.recipients)


@define
class ManyRecipients(Delivery):
    """The same, told in copies."""

    unit: ClassVar[str] = "copies/s"

    def shorter(self) -> "ManyRecipients":
        return ManyRecipients(self.name, self.title, 2, self.octets, 1, self.recipients)


@define
class Acceptance(Scenario):
    """Accept only: until the last message is acknowledged; it stays in the queue."""

    messages: int
    octets: int
    sessions: int

    def prepare(self, server: Server, stage: Stage) -> None:
        self._send(server, stage, min(_WARMING, self.messages))

    def measure(self, server: Server, stage: Stage) -> Sample:
        return timed(server, lambda: self._send(server, stage, self.messages), self.messages)

    def shorter(self) -> "Acceptance":
        return evolve(self, messages=20, sessions=min(self.sessions, 10))

    def _send(self, server: Server, stage: Stage, messages: int) -> None:
        stage.load.smtp(server.smtp_port, self.sessions, messages, self.octets, QUEUE)


@define
class Relay(Acceptance):
    """Relay: until the sink has counted the last message."""

    def _send(self, server: Server, stage: Stage, messages: int) -> None:
        before = stage.sink.taken()
        stage.load.smtp(server.smtp_port, self.sessions, messages, self.octets, SINK)
        await_count(lambda: stage.sink.taken() - before, messages)


@define
class LongQueue(Relay):
    """Relay beside so many messages that wait for something else.

    :ivar waiting: how many.
    """

    waiting: int = 0

    service: ClassVar[str] = ""
    company: ClassVar[str] = "queue"

    def prepare(self, server: Server, stage: Stage) -> None:
        stage.load.smtp(server.smtp_port, 50, self.waiting, 2 * KB, QUEUE)
        super().prepare(server, stage)

    def shorter(self) -> "LongQueue":
        return LongQueue(self.name, self.title, 20, self.octets, 5, min(self.waiting, 50))


@define
class Drain(Scenario):
    """POP3: all of the messages of maildrops fetched one by one and deleted."""

    users: int
    messages: int
    sessions: int

    service: ClassVar[str] = "pop3"

    def prepare(self, server: Server, stage: Stage) -> None:
        fill(server, USERS[:10], 5, 4 * KB)
        stage.load.pop3(server.pop3_port, 10, 10, 10, "drain")

    def measure(self, server: Server, stage: Stage) -> Sample:
        fill(server, USERS[: self.users], self.messages, 4 * KB)
        return timed(
            server,
            lambda: stage.load.pop3(server.pop3_port, self.sessions, self.users, self.users, "drain"),
            self.users * self.messages,
        )

    def shorter(self) -> "Drain":
        return Drain(self.name, self.title, 5, 4, min(self.sessions, 5))


@define
class Login(Scenario):
    """POP3: login, STAT, QUIT on maildrops of 100 messages."""

    count: int
    sessions: int
    messages: int = 100

    unit: ClassVar[str] = "sessions/s"
    service: ClassVar[str] = "pop3"

    def prepare(self, server: Server, stage: Stage) -> None:
        fill(server, USERS, self.messages, KB)
        self._poll(server, stage, len(USERS))

    def measure(self, server: Server, stage: Stage) -> Sample:
        return timed(server, lambda: self._poll(server, stage, self.count), self.count)

    def shorter(self) -> "Login":
        return Login(self.name, self.title, 20, min(self.sessions, 10), 3)

    def _poll(self, server: Server, stage: Stage, count: int) -> None:
        stage.load.pop3(server.pop3_port, self.sessions, count, len(USERS), "login")


@define
class Poll(Scenario):
    """POP3: login, STAT, UIDL, LIST, QUIT on a large unchanged maildrop; the median of many sessions."""

    messages: int
    count: int

    unit: ClassVar[str] = "ms"
    service: ClassVar[str] = "pop3"
    less_is_better: ClassVar[bool] = True

    def prepare(self, server: Server, stage: Stage) -> None:
        fill(server, USERS[:1], self.messages, KB)
        self._poll(server, stage, 2)

    def measure(self, server: Server, stage: Stage) -> Sample:
        settle()
        cpu = cpu_seconds(server.pid)
        median = self._poll(server, stage, self.count)
        return Sample(median * 1000, (cpu_seconds(server.pid) - cpu) / self.count * 1e6)

    def shorter(self) -> "Poll":
        return Poll(self.name, self.title, 100, 2)

    def _poll(self, server: Server, stage: Stage, count: int) -> float:
        return stage.load.pop3(server.pop3_port, 1, count, 1, "poll").median


@define
class Crowd(Scenario):
    """POP3: every user of many polls a small unchanged maildrop: login, STAT, UIDL, LIST, QUIT."""

    users: int
    messages: int
    sessions: int

    unit: ClassVar[str] = "sessions/s"
    service: ClassVar[str] = "pop3"
    rounds: ClassVar[int] = 3
    apart: ClassVar[bool] = True

    def prepare(self, server: Server, stage: Stage) -> None:
        fill(server, CROWD[: self.users], self.messages, KB)
        self._poll(server, stage)

    def measure(self, server: Server, stage: Stage) -> Sample:
        return timed(server, lambda: self._poll(server, stage), self.users)

    def shorter(self) -> "Crowd":
        return Crowd(self.name, self.title, 20, 2, min(self.sessions, 10))

    def _poll(self, server: Server, stage: Stage) -> None:
        stage.load.pop3(server.pop3_port, self.sessions, self.users, self.users, "poll")


@define
class Handshakes(Scenario):
    """SMTP sessions that do nothing but STARTTLS: full handshakes, no session taken up again."""

    count: int
    sessions: int

    unit: ClassVar[str] = "handshakes/s"
    tuned: ClassVar[bool] = False

    def prepare(self, server: Server, stage: Stage) -> None:
        stage.load.handshakes(server.smtp_port, self.sessions, min(self.count, 100))

    def measure(self, server: Server, stage: Stage) -> Sample:
        return timed(
            server, lambda: stage.load.handshakes(server.smtp_port, self.sessions, self.count), self.count
        )

    def shorter(self) -> "Handshakes":
        return Handshakes(self.name, self.title, 10, min(self.sessions, 5))


@define
class Idle(Scenario):
    """Memory of an idle session: the server's own and the kernel's for both ends of the connection.

    :ivar what: ``smtp``, ``starttls`` or ``pop3``.
    :ivar count: sessions held by this server.
    :ivar peers: … and by a peer, which has a process for each.

    Measured once: what a process has grown by it keeps, and takes again the next time.
    """

    what: str
    count: int
    peers: int

    unit: ClassVar[str] = "KB/session"
    less_is_better: ClassVar[bool] = True
    rounds: ClassVar[int] = 1
    tuned: ClassVar[bool] = False

    def prepare(self, server: Server, stage: Stage) -> None:
        with stage.load.idle(self._port(server), 10, self.what):
            settle()

    def measure(self, server: Server, stage: Stage) -> Sample:
        held = self.peers if server.owner else min(self.count, _most_open())
        settle()
        before = memory(server.pid)
        with stage.load.idle(self._port(server), held, self.what):
            time.sleep(2.0)
            after = memory(server.pid)
        return Sample((after.own - before.own + after.kernel - before.kernel) / held)

    def shorter(self) -> "Idle":
        return type(self)(self.name, self.title, self.what, 50, 50)

    def _port(self, server: Server) -> int:
        return server.smtp_port


@define
class IdlePop3(Idle):
    """The same of POP3 sessions before a login."""

    service: ClassVar[str] = "pop3"
    tuned: ClassVar[bool] = True

    def _port(self, server: Server) -> int:
        return server.pop3_port

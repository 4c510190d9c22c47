"""What a long queue costs: start-up to first delivery, the first page, counts, memory.

Fills a spool with messages to dead domains and one to a living one, starts it anew, and measures how long the
living one's mail takes to be handed out, how long the queue tools take, and the memory of the process::

    python benchmarks/queue_growth.py [MESSAGES]
"""

import resource
import secrets
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from mailserver.interfaces import Settlement
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.model.outcome import Delayed, Scope
from mailserver.spool import schema
from mailserver.spool.listing import Listing
from mailserver.spool.selecting import Selection
from mailserver.spool.store import Spool

ALICE = Address("alice", "example.lan")
DEAD = 20
CONTENT = b"From: <alice@example.lan>\r\nMessage-ID: <%d@example.lan>\r\n\r\n" + b"x" * 2000 + b"\r\n"
LATER = Settlement(Delayed(Scope.HOST, "no connection", "4.4.1"), time.time() + 3600)


def spool(directory: Path) -> Spool:
    made = Spool(directory / "spool", time.time, reactor.callFromThread, secrets.randbits)
    made.start()
    return made


async def fill(queue: Spool, messages: int) -> None:
    numbers = iter(range(messages))

    async def bring() -> None:
        for number in numbers:
            draft = queue.draft(ALICE, ())
            draft.write(CONTENT % number)
            recipient = Recipient(Address(f"bob{number}", f"dead{number % DEAD}.example"))
            await draft.commit(Envelope(draft.id, ALICE, (recipient,), Origin("192.0.2.7"), time.time()))

    await DeferredList([Deferred.fromCoroutine(bring()) for _ in range(50)])


async def delay_all(queue: Spool) -> None:
    while duties := await queue.take(time.time(), frozenset(), 500):
        settling = [queue.settle(duty, {duty.waiting[0].recipient: LATER}, ()) for duty in duties]
        await DeferredList([Deferred.fromCoroutine(one) for one in settling])


def timed(what: str, begun: float) -> None:
    print(f"{what:<42} {time.monotonic() - begun:8.3f} s")


async def main(messages: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        queue = spool(directory)
        begun = time.monotonic()
        await fill(queue, messages)
        timed(f"{messages} messages accepted", begun)
        begun = time.monotonic()
        await delay_all(queue)
        timed("all tried once and delayed", begun)
        await queue.stop()

        begun = time.monotonic()
        queue = spool(directory)
        timed("start", begun)
        draft = queue.draft(ALICE, ())
        draft.write(CONTENT % 0)
        living = Recipient(Address("carol", "living.example"))
        await draft.commit(Envelope(draft.id, ALICE, (living,), Origin("192.0.2.7"), time.time()))
        (duty,) = await queue.take(time.time(), frozenset(), 100)
        assert duty.destination == "living.example"
        timed("start to first delivery", begun)
        with closing(schema.connect(directory / "spool" / "spool.db", read_only=True)) as connection:
            listing = Listing(connection)
            begun = time.monotonic()
            page = listing.page(Selection(), 50)
            timed("first page", begun)
            begun = time.monotonic()
            listing.page(Selection(), 50, page[-1].key)
            timed("second page", begun)
            begun = time.monotonic()
            listing.page(Selection(sender="nobody@example.org"), 50)
            timed("a filter that nothing meets", begun)
            begun = time.monotonic()
            counts = listing.counts(Selection(), time.time())
            assert sum(one.recipients for one in counts) == messages + 1
            timed("counts by domain and age", begun)
            begun = time.monotonic()
            listing.find(f"{messages // 2}@example.lan", 20)
            timed("found by Message-ID", begun)
        print(f"{'memory, at most':<42} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB")
        await queue.stop()


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    react(lambda _: Deferred.fromCoroutine(main(number)))

"""Kills a spool at random moments and checks what the next start finds. Run by ``test_spool.py``.

    spool_victim.py DIRECTORY ROUNDS SEED

Each round forks a child that stores, takes, settles and reports as fast as it can, and says on a pipe what it
was promised; kills it with SIGKILL after a random number of lines; and forks another that opens the spool and
compares. The content of every message can be told from its ID and size.
"""

import os
import random
import secrets
import signal
import sys
import time
import traceback
from pathlib import Path

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from mailserver.interfaces import Settlement
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, Recipient
from mailserver.model.outcome import Delivered, Failed, Scope
from mailserver.spool.store import Spool

SENDER = Address("alice", "example.lan")
RECIPIENTS = (Recipient(Address("a", "x.example")), Recipient(Address("b", "x.example")))
REPORTS = "reports.example"
LARGEST = 400_000


@frozen
class Report:
    envelope: Envelope
    content: bytes


def content_of(id, size):
    line = id.encode() + b" and so on\r\n"
    return (line * (size // len(line) + 1))[:size]


def open_spool(directory):
    spool = Spool(directory, time.time, reactor.callFromThread, secrets.randbits)
    spool.start()
    return spool


def envelope(id, sender, recipients, size, marks):
    return Envelope(id, sender, recipients, Origin(), time.time(), size, marks=marks)


async def store_for_ever(spool, say):
    while True:
        draft = spool.draft(SENDER, RECIPIENTS)
        size = random.choice((10, 1000, 5000, 5000, 50_000, LARGEST))
        waiting = draft.write(content_of(draft.id, size))
        if waiting is not None:
            await waiting
        if random.random() < 0.05:
            draft.abandon()
            say(f"abandoned {draft.id}")
            continue
        await draft.commit(envelope(draft.id, SENDER, RECIPIENTS, size, {}))
        say(f"stored {draft.id}")


async def settle_for_ever(spool, say):
    while True:
        duties = (await spool.take(time.time(), frozenset({REPORTS}), 5)).duties
        if not duties:
            await spool.next_due()
        for duty in duties:
            id = duty.envelope.id
            say(f"settling {id}")
            reports = []
            outcome = Delivered("ok")
            if random.random() < 0.5:
                outcome = Failed(Scope.RECIPIENT, "no")
                report_id = spool.draft(NULL_SENDER, ()).id
                size = random.choice((2000, LARGEST))
                to = (Recipient(Address("alice", REPORTS)),)
                marks = {"about": id}
                reports = [
                    Report(envelope(report_id, NULL_SENDER, to, size, marks), content_of(report_id, size))
                ]
            settlements = {each.recipient: Settlement(outcome) for each in duty.waiting}
            await spool.settle(duty, settlements, reports)
            say(f"{'reported' if reports else 'settled'} {id}")


async def audit(spool, directory, said):
    """Compare what is there with what was said; the facts for the next round."""
    stored, settling, settled, reported, abandoned = (
        {line.split()[1] for line in said if line.startswith(word + " ")}
        for word in ("stored", "settling", "settled", "reported", "abandoned")
    )
    here, about, files = set(), set(), set()
    for duty in (await spool.take(time.time() + 1, frozenset(), 1_000_000)).duties:
        message = duty.envelope
        content = await spool.content(message.id)
        octets = b""
        while piece := await content.read(len(octets), 1 << 20):
            octets += piece
        assert octets == content_of(message.id, message.size), f"{message.id}: content differs"
        assert [each.recipient for each in duty.waiting] == list(message.recipients), message.id
        if duty.destination == REPORTS:
            assert message.marks["about"] not in about, "two reports"
            about.add(message.marks["about"])
        else:
            assert message.recipients == RECIPIENTS
            here.add(message.id)
        if content.whole() is None:
            files.add(message.id)
    assert files == {path.name[:17] for path in (directory / "content").iterdir()}, "litter"
    finished = settled | reported
    assert not abandoned & here, "abandoned, yet there"
    assert not finished & here, "settled, yet there"
    assert not stored - settling - here, f"lost: {stored - settling - here}"
    assert not about & here, "reported, yet there"
    assert reported <= about, "settled without its report"
    assert not list(directory.glob("*corrupt*")), "taken for damaged"


def run(make):
    """Run the reactor around a coroutine; end the process with its verdict."""
    status = [1]

    def end(result):
        status[0] = 0

    def fail(failure):
        failure.printTraceback(sys.stderr)

    def begin():
        done = Deferred.fromCoroutine(make())
        done.addCallbacks(end, fail)
        done.addBoth(lambda _: reactor.stop())

    try:
        reactor.callWhenRunning(begin)
        reactor.run()
    except BaseException:
        traceback.print_exc()
    os._exit(status[0])


def in_child(make):
    child = os.fork()
    if child == 0:
        random.seed()
        run(make)
    return child


def live(directory, out):
    async def living():
        def say(line):
            os.write(out, line.encode() + b"\n")

        spool = open_spool(directory)
        loops = [Deferred.fromCoroutine(store_for_ever(spool, say)) for _ in range(20)]
        loops += [Deferred.fromCoroutine(settle_for_ever(spool, say))]
        await DeferredList(loops, fireOnOneErrback=True)

    return living


def check(directory, said):
    async def checking():
        spool = open_spool(directory)
        await audit(spool, directory, said)
        await spool.stop()

    return checking


def one_round(directory, said, chance):
    reading, writing = os.pipe()
    child = in_child(live(directory, writing))
    os.close(writing)
    lines = chance.choice((0, 1, 5, 50, 150, 300))
    heard = b""
    while heard.count(b"\n") < lines:
        piece = os.read(reading, 65536)
        assert piece, "the child ended by itself"
        heard += piece
    time.sleep(chance.random() * 0.02)  # any moment of a commit will do
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(reading, 65536):
        heard += piece
    os.close(reading)
    said += heard.decode().split("\n")[:-1]
    _, status = os.waitpid(in_child(check(directory, said)), 0)
    assert status == 0, "the audit failed"


def main():
    directory, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    said = []
    for _ in range(rounds):
        one_round(directory, said, chance)
    print(f"{rounds} kills, {sum(line.startswith('stored') for line in said)} messages stored")


if __name__ == "__main__":
    main()

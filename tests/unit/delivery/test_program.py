"""The courier to programs, with real ones."""

import os
import signal
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.delivery.couriers.program import ProgramCourier
from mailserver.delivery.couriers.programs import Programs, outcome_of
from mailserver.delivery.couriers.running import Ended
from mailserver.interfaces import Forward, ICourier
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed
from mailserver.model.source import BUILT_IN
from tests.support.fakequeue import BytesContent
from tests.support.fakes import address

BODY = b"Subject: x\r\n\r\nHello\r\n"
SCAN = Recipient(address("scan@example.lan"))


@pytest.mark.parametrize(
    ("ended", "kind", "status"),
    [
        (Ended(0), Delivered, "2.1.5"),
        (Ended(1), Delayed, "4.3.0"),
        (Ended(67), Failed, "5.1.1"),
        (Ended(65), Failed, "5.6.0"),
        (Ended(71), Delayed, "4.3.0"),
        (Ended(73), Delayed, "4.3.0"),
        (Ended(74), Delayed, "4.3.0"),
        (Ended(75), Delayed, "4.3.0"),
        (Ended(77), Failed, "5.7.1"),
        (Ended(100), Failed, "5.3.0"),
        (Ended(1, output=b"4.7.1 come later"), Delayed, "4.7.1"),
        (Ended(1, output=b" 5.7.26 spam\nmore"), Failed, "5.7.26"),
        (Ended(75, output=b"5.1.1 never"), Failed, "5.1.1"),
        (Ended(67, output=b"4.2.2"), Delayed, "4.2.2"),
        (Ended(1, output=b"2.0.0 fine"), Delayed, "4.3.0"),
        (Ended(1, output=b"5.7.26x"), Delayed, "4.3.0"),
        (Ended(1, output=b"see 5.7.1"), Delayed, "4.3.0"),
        (Ended(0, output=b"5.7.1 no"), Delivered, "2.1.5"),
        (Ended(0, late=True, output=b"5.7.1 no"), Delayed, "4.3.0"),
        (Ended(111), Delayed, "4.3.0"),
        (Ended(127), Delayed, "4.3.0"),
        (Ended(-1, signal.SIGSEGV), Delayed, "4.3.0"),
        (Ended(0, late=True), Delayed, "4.3.0"),
        (Ended(0, unread=True), Delayed, "4.3.0"),
    ],
)
def test_what_an_end_means(ended, kind, status):
    outcome = outcome_of(ended)
    assert (type(outcome), outcome.status) == (kind, status)


class Aliases:
    """A directory of one alias."""

    def __init__(self, *commands):
        self.commands = commands

    def find(self, address):
        return Forward((), BUILT_IN, self.commands)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


class ProgramTest(TestCase):
    timeout = 30

    def setUp(self):
        self.dir = Path(mkdtemp())

    def script(self, text, name="script"):
        """A Python program; ``out`` is a file beside it."""
        path = self.dir / f"{name}.py"
        path.write_text(
            f"import os, sys, time, signal, subprocess\nout = {str(self.dir / 'out')!r}\n{text}\n"
        )
        return f"{sys.executable} -S {path}"

    @property
    def out(self):
        return (self.dir / "out").read_bytes()

    def courier(self, *commands, deadline=20.0):
        courier = ProgramCourier(Aliases(*commands), Programs(reactor, reactor), deadline)
        assert verifyObject(ICourier, courier)
        return courier

    async def deliver(self, courier, content=BODY, recipient=SCAN, **more):
        if isinstance(content, bytes):
            content = BytesContent(content)
        fields = {
            "sender": address("s@outside.example"),
            "origin": Origin("192.0.2.1", 25, "helo.example"),
            **more,
        }
        envelope = Envelope(id=QueueID("Q1"), recipients=(recipient,), arrived=0.0, **fields)
        (outcome,) = (await courier.deliver(envelope, content, [recipient])).values()
        return outcome

    async def until(self, condition):
        while not condition():
            await deferLater(reactor, 0.01)

    async def test_the_message_on_standard_input_and_the_environment(self):
        show = "open(out, 'wb').write(sys.stdin.buffer.read() + repr((sys.argv[1:], dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid())).encode())"
        courier = self.courier(self.script(show) + " --to 'the archive' '$HOME;id'")
        assert isinstance(await self.deliver(courier), Delivered)
        text, _, rest = self.out.partition(b"([")
        assert text == (
            b"Return-Path: <s@outside.example>\nDelivered-To: scan@example.lan\nSubject: x\n\nHello\n"
        )
        arguments, environment, directory, own_session = eval(b"([" + rest)
        assert arguments == ["--to", "the archive", "$HOME;id"]
        environment.pop("LC_CTYPE", None)
        assert environment == {
            "SENDER": "s@outside.example",
            "RECIPIENT": "scan@example.lan",
            "ORIGINAL_RECIPIENT": "scan@example.lan",
            "QUEUE_ID": "Q1",
            "SIZE": str(len(BODY)),
            "CLIENT_ADDRESS": "192.0.2.1",
            "CLIENT_HELO": "helo.example",
            "LOGIN": "",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        assert (directory, own_session) == ("/", True)

    async def test_nothing_from_the_wire_looks_like_shell(self):
        courier = self.courier(self.script("open(out, 'w').write(os.environ['SENDER'])"))
        await self.deliver(courier, sender=address("() { :;}; touch $x `id`\x00@e.example"))
        assert not set(self.out) & set(b"(){}$`;\x00\"'\\")

    async def test_a_large_message_arrives_whole_and_no_faster_than_it_is_read(self):
        content = BytesContent(
            b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 500_000, at_hand=False, chunk=65_537
        )
        count = "time.sleep(.3); data = sys.stdin.buffer.read(); open(out, 'w').write(repr((len(data), data.count(b'\\n'), b'\\r' in data)))"
        assert isinstance(await self.deliver(self.courier(self.script(count)), content), Delivered)
        header = len("Return-Path: <s@outside.example>\nDelivered-To: scan@example.lan\nSubject: x\n\n")
        assert eval(self.out) == (header + 11 * 500_000, 4 + 500_000, False)

    async def test_a_program_that_reads_nothing_may_take_the_message(self):
        content = BytesContent(b"y" * 1_000_000)
        assert isinstance(await self.deliver(self.courier("true"), content), Delivered)
        close = self.script("os.close(0); time.sleep(.1)")
        assert isinstance(await self.deliver(self.courier(close), content), Delivered)

    async def test_what_it_prints_is_read_and_dropped(self):
        courier = self.courier(self.script("sys.stderr.write('x' * 1_000_000); sys.exit(67)"))
        outcome = await self.deliver(courier)
        assert (type(outcome), outcome.status) == (Failed, "5.1.1")
        assert "xx" not in outcome.reply

    async def test_no_such_program_and_no_sense_delay(self):
        for command in ("/no/such/program", "/etc/passwd", "'unbalanced", "   "):
            outcome = await self.deliver(self.courier(command))
            assert isinstance(outcome, Delayed), command

    async def test_a_crash_delays(self):
        outcome = await self.deliver(self.courier(self.script("os.kill(os.getpid(), signal.SIGSEGV)")))
        assert isinstance(outcome, Delayed)

    async def test_a_program_that_does_not_end_is_ended_with_its_children(self):
        sleep = (
            "child = subprocess.Popen(['sleep', '60']); open(out, 'w').write(str(child.pid)); time.sleep(60)"
        )
        outcome = await self.deliver(self.courier(self.script(sleep), deadline=1.0))
        assert isinstance(outcome, Delayed)
        assert "in time" in outcome.reply
        await self.until(lambda: not alive(int(self.out)))

    async def test_children_left_behind_do_not_hold_it_up(self):
        leave = "child = subprocess.Popen(['sleep', '60']); open(out, 'w').write(str(child.pid)); sys.exit(0)"
        assert isinstance(await self.deliver(self.courier(self.script(leave))), Delivered)
        await self.until(lambda: not alive(int(self.out)))

    async def test_half_a_message_is_never_taken_for_a_whole_one(self):
        save = "data = sys.stdin.buffer.read(); open(out, 'wb').write(data)"
        content = BytesContent(b"y" * 300_000, trouble=100_000, chunk=50_000)
        outcome = await self.deliver(self.courier(self.script(save)), content)
        assert (type(outcome), outcome.reply) == (Delayed, "the stored message cannot be read now")
        assert not (self.dir / "out").exists()

    async def test_cancelled_it_kills(self):
        from twisted.internet.defer import CancelledError

        sleep = "open(out + '1', 'w').write(str(os.getpid())); os.rename(out + '1', out); time.sleep(60)"
        delivering = Deferred.fromCoroutine(self.deliver(self.courier(self.script(sleep))))
        await self.until(lambda: (self.dir / "out").exists())
        delivering.cancel()
        self.failureResultOf(delivering, CancelledError)
        await self.until(lambda: not alive(int(self.out)))
        await deferLater(reactor, 0.05)

    async def test_of_several_programs_those_that_took_it_are_not_run_again(self):
        log = "open(out, 'a').write(sys.argv[1])"
        first = self.script(log, "first") + " 1"
        second = self.script(log + "; sys.exit(75 if os.path.getsize(out) < 4 else 0)", "second") + " 2"
        courier = self.courier(first, second)
        kinds = [type(await self.deliver(courier)) for _ in range(3)]
        assert kinds == [Delayed, Delayed, Delivered]
        assert self.out == b"1222"

    async def test_too_many_at_once_are_delayed(self):
        courier = self.courier(self.script("time.sleep(.2)"))
        running = [Deferred.fromCoroutine(self.deliver(courier)) for _ in range(12)]
        courier._waiting += 100
        assert (await self.deliver(courier)).status == "4.3.2"
        courier._waiting -= 100
        outcomes = [await one for one in running]
        assert all(isinstance(one, Delivered) for one in outcomes)

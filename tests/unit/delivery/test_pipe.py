"""The courier to the program of a route, with real programs."""

import os
import pwd
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mailserver.access.routes import Identity, Pipe
from mailserver.delivery.couriers.pipe import PipeCourier, fill_in
from mailserver.delivery.couriers.programs import Programs
from mailserver.interfaces import ICourier
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed
from tests.support.fakequeue import BytesContent
from tests.support.fakes import address

BODY = b"Subject: x\r\n\r\nHello\r\n"
ANN, BEN = (Recipient(address(f"{name}@pipe.example")) for name in ("ann", "ben"))
OPTION = Recipient(Address("-oQ/tmp/x", "pipe.example"))


def envelope(sender=None):
    origin = Origin("192.0.2.1", 25, "helo.example")
    return Envelope(
        QueueID("Q1"), address("s@outside.example") if sender is None else sender, (ANN, BEN), origin, 0.0
    )


def runs(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("command", "recipients", "words"),
    [
        (["x", "-f", "{sender}"], [ANN], ["x", "-f", "s@outside.example"]),
        (["x", "--to={recipient}"], [ANN], ["x", "--to=ann@pipe.example"]),
        (["x", "{recipient}"], [ANN, BEN], ["x", "ann@pipe.example", "ben@pipe.example"]),
        (["x", "-d{user}", "z"], [ANN, BEN], ["x", "-dann", "-dben", "z"]),
        (["x", "{sender}", "y"], [ANN, BEN], ["x", "s@outside.example", "y"]),
        (
            ["x", "{user}/{domain}", "{queue_id}", "{size}", "{client_address}"],
            [ANN],
            ["x", "ann/pipe.example", "Q1", "21", "192.0.2.1"],
        ),
        (["x", "{}", "{Sender}", "{ sender }"], [ANN], ["x", "{}", "{Sender}", "{ sender }"]),
        # nothing that is named by a stranger becomes an option, or a word of its own
        (["x", "{recipient}"], [OPTION], ["x", '"-oQ/tmp/x"@pipe.example']),
        (["x", "-d{user}"], [OPTION], ["x", "-d-oQ/tmp/x"]),
        (["x", "{user}"], [Recipient(Address("a b;$(id)", "pipe.example"))], ["x", "a b;$(id)"]),
    ],
)
def test_words(command, recipients, words):
    assert fill_in(command, envelope(), BytesContent(BODY), [one.address for one in recipients]) == words


def test_senders_in_words():
    def word(sender):
        return fill_in(["{sender}"], envelope(sender), BytesContent(BODY), [ANN.address])[0]

    assert word(NULL_SENDER) == "<>"
    assert word(Address("-f", "x.example")) == '"-f"@x.example'


def test_a_name_that_would_be_an_option():
    with pytest.raises(ValueError, match="option"):
        fill_in(["x", "{user}"], envelope(), BytesContent(BODY), [OPTION.address])


class PipeTest(TestCase):
    timeout = 30

    def setUp(self):
        self.dir = Path(mkdtemp())
        self.dir.chmod(0o777)

    def command(self, text, *words):
        """A Python program; ``out`` is a directory of its own."""
        path = self.dir / "script.py"
        path.write_text(
            f"import os, sys, time, signal\nout = {str(self.dir)!r}\nmail = sys.stdin.buffer.read()\n{text}\n"
        )
        return (sys.executable, "-S", str(path), *words)

    async def given(self, pipe, *recipients, sender=None):
        courier = PipeCourier(pipe, Programs(reactor, reactor))
        verifyObject(ICourier, courier)
        return await courier.deliver(envelope(sender), BytesContent(BODY), recipients or (ANN, BEN))

    SHOW = "open(f'{out}/{os.getpid()}.out', 'wb').write(repr((sys.argv[1:], dict(os.environ), mail, os.getuid(), os.getgid(), os.getgroups(), os.getcwd())).encode())"

    def shown(self):
        return sorted((eval(path.read_bytes()) for path in self.dir.glob("*.out")), key=lambda it: it[0])

    async def test_one_run_for_each_recipient(self):
        outcomes = await self.given(Pipe(self.command(self.SHOW, "{recipient}")))
        assert {type(outcome) for outcome in outcomes.values()} == {Delivered}
        first, second = self.shown()
        assert (first[0], second[0]) == (["ann@pipe.example"], ["ben@pipe.example"])
        _, environment, mail, *_, directory = first
        assert mail == (
            b"Return-Path: <s@outside.example>\nDelivered-To: ann@pipe.example\nSubject: x\n\nHello\n"
        )
        assert directory == "/"
        environment.pop("LC_CTYPE", None)
        assert environment == {
            "SENDER": "s@outside.example",
            "RECIPIENT": "ann@pipe.example",
            "ORIGINAL_RECIPIENT": "ann@pipe.example",
            "QUEUE_ID": "Q1",
            "SIZE": "21",
            "CLIENT_ADDRESS": "192.0.2.1",
            "CLIENT_HELO": "helo.example",
            "LOGIN": "",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }

    async def test_one_run_for_all(self):
        odd = Recipient(Address("a b", "pipe.example"))
        pipe = Pipe(self.command(self.SHOW, "{recipient}", "end"), each=False)
        outcomes = await self.given(pipe, ANN, odd)
        assert list(outcomes) == [ANN, odd]
        (run,) = self.shown()
        assert run[0] == ["ann@pipe.example", '"a b"@pipe.example', "end"]
        assert run[1]["RECIPIENT"] == "ann@pipe.example _a_b_@pipe.example"
        assert "ORIGINAL_RECIPIENT" not in run[1]
        assert run[2] == b"Return-Path: <s@outside.example>\nSubject: x\n\nHello\n"

    async def test_each_recipient_has_its_outcome(self):
        pipe = Pipe(self.command("sys.exit({'ann': 0, 'ben': 67}[sys.argv[1]])", "{user}"))
        outcomes = await self.given(pipe)
        assert isinstance(outcomes[ANN], Delivered)
        assert (type(outcomes[BEN]), outcomes[BEN].status) == (Failed, "5.1.1")

    async def test_its_own_words_to_the_sender(self):
        pipe = Pipe(self.command("print('5.7.26 looks like\\x1b[2J spam\\nsecret'); sys.exit(1)"), each=False)
        outcome = (await self.given(pipe))[BEN]
        assert outcome.status == "5.7.26"
        assert outcome.reply == "the program said 1: looks like [2J spam"

    async def test_a_name_that_would_be_an_option(self):
        outcomes = await self.given(Pipe(self.command(self.SHOW, "{user}")), ANN, OPTION)
        assert isinstance(outcomes[ANN], Delivered)
        assert (type(outcomes[OPTION]), outcomes[OPTION].status) == (Failed, "5.1.3")

    async def test_many_recipients_wait_for_their_turn(self):
        """A message to more than can run is late by none of them: they wait, and are not sent away."""
        many = [Recipient(address(f"u{number}@pipe.example")) for number in range(120)]
        outcomes = await self.given(Pipe(("/bin/true",), processes=4), *many)
        assert all(isinstance(outcome, Delivered) for outcome in outcomes.values())

    async def test_no_end_in_time(self):
        pipe = Pipe(
            self.command("open(f'{out}/pid', 'w').write(str(os.getpid())); time.sleep(60)"), timeout=1.0
        )
        outcomes = await self.given(pipe, ANN)
        assert isinstance(outcomes[ANN], Delayed)
        assert "in time" in outcomes[ANN].reply
        pid = int((self.dir / "pid").read_text())
        assert not runs(pid)

    async def test_at_most_so_many_at_once(self):
        text = (
            "open(f'{out}/{os.getpid()}.run', 'w').close(); running = len([n for n in os.listdir(out) if n.endswith('.run')])\n"
            "open(f'{out}/{os.getpid()}.seen', 'w').write(str(running)); time.sleep(0.2); os.unlink(f'{out}/{os.getpid()}.run')"
        )
        many = [Recipient(address(f"u{number}@pipe.example")) for number in range(6)]
        outcomes = await self.given(Pipe(self.command(text), processes=2), *many)
        assert all(isinstance(outcome, Delivered) for outcome in outcomes.values())
        seen = [int(path.read_text()) for path in self.dir.glob("*.seen")]
        assert len(seen) == 6
        assert max(seen) <= 2

    @pytest.mark.skipif(os.geteuid() != 0, reason="another user's name is taken by root only")
    async def test_as_another_user(self):
        nobody = pwd.getpwnam("nobody")
        identity = Identity("nobody", nobody.pw_uid, nobody.pw_gid, "/nonexistent")
        # A shell: the Python of the tests may be root's alone to read.
        script = 'cat >/dev/null; echo $(id -u) $(id -g) $(id -G) $HOME $USER $LOGNAME >"$0"'
        pipe = Pipe(("/bin/sh", "-c", script, f"{self.dir}/who"), identity, each=False)
        outcomes = await self.given(pipe)
        assert isinstance(outcomes[ANN], Delivered), outcomes
        uid, gid = str(nobody.pw_uid), str(nobody.pw_gid)
        said = (self.dir / "who").read_text().split()
        assert said == [uid, gid, gid, "/nonexistent", "nobody", "nobody"]

    async def test_nobody_is_cut_off_when_another_is_refused(self):
        """The runs of one message are one another's business in nothing."""
        pipe = Pipe(
            self.command(
                "time.sleep(0.1 if sys.argv[1] == 'ann' else 0); sys.exit(65 if sys.argv[1] == 'ben' else 0)",
                "{user}",
            )
        )
        outcomes = await self.given(pipe)
        assert [type(outcomes[one]) for one in (ANN, BEN)] == [Delivered, Failed]

    async def test_cancelled(self):
        pipe = Pipe(self.command("open(f'{out}/pid', 'w').write(str(os.getpid())); time.sleep(60)"))
        under_way = Deferred.fromCoroutine(self.given(pipe, ANN))
        while not (self.dir / "pid").exists() or not (self.dir / "pid").read_text():
            await deferLater(reactor, 0.01)
        pid = int((self.dir / "pid").read_text())
        under_way.cancel()
        under_way.addErrback(lambda _: None)
        while runs(pid):
            await deferLater(reactor, 0.01)

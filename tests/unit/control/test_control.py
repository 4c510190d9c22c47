"""The control socket, from both ends."""

import contextlib
import gc
import json
import socket
import stat
import warnings

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailserver.control import server
from mailserver.control.client import NoServer, Refused, ask
from mailserver.control.server import Control, Declined
from mailserver.interfaces import StorageFull
from tests.support.spooling import temporary


class ControlTests(TestCase):
    timeout = 20

    def setUp(self):
        self.path = temporary(self) / "control"
        self.interrupted = Deferred()
        self.begun = Deferred()

        async def echo(request, tell):
            tell(1)
            tell({"done": 2})
            return request["text"]

        async def decline(request, tell):
            raise Declined("no such thing")

        async def full(request, tell):
            raise StorageFull("OSError: ENOSPC")

        async def bug(request, tell):
            raise ZeroDivisionError

        async def for_ever(request, tell):
            self.begun.callback(None)
            await Deferred(lambda _: self.interrupted.callback(None))

        verbs = {"echo": echo, "decline": decline, "full": full, "bug": bug, "for ever": for_ever}
        self.control = Control(reactor, self.path, verbs)
        self.control.start()
        self.addCleanup(self.control.stop)

    def ask(self, verb, progress=None, **request):
        return deferToThread(ask, self.path, verb, request, progress)

    async def test_only_the_owner_may_connect(self):
        assert stat.S_IMODE(self.path.stat().st_mode) == 0o600

    async def test_a_verb_returns_and_tells_its_progress(self):
        told = []
        assert await self.ask("echo", told.append, text="Grüße\n") == "Grüße\n"
        assert told == [1, {"done": 2}]

    async def test_what_cannot_be_done_is_said(self):
        for verb, text in (
            ("decline", "no such thing"),
            ("full", "OSError: ENOSPC"),
            ("unknown", "not a request that this server knows; mailctl and the server differ in version?"),
            ("bug", "the server failed at this; its log says why"),
        ):
            with pytest.raises(Refused) as refused:
                await self.ask(verb)
            assert str(refused.value) == text
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    async def test_several_requests_on_one_connection_are_answered_in_order(self):
        def talk():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.path))
                for line in (b'{"verb":"echo","text":"a"}', b"no JSON", b"[]", b'{"verb":"echo","text":"b"}'):
                    connection.sendall(line + b"\n")
                file = connection.makefile("rb")
                return [json.loads(file.readline()) for _ in range(8)]

        answers = await deferToThread(talk)
        assert [next(iter(answer)) for answer in answers] == (
            ["progress", "progress", "done", "error", "error", "progress", "progress", "done"]
        )

    async def test_a_client_that_goes_away_interrupts_its_verb(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        connection.sendall(b'{"verb":"for ever"}\n')
        await self.begun
        connection.close()
        await self.interrupted

    async def test_an_endless_line_and_too_many_requests_end_the_connection(self):
        self.patch(server._Connection, "MAX_LENGTH", 1000)
        for octets in (b"x" * 2000, b'{"verb":"for ever"}\n' + b"{}\n" * 20):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.connect(str(self.path))
            connection.sendall(octets)
            with contextlib.suppress(ConnectionResetError):
                assert await deferToThread(connection.recv, 1000) == b""

    async def test_no_server_is_said(self):
        await self.control.stop()
        assert not self.path.exists()
        with pytest.raises(NoServer, match="no server listens"):
            await self.ask("echo", text="")

    async def test_a_dead_servers_socket_is_replaced(self):
        await self.control.stop()
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(self.path))
        dead.close()
        self.control.start()
        assert await self.ask("echo", text="x") == "x"

    async def test_a_socket_that_cannot_be_made_is_trouble_and_nothing_else(self):
        await self.control.stop()
        control = Control(reactor, self.path / "no" / "such", {})
        # Twisted leaves the socket it could not bind to the garbage collector.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            control.start()
            gc.collect()
        await control.stop()

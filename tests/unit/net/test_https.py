"""One file over HTTPS, from hosts that are well, wrong, slow, and without bounds."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from mailserver.interfaces import Answers, NoSuchName
from mailserver.net.https import Fetcher, NotFetched
from mailserver.net.tls import ClientTLS, Trust
from tests.support.policyhost import PolicyHost, response

reactor: Any = default_reactor
NAME, PATH = "mta-sts.example.org", "/.well-known/mta-sts.txt"
CA = trustme.CA()


class FakeResolver:
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def addresses(self, name: str) -> Answers[str]:
        if not self._addresses or name != NAME:
            raise NoSuchName(name)
        return Answers(self._addresses)


class FetcherTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        roots = self.directory / "roots.pem"
        CA.cert_pem.write_to_path(str(roots))
        self.tls = ClientTLS(Trust.PKIX, roots)

    def host(self, says: bytes | None, ca: trustme.CA = CA, name: str = NAME) -> PolicyHost:
        host = PolicyHost(reactor, ca, self.directory / name, name, says)
        self.port = host.start("127.0.0.1")
        self.addCleanup(lambda: ensureDeferred(host.stop()))
        return host

    async def fetch(self, *addresses: str, **options: Any) -> bytes:
        resolver: Any = FakeResolver(*(addresses or ("127.0.0.1",)))
        options = {"loopback": True, **options}
        return await Fetcher(reactor, resolver, self.tls, self.port, **options).fetch(NAME, PATH)

    async def refusal(self, *addresses: str, **options: Any) -> str:
        with pytest.raises(NotFetched) as caught:
            await self.fetch(*addresses, **options)
        return str(caught.value)

    async def test_what_there_is(self) -> None:
        for says in (
            response(b"here\r\n"),
            response(b"here\r\n", kind=b"Text/Plain; charset=utf-8"),
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhere\r\n\r\n0\r\n\r\n",
        ):
            host = self.host(says)
            assert await self.fetch() == b"here\r\n"
            (asked,) = host.asked
            assert asked.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
            assert f"Host: {NAME}:{self.port}\r\n".encode() in asked

    async def test_answers_that_are_no_file(self) -> None:
        for says, words in [
            (response(b"x", status=b"404 Not Found"), "HTTP status 404"),
            (response(b"", b"Location: https://elsewhere.example/", status=b"302 Found"), "HTTP status 302"),
            (response(b"x", kind=b"text/html"), "not plain text but text/html"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "not plain text but nothing"),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nperhaps cut short", ""),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\ncut short", ""),
            (b"220 mx.example.org ESMTP\r\n", ""),
            (b"", ""),
        ]:
            self.host(says)
            refusal = await self.refusal()
            assert words in refusal, (says, refusal)

    async def test_bounded(self) -> None:
        endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        for says in (
            response(b"x" * 65537),
            response(b"x" * 10_000_000),
            endless + b"X: y\r\n" * 1_000_000,
            endless + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1_000_000,
        ):
            self.host(says)
            assert NAME in await self.refusal() or says.startswith(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 65537"
            )
        self.host(response(b"x" * 65536))
        assert len(await self.fetch()) == 65536

    async def test_no_patience_for_silence(self) -> None:
        host = self.host(None)
        assert "not within 0 s" in await self.refusal(seconds=0.2)
        while host.connections:
            await turn()

    async def test_hosts_that_prove_nothing(self) -> None:
        for ca, name, words in [
            (trustme.CA(), NAME, "not trusted"),
            (CA, "elsewhere.example", f"not for {NAME}"),
        ]:
            host = self.host(response(b"forged"), ca, name)
            assert words in await self.refusal()
            assert host.asked == []

    async def test_addresses(self) -> None:
        self.host(response(b"here"))
        assert await self.fetch("127.0.0.77", "127.0.0.1") == b"here"
        assert "no address to connect to" in await self.refusal("0.0.0.0", "169.254.1.1", "224.0.0.1")
        assert "no address to connect to" in await self.refusal("127.0.0.1", loopback=False)

    async def test_no_such_host(self) -> None:
        self.port = 443
        resolver: Any = FakeResolver()
        with pytest.raises(NotFetched):
            await Fetcher(reactor, resolver, self.tls).fetch(NAME, PATH)


def turn() -> "Deferred[None]":
    """Let the reactor go round."""
    waiting: Deferred[None] = Deferred()
    callback: Callable[..., object] = waiting.callback
    reactor.callLater(0.01, callback, None)
    return waiting

"""A long search for input that a protocol object cannot stand: ``make fuzz``, not part of ``make test``.

Hypothesis makes up sessions out of commands, fragments of commands and noise, cut anywhere, and looks for one in
which something is raised or logged as a failure, a reply is no reply, a draft is left behind, or more is held
than the bounds allow; what it finds it makes as small as it can and prints. What it has found once is in
``.hypothesis/`` and is tried first the next time.

``FUZZ_EXAMPLES`` says how many sessions each test tries (20,000 if not said).
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher

from mailserver.smtp.client import Conversation, Deadlines
from mailserver.smtp.trouble import HostTrouble
from mailserver.wire.headers import HeaderSection, authserv_id, begins_with_field, count_fields, without
from mailserver.wire.smtp import BadSyntax, parse_bdat, parse_helo, parse_mail, parse_rcpt, split_command
from mailserver.wire.trace import HeaderScan, field_values
from tests.support.dialogue import MemoryWire
from tests.support.postoffice import PostOffice, fill
from tests.support.reception import Premises

long_run = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20000")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

FRAGMENTS = [
    *(b"EHLO c\r\n", b"HELO ", b"MAIL FROM:<", b"a@elsewhere.example>", b"MAIL FROM:<>", b"RCPT TO:<alice@example.lan>\r\n"),
    *(b"RCPT TO:<", b'"', b"\\", b"@", b">", b" SIZE=", b" BODY=8BITMIME", b" SMTPUTF8", b" RET=HDRS", b" ENVID=", b"+41"),
    *(b" NOTIFY=", b"NEVER", b",", b" ORCPT=rfc822;", b"DATA\r\n", b"BDAT ", b"BDAT 5\r\n", b"BDAT 7 LAST\r\n", b"0", b" LAST"),
    *(b"RSET\r\n", b"NOOP\r\n", b"VRFY ", b"HELP\r\n", b"QUIT\r\n", b"STARTTLS\r\n", b"AUTH PLAIN ", b"AUTH LOGIN\r\n", b"*\r\n"),
    *(b"=\r\n", b"AGFsaWNlAHNlY3JldA==", b"GET / HTTP/1.1\r\n", b"\r\n.\r\n", b".\r\n", b"\r\n", b"\r", b"\n", b".", b"\0", b" "),
    *(b"From: a\r\n", b"Received: x\r\n", b"Return-Path: x\r\n", b"Authentication-Results: mail.example.lan;\r\n", b"\r\n\r\n"),
    *(b"\xc3\xa9", b"\xff", b"x" * 2100, b"y" * 5000, b"\xe2\x80\xa8", b"text"),
    *(b"USER alice\r\n", b"PASS secret\r\n", b"STAT\r\n", b"LIST ", b"RETR 1\r\n", b"TOP 2 1\r\n", b"DELE ", b"UIDL\r\n", b"CAPA\r\n"),
]  # fmt: skip
HELLO = b"EHLO c\r\nMAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<alice@example.lan>\r\n"

pieces = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(FRAGMENTS), st.binary(max_size=12)), max_size=40
)
beginnings = st.sampled_from([b"", b"EHLO c\r\n", HELLO, HELLO + b"DATA\r\n", HELLO + b"BDAT 40\r\n"])
givens = st.fixed_dictionaries(
    {"relay": st.sampled_from(["yes", "no"]), "sloppy": st.sampled_from(["yes", "no"])}
)
REPLY = re.compile(rb"[2-5][0-9][0-9][ -][\x20-\x7e]*")


@contextmanager
def nothing_fails() -> Iterator[None]:
    """Raise what was logged as a failure meanwhile."""
    failures: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_failure") is not None or event["log_level"] is LogLevel.critical:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not failures, failures[0]


@given(givens, beginnings, pieces)
@long_run
def test_smtp_server(given: dict[str, str], beginning: bytes, pieces: list[bytes]) -> None:
    answers = []
    for script in ([beginning, *pieces], [beginning + b"".join(pieces)]):
        premises = Premises(given)
        wire = MemoryWire(premises.factory.buildProtocol(None), premises.client)
        with nothing_fails():
            for piece in script:
                if wire.transport.handshaking:
                    break
                wire.send(piece)
                assert len(wire.protocol._lines) <= premises.factory.bounds.pending
            answers.append(wire.transport.value())
            wire.drop()
        assert all(draft.ended for draft in premises.spool.drafts)
        assert not premises.clock.getDelayedCalls()
    for answer in answers:
        assert answer.endswith(b"\r\n")
        assert all(REPLY.fullmatch(line) for line in answer.split(b"\r\n")[:-1])
    if b"STARTTLS" not in beginning + b"".join(pieces):
        assert answers[0] == answers[1]


@given(st.booleans(), pieces)
@long_run
def test_pop3_server(logged_in: bool, pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory, nothing_fails():
        box = Path(directory)
        fill(box)
        office = PostOffice(box)
        wire = MemoryWire(office.factory.buildProtocol(None), "127.0.0.1")
        if logged_in:
            wire.send(b"USER alice\r\nPASS secret\r\n")
        for piece in pieces:
            if wire.transport.handshaking:
                break
            wire.send(piece)
        wire.drop()
        assert office.logouts == len(office.drops)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20), st.sampled_from([b"250 ", b"250-", b"354 x\r\n", b"421 x\r\n", b"\r\n"])
        )
    )
)
@long_run
def test_smtp_client(pieces: list[bytes]) -> None:
    conversation, transport = Conversation(b"c.example", None, Deadlines(), Clock(), 1e9), StringTransport()
    transport.abortConnection = lambda: None  # type: ignore[method-assign]
    conversation.makeConnection(transport)
    with nothing_fails():
        for piece in pieces:
            asked = Deferred.fromCoroutine(conversation.ask(b"NOOP", "NOOP", 10))
            asked.addErrback(lambda failure: failure.trap(HostTrouble))
            conversation.dataReceived(piece)


@given(st.one_of(st.binary(max_size=300), pieces.map(b"".join)))
@long_run
def test_grammar(data: bytes) -> None:
    verb, argument = split_command(data)
    assert verb == b"" or verb.isupper()
    for parse in (parse_mail, parse_rcpt, parse_helo, parse_bdat):
        with suppress(BadSyntax):
            parse(argument)


@given(st.one_of(st.binary(max_size=300), pieces.map(b"".join)), st.integers(1, 50))
@long_run
def test_headers(data: bytes, size: int) -> None:
    section, scan, behind = HeaderSection(200), HeaderScan(200), b""
    for at in range(0, len(data), size):
        behind += section.feed(data[at : at + size])
        scan.feed(data[at : at + size])
    header = section.take()
    assert section.overlong or header + behind == data
    assert not count_fields(without(header, "Received"), "Received")
    begins_with_field(header)
    for value in field_values(header, "Authentication-Results"):
        authserv_id(value)

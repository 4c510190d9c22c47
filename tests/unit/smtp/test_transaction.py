"""What each answer of a host means for each recipient, spoken with a scripted host, octet by octet exact."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.interfaces import IContent, StorageTrouble
from mailserver.model.address import NULL_SENDER, Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.smtp.client import Conversation, Deadlines
from mailserver.smtp.transaction import Transaction

A, B, C = (Recipient(Address(name, "example.org")) for name in "abc")
UTF8 = Recipient(Address("jürgen", "example.org"))
SENDER = Address("s", "example.lan")
BODY = b"Subject: x\r\n\r\n.hi\r\n"
STUFFED = b"Subject: x\r\n\r\n..hi\r\n.\r\n"
ALL = {name: "" for name in ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN")} | {"SIZE": "1000000"}


@implementer(IContent)
class Held:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def whole(self) -> bytes | None:
        return self._data

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


@implementer(IContent)
class OnDisk(Held):
    """Content that has to be read; by and by, when the test lets it."""

    def __init__(
        self, data: bytes, slow: bool = False, breaks_at: int = -1, ends_at: int | None = None
    ) -> None:
        super().__init__(data)
        self._slow = slow
        self._breaks_at = breaks_at
        self._ends_at = ends_at
        self.asked: list[Deferred[None]] = []

    def whole(self) -> bytes | None:
        return None

    async def read(self, offset: int, length: int) -> bytes:
        if self._slow:
            turn: Deferred[None] = Deferred()
            self.asked.append(turn)
            await turn
        if 0 <= self._breaks_at <= offset:
            raise StorageTrouble("EIO")
        return self._data[: self._ends_at][offset : offset + length]


class Line(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def envelope(sender: Address = SENDER, **more: Any) -> Envelope:
    return Envelope(QueueID("Q"), sender, (A,), Origin(), 0.0, **more)


class Play:
    """A transaction under way; the test is the host."""

    def __init__(
        self,
        recipients: Sequence[Recipient] = (A,),
        extensions: dict[str, str] | None = None,
        content: Any = None,
        mail: Envelope | None = None,
        tls: str = "",
        lmtp: bool = False,
        private: bool = False,
    ) -> None:
        self.clock = Clock()
        self.line = Line()
        self.conversation = Conversation(b"mail.example.lan", None, Deadlines(), self.clock, 1e9)
        self.conversation.makeConnection(self.line)
        self.conversation.dataReceived(b"220 mx\r\n")
        greeting = Deferred.fromCoroutine(self.conversation.answer("the connection", 1))
        assert greeting.called
        self.conversation.tls = tls
        self.conversation.lmtp = lmtp
        self.conversation.is_private = private
        self.conversation.extensions = {} if extensions is None else extensions
        self.transaction = Transaction(
            self.conversation, "mx", mail or envelope(), content or Held(BODY), recipients
        )
        self.results: list[Any] = []
        _ = Deferred.fromCoroutine(self.transaction.run()).addBoth(self.results.append)

    def heard(self) -> bytes:
        data: bytes = self.line.value()
        self.line.clear()
        return data

    def says(self, *replies: str) -> bytes:
        """Answer, and hear what comes then."""
        self.conversation.dataReceived("".join(f"{reply}\r\n" for reply in replies).encode())
        return self.heard()

    def hangs_up(self) -> None:
        self.conversation.connectionLost(Failure(ConnectionDone()))

    def outcomes(self) -> dict[Recipient, Outcome]:
        (result,) = self.results
        assert isinstance(result, dict), result
        return result


def test_all_goes_well_one_by_one() -> None:
    play = Play((A, B))
    assert play.heard() == b"MAIL FROM:<s@example.lan>\r\n"
    assert play.says("250 ok") == b"RCPT TO:<a@example.org>\r\n"
    assert play.says("250 ok") == b"RCPT TO:<b@example.org>\r\n"
    assert play.says("251 will forward") == b"DATA\r\n"
    assert play.says("354 go") == STUFFED
    assert play.says("250 2.6.0 queued as 7") == b""
    taken = Delivered("250 2.6.0 queued as 7", "2.6.0", "mx")
    assert play.outcomes() == {A: taken, B: taken}
    assert play.conversation.is_idle


def test_all_goes_well_pipelined() -> None:
    play = Play((A, B), ALL)
    assert play.heard() == (
        b"MAIL FROM:<s@example.lan> SIZE=19\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    )
    assert play.says("250 ok", "250 ok", "250 ok") == b""
    assert play.says("354 go") == STUFFED
    play.says("250 taken")
    assert play.outcomes() == dict.fromkeys((A, B), Delivered("250 taken", "2.0.0", "mx"))


@pytest.mark.parametrize(("extensions", "reports"), [(ALL, True), ({}, False)])
def test_a_host_with_dsn_reports_itself(extensions: dict[str, str], reports: bool) -> None:
    play = Play((A,), extensions)
    for reply in ("250 ok", "250 ok", "354 go", "250 taken"):
        play.says(reply)
    outcome = play.outcomes()[A]
    assert isinstance(outcome, Delivered)
    assert outcome.reports is reports


def test_two_messages_over_one_conversation() -> None:
    play = Play((A,), ALL)
    play.says("250 ok", "250 ok", "354 go")
    play.says("250 one")
    again = Transaction(play.conversation, "mx", envelope(), Held(BODY), (B,))
    second = Deferred.fromCoroutine(again.run())
    assert play.heard().endswith(b"RCPT TO:<b@example.org>\r\nDATA\r\n")
    play.says("250 ok", "250 ok", "354 go")
    play.says("250 two")
    assert second.called
    assert again.outcomes == {B: Delivered("250 two", "2.0.0", "mx")}


def test_null_sender_and_a_recipient_given_twice() -> None:
    play = Play((A, A), mail=envelope(NULL_SENDER))
    assert play.heard() == b"MAIL FROM:<>\r\n"
    assert play.says("250 ok") == b"RCPT TO:<a@example.org>\r\n"
    assert play.says("250 ok") == b"DATA\r\n"


def test_empty_message() -> None:
    play = Play(content=Held(b""))
    play.says("250 ok")
    play.says("250 ok")
    assert play.says("354 go") == b".\r\n"


# --- MAIL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("451 4.3.0 later", Delayed(Scope.MESSAGE, "451 4.3.0 later", "4.3.0", "mx", 451)),
        ("550 5.7.1 not from you", Failed(Scope.MESSAGE, "550 5.7.1 not from you", "5.7.1", "mx", 550)),
        ("421 4.3.2 bye", Delayed(Scope.HOST, "421 4.3.2 bye", "4.3.2", "mx", 421)),
        (
            "354 what?",
            Delayed(Scope.HOST, "the host makes no sense: 354 what?", "4.5.0", "mx"),
        ),
    ],
)
@pytest.mark.parametrize("extensions", [{}, ALL])
def test_mail_refused(reply: str, outcome: Outcome, extensions: dict[str, str]) -> None:
    play = Play((A, B), extensions)
    rest = ("503 MAIL first", "503 MAIL first", "503 RCPT first") if extensions else ()
    play.says(reply, *rest)
    assert play.outcomes() == {A: outcome, B: outcome}


# --- RCPT ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [{}, ALL])
def test_partial_acceptance(extensions: dict[str, str]) -> None:
    play = Play((A, B, C), extensions)
    for reply in ("250 ok", "250 ok", "450 4.2.1 greylisted", "550 5.1.1 nobody", "354 go"):
        play.says(reply)
    play.says("250 taken")
    assert play.outcomes() == {
        A: Delivered("250 taken", "2.0.0", "mx"),
        B: Delayed(Scope.RECIPIENT, "450 4.2.1 greylisted", "4.2.1", "mx", 450),
        C: Failed(Scope.RECIPIENT, "550 5.1.1 nobody", "5.1.1", "mx", 550),
    }


def test_nobody_accepted_ends_without_data() -> None:
    play = Play((A, B))
    play.says("250 ok")
    play.says("550 5.1.1 no")
    assert play.says("450 4.2.1 later") == b""
    assert [type(outcome) for outcome in play.outcomes().values()] == [Failed, Delayed]


def test_nobody_accepted_and_data_refused_pipelined() -> None:
    play = Play((A,), ALL)
    assert play.says("250 ok", "550 5.1.1 no", "554 5.5.1 no valid recipients").endswith(b"DATA\r\n")
    assert play.outcomes() == {A: Failed(Scope.RECIPIENT, "550 5.1.1 no", "5.1.1", "mx", 550)}
    assert play.conversation.is_idle


@pytest.mark.parametrize("end", ["554 no valid recipients", "250 whatever"])
def test_nobody_accepted_and_354_all_the_same(end: str) -> None:
    play = Play((A,), ALL)
    play.heard()
    assert play.says("250 ok", "550 5.1.1 no", "354 go") == b".\r\n"
    play.says(end)
    assert play.outcomes() == {A: Failed(Scope.RECIPIENT, "550 5.1.1 no", "5.1.1", "mx", 550)}
    assert play.conversation.is_idle


def test_nobody_accepted_and_lost_behind_the_lone_dot() -> None:
    play = Play((A,), ALL)
    play.says("250 ok", "550 5.1.1 no", "354 go")
    play.hangs_up()
    assert play.outcomes() == {A: Failed(Scope.RECIPIENT, "550 5.1.1 no", "5.1.1", "mx", 550)}


def test_mail_refused_but_all_the_rest_taken() -> None:
    """A dot would hand an empty message to somebody."""
    play = Play((A,), ALL)
    play.heard()
    assert play.says("451 no", "250 ok", "354 go") == b""
    assert play.line.aborted
    assert play.outcomes() == {A: Delayed(Scope.MESSAGE, "451 no", "4.0.0", "mx", 451)}


@pytest.mark.parametrize("extensions", [{}, ALL])
def test_421_among_recipients(extensions: dict[str, str]) -> None:
    play = Play((A, B, C), extensions)
    for reply in ("250 ok", "550 5.1.1 nobody", "421 4.7.0 enough"):
        play.says(reply)
    play.hangs_up()
    closing = Delayed(Scope.HOST, "421 4.7.0 enough", "4.7.0", "mx", 421)
    assert play.outcomes() == {
        A: Failed(Scope.RECIPIENT, "550 5.1.1 nobody", "5.1.1", "mx", 550),
        B: closing,
        C: closing,
    }


@pytest.mark.parametrize("refusal", ["452 4.5.3 too many", "552 5.5.3 too many", "552 too many"])
def test_too_many_recipients_for_one_transaction(refusal: str) -> None:
    play = Play((A, B, C), ALL)
    play.says("250 ok", "250 ok", refusal, refusal, "354 go")
    play.says("250 taken")
    assert play.outcomes()[A] == Delivered("250 taken", "2.0.0", "mx")
    assert play.outcomes()[B] == Delayed(Scope.RECIPIENT, refusal, "4.5.3", "mx", int(refusal[:3]))
    assert play.transaction.surplus == [B, C]


def test_552_to_the_first_is_a_refusal() -> None:
    play = Play((A,))
    play.says("250 ok")
    play.says("552 5.2.2 mailbox full")
    assert play.outcomes() == {A: Failed(Scope.RECIPIENT, "552 5.2.2 mailbox full", "5.2.2", "mx", 552)}


def test_452_for_another_reason_is_no_surplus() -> None:
    play = Play((A, B), ALL)
    play.says("250 ok", "250 ok", "452 4.2.2 full", "354 go")
    play.says("250 taken")
    assert play.outcomes()[B] == Delayed(Scope.RECIPIENT, "452 4.2.2 full", "4.2.2", "mx", 452)
    assert play.transaction.surplus == []


# --- DATA, content, dot ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "scope", "code"),
    [
        ("451 4.3.0 later", Delayed, Scope.MESSAGE, 451),
        ("554 5.7.1 spam", Failed, Scope.MESSAGE, 554),
        ("421 bye", Delayed, Scope.HOST, 421),
        ("250 ok?", Delayed, Scope.HOST, 0),
        ("334 go?", Delayed, Scope.HOST, 0),
    ],
)
@pytest.mark.parametrize("extensions", [{}, ALL])
def test_data_refused(reply: str, kind: type, scope: Scope, code: int, extensions: dict[str, str]) -> None:
    play = Play((A,), extensions)
    for answer in ("250 ok", "250 ok", reply):
        play.says(answer)
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope, outcome.code) == (kind, scope, code)
    assert play.heard() == b""


@pytest.mark.parametrize(
    ("reply", "kind", "scope"),
    [
        ("451 4.3.0 later", Delayed, Scope.MESSAGE),
        ("421 4.3.2 closing", Delayed, Scope.MESSAGE),
        ("552 5.3.4 too big", Failed, Scope.MESSAGE),
        ("354 more?", Delayed, Scope.DOUBT),
        ("nonsense", Delayed, Scope.DOUBT),
    ],
)
def test_answers_to_the_dot(reply: str, kind: type, scope: Scope) -> None:
    play = Play((A,), ALL)
    play.says("250 ok", "250 ok", "354 go")
    play.says(reply)
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope) == (kind, scope)


def test_lost_or_silent_after_the_dot_is_doubt() -> None:
    for happening in (Play.hangs_up, lambda play: play.clock.advance(601)):
        play = Play((A, B), ALL)
        play.says("250 ok", "250 ok", "550 5.1.1 no", "354 go")
        happening(play)
        outcome: Any = play.outcomes()[A]
        assert outcome.scope is Scope.DOUBT
        assert outcome.reply.startswith("after the final dot: ")
        assert play.outcomes()[B] == Failed(Scope.RECIPIENT, "550 5.1.1 no", "5.1.1", "mx", 550)


def test_answered_and_closed_in_one_segment() -> None:
    play = Play((A,), ALL)
    play.says("250 ok", "250 ok", "354 go")
    play.says("250 taken", "421 closing")
    assert play.outcomes() == {A: Delivered("250 taken", "2.0.0", "mx")}
    assert not play.conversation.is_idle


@pytest.mark.parametrize("replies", range(4))
@pytest.mark.parametrize("extensions", [{}, ALL])
@pytest.mark.parametrize("stalls", [False, True])
def test_dropped_or_stalled_before_the_dot(replies: int, extensions: dict[str, str], stalls: bool) -> None:
    """After none, one, two and three answers; then in the midst of the content."""
    content = OnDisk(BODY, slow=True)
    play = Play((A,), extensions, content)
    for reply in ("250 ok", "250 ok", "354 go")[:replies]:
        play.says(reply)
    if replies == 3:
        # The content is being read; what has happened shows when the first piece is to go out.
        play.conversation.pauseProducing()
    if stalls and replies < 3:
        play.clock.advance(301)
    else:
        play.hangs_up()
    for turn in content.asked:
        turn.callback(None)
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope, outcome.status) == (Delayed, Scope.HOST, "4.4.2")
    assert not play.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("reply", "kind", "scope"),
    [
        ("552 5.3.4 too big", Failed, Scope.MESSAGE),
        ("451 4.3.1 disk full", Delayed, Scope.MESSAGE),
        ("421 4.3.2 closing", Delayed, Scope.HOST),
        ("250 thank you", Delayed, Scope.HOST),
        ("nonsense", Delayed, Scope.HOST),
    ],
)
def test_a_reply_in_the_midst_of_the_content(reply: str, kind: type, scope: Scope) -> None:
    content = OnDisk(b"x" * 70 * 1024 + b"\r\n", slow=True)
    play = Play((A,), {}, content)
    for answer in ("250 ok", "250 ok", "354 go"):
        play.says(answer)
    content.asked.pop().callback(None)
    assert len(play.heard()) == 64 * 1024
    assert play.says(reply) == b""
    assert play.line.aborted
    content.asked.pop().callback(None)
    assert play.heard() == b""  # no dot, no RSET, nothing
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope) == (kind, scope)


@pytest.mark.parametrize(
    "content", [OnDisk(b"x" * 200_000, breaks_at=65536), OnDisk(b"x" * 200_000, ends_at=65536)]
)
def test_content_that_cannot_be_read_to_its_end(content: OnDisk) -> None:
    play = Play((A,), {}, content)
    for answer in ("250 ok", "250 ok", "354 go"):
        play.says(answer)
    assert play.line.aborted
    assert b".\r\n" not in play.heard()
    assert play.outcomes() == {A: Delayed(Scope.MESSAGE, "content cannot be read now", "4.3.0", "mx")}


def test_content_waits_for_the_host() -> None:
    play = Play((A,), {}, Held(b"y" * 300_000 + b"\r\n"))
    play.says("250 ok")
    play.says("250 ok")
    play.conversation.pauseProducing()
    assert len(play.says("354 go")) == 64 * 1024
    for _ in range(3):
        play.conversation.resumeProducing()
    play.says("250 taken")
    assert isinstance(play.outcomes()[A], Delivered)


@given(st.lists(st.sampled_from([b".", b"\r\n", b"..", b"a", b"\r\n.\r\n", b"x" * 65535, b"y" * 65530])))
def test_stuffing_over_the_borders_of_chunks(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    play = Play((A,), {}, OnDisk(data))
    for answer in ("250 ok", "250 ok"):
        play.says(answer)
    wire = play.says("354 go")
    content, end, rest = (b"\r\n" + wire).partition(b"\r\n.\r\n")
    assert (end, rest) == (b"\r\n.\r\n", b"")
    received = (content + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]
    assert received == (data if data.endswith(b"\r\n") or not data else data + b"\r\n")


# --- extensions ------------------------------------------------------------------------------------------


def test_parameters_where_offered() -> None:
    recipient = Recipient(A.address, "rfc822;alias+x@example.org", frozenset({"DELAY", "FAILURE"}))
    mail = envelope(body="8BITMIME", smtputf8=True, ret="HDRS", envid="a=b c")
    play = Play((recipient,), ALL, mail=mail)
    assert play.heard() == (
        b"MAIL FROM:<s@example.lan> SIZE=19 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+3Db+20c\r\n"
        b"RCPT TO:<a@example.org> NOTIFY=DELAY,FAILURE ORCPT=rfc822;alias+2Bx@example.org\r\nDATA\r\n"
    )


def test_no_parameters_where_not_offered() -> None:
    recipient = Recipient(A.address, "rfc822;alias@example.org", frozenset({"NEVER"}))
    mail = envelope(body="8BITMIME", smtputf8=True, ret="HDRS", envid="1")
    play = Play((recipient,), {}, mail=mail)
    assert play.heard() == b"MAIL FROM:<s@example.lan>\r\n"
    assert play.says("250 ok") == b"RCPT TO:<a@example.org>\r\n"


@pytest.mark.parametrize("size", ["18", "1"])
def test_larger_than_the_host_takes(size: str) -> None:
    play = Play((A,), {"SIZE": size})
    assert play.heard() == b""
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope, outcome.status, outcome.code) == (Failed, Scope.MESSAGE, "5.3.4", 0)


@pytest.mark.parametrize("size", ["", "0", "19", "-1", "x", "9" * 30, "١"])
def test_size_that_forbids_nothing(size: str) -> None:
    assert Play((A,), {"SIZE": size}).heard() == b"MAIL FROM:<s@example.lan> SIZE=19\r\n"


@pytest.mark.parametrize(
    ("mail", "content"),
    [
        (envelope(Address("jürgen", "example.lan"), smtputf8=True), Held(BODY)),
        (envelope(smtputf8=True), Held("Subject: ü\r\n\r\nx\r\n".encode())),
        (envelope(smtputf8=True), OnDisk(b"A: " + b"x" * 65536 + "ü\r\n\r\nx\r\n".encode())),
    ],
)
def test_message_that_needs_utf8_where_it_is_not_offered(mail: Envelope, content: Any) -> None:
    play = Play((A, B), {}, content, mail)
    assert play.heard() == b""
    for outcome in play.outcomes().values():
        assert isinstance(outcome, Failed)
        assert (outcome.scope, outcome.status) == (Scope.MESSAGE, "5.6.7")


@pytest.mark.parametrize("content", [Held("A: x\r\n\r\nü\r\n".encode()), Held(b"no header end"), Held(b"")])
def test_message_that_asked_for_utf8_and_does_not_need_it(content: Any) -> None:
    play = Play((A,), {}, content, envelope(smtputf8=True))
    assert play.heard() == b"MAIL FROM:<s@example.lan>\r\n"


def test_recipient_that_needs_utf8_where_it_is_not_offered() -> None:
    play = Play((UTF8, A), {})
    play.says("250 ok")
    play.says("250 ok")
    play.says("354 go")
    play.says("250 taken")
    assert isinstance(play.outcomes()[A], Delivered)
    assert play.outcomes()[UTF8] == Failed(Scope.RECIPIENT, "no SMTPUTF8 there", "5.6.7", "mx")


def test_recipient_that_needs_utf8() -> None:
    play = Play((UTF8,), {"SMTPUTF8": ""})
    assert play.heard() == b"MAIL FROM:<s@example.lan> SMTPUTF8\r\n"
    assert play.says("250 ok") == "RCPT TO:<jürgen@example.org>\r\n".encode()


@pytest.mark.parametrize("local", ["a\r\nDATA", "a\nb", "a\0b", "a\x7f"])
def test_addresses_that_would_be_commands(local: str) -> None:
    evil = Recipient(Address(local, "example.org"))
    play = Play((evil, A), ALL)
    assert play.heard().count(b"\r\n") == 3
    play.says("250 ok", "250 ok", "354 go")
    play.says("250 taken")
    assert play.outcomes()[evil] == Failed(Scope.RECIPIENT, "address cannot be sent", "5.1.3", "mx")
    assert isinstance(play.outcomes()[A], Delivered)
    play = Play((A,), ALL, mail=envelope(Address(local, "example.lan")))
    assert play.heard() == b""
    outcome: Any = play.outcomes()[A]
    assert outcome.status == "5.1.7"


def test_requiretls_is_said_where_it_is_kept() -> None:
    play = Play(extensions={"REQUIRETLS": ""}, mail=envelope(requiretls=True), tls="TLSv1.3 X")
    assert play.heard() == b"MAIL FROM:<s@example.lan> REQUIRETLS\r\n"


@pytest.mark.parametrize(("extensions", "tls"), [({}, "TLSv1.3 X"), ({"REQUIRETLS": ""}, "")])
def test_requiretls_passes_over_a_host_without(extensions: dict[str, str], tls: str) -> None:
    play = Play(extensions=extensions, mail=envelope(requiretls=True), tls=tls)
    assert play.heard() == b""
    outcome: Any = play.outcomes()[A]
    assert (type(outcome), outcome.scope, outcome.status) == (Failed, Scope.HOST, "5.7.30")


def test_eight_bits_are_not_sent_to_a_host_that_has_seven() -> None:
    for data, offered, outcome in [
        (b"Subject: x\r\n\r\n\xe9\r\n", {}, Failed),
        (b"Subject: x\r\n\r\nx\r\n", {}, None),
        (b"Subject: x\r\n\r\n\xe9\r\n", {"8BITMIME": ""}, None),
    ]:
        play = Play((A,), offered, Held(data), envelope(body="8BITMIME"))
        if outcome is None:
            assert b"MAIL FROM" in play.heard()
        else:
            assert play.outcomes()[A].status == "5.6.3"
